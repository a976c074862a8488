"""Unpacking a layer while its blob comes in.

Nothing of it counts before the blob's digest has been verified: until then it is a directory that nobody knows. What was
unpacked is taken for the layer by the digest of what was unpacked, worked out on the way, so that it is right whatever became
of the bytes meanwhile.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from boxshipd.images.assembly import Assembly, Prepared, Stores
from boxshipd.images.errors import HostileOrBroken
from boxshipd.images.ingest import Ingest
from boxshipd.images.unpack.layer import unpack_stream
from boxshipd.images.workers import Cancelled

logger = logging.getLogger(__name__)

LEAST = 1 << 20
"""The size of a blob from which it is worth a thread."""


class Arriving:
    """A blob on its way in, as far as it has come without a gap. It is read by one thread.

    Args:
        ingest: where it comes in.
        moved: told, on that thread, how much has been read of a blob all of which is there; it may raise to end the work.
    """

    def __init__(self, ingest: Ingest, moved: Callable[[int], None]) -> None:
        self._size = ingest.size
        self._moved = moved
        self._changed = threading.Condition()
        self._there = 0
        self._given_up = False
        self._position = 0
        self._fd = os.open(ingest.path, os.O_RDONLY | os.O_CLOEXEC)

    def grown(self, there: int) -> None:
        """So many bytes have been written from the beginning without a gap."""
        with self._changed:
            self._there = there
            self._changed.notify()

    def give_up(self) -> None:
        """There is nothing more to come."""
        with self._changed:
            self._given_up = True
            self._changed.notify()

    def read(self, size: int, /) -> bytes:
        """The next bytes, as soon as they are there.

        Raises:
            Cancelled: the blob was given up.
        """
        with self._changed:
            while not self._given_up and self._position >= self._there and self._position < self._size:
                self._changed.wait()
            if self._given_up:
                raise Cancelled
            there = self._there
        data = os.pread(self._fd, min(size, there - self._position), self._position)
        if not data and self._position < self._size:
            # It was thrown away, as it was wrong.
            raise Cancelled
        self._position += len(data)
        if there == self._size:
            self._moved(self._position)
        return data

    def close(self) -> None:
        """Let go of the file. No thread may be reading."""
        os.close(self._fd)


def unpack(stores: Stores, assembly: Assembly, digest: str, arriving: Arriving) -> None:
    """On a thread: unpack a blob as it arrives, for a build of this assembly to take.

    What can't be unpacked so is left for the build to find out about in the ordinary way.

    Args:
        stores: where to.
        assembly: what it is a part of.
        digest: the blob's digest.
        arriving: the blob.
    """
    unpacking = stores.snapshots.unpacking()
    try:
        unpacked = unpack_stream(arriving, unpacking.root, lowest=False, limits=stores.limits)
    except (Cancelled, HostileOrBroken, OSError) as error:
        logger.debug("layer %s wasn't unpacked while it came in: %r", digest, error)
        unpacking.discard()
    except BaseException:
        unpacking.discard()
        raise
    else:
        assembly.prepared[digest] = Prepared(unpacking, unpacked)
