"""Unpacking layers while the archive that they are in still comes in.

Nobody knows yet which image a layer is of, at what place and with what digest; none of that is needed to unpack it. What turns
out to be no layer, or not the one that its image says, is thrown away, and then found out about in the ordinary way.
"""

from __future__ import annotations

import logging
import threading
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Self

from boxshipd.images.archive.names import digest_of_path
from boxshipd.images.assembly import Assembly, Prepared, Stores
from boxshipd.images.errors import HostileOrBroken
from boxshipd.images.unpack.compression import detect
from boxshipd.images.unpack.layer import unpack_stream

logger = logging.getLogger(__name__)

_AHEAD = 8
_SIDE_BY_SIDE = 3
# Below this it isn't worth a thread.
_LEAST = 64 * 1024
_MAGIC = slice(257, 262)
_WAIT = 0.1


class Preparation:
    """The layers of one archive that are being unpacked. A context manager; at its end no thread is left."""

    def __init__(self, stores: Stores, assembly: Assembly) -> None:
        self._stores = stores
        self._assembly = assembly
        self._layers: list[Layer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for layer in self._layers:
            layer.stop()

    def layer(self, name: str, size: int) -> Layer:
        """What the archive's next file is written to as well. It decides itself whether it is a layer."""
        running = [layer for layer in self._layers if layer.running]
        # No more at a time than there is memory and processors for; the oldest is likely to be the next to end.
        if len(running) >= _SIDE_BY_SIDE:
            running[0].join()
        self._layers = [layer for layer in self._layers if layer.running]
        known = self._stores.catalogue.has_layer(digest_of_path(name))
        layer = Layer(self._stores, self._assembly, wanted=size >= _LEAST and not known)
        self._layers.append(layer)
        return layer

    def wait(self) -> None:
        """Until everything that was written is unpacked."""
        for layer in self._layers:
            layer.join()


class Layer:
    """One file of the archive, unpacked by a thread if it begins as a layer does."""

    def __init__(self, stores: Stores, assembly: Assembly, *, wanted: bool) -> None:
        self._stores = stores
        self._assembly = assembly
        self._undecided = wanted
        self._queue: Queue[bytes | memoryview] = Queue(_AHEAD)
        self._digest = ""
        self._stopped = False
        self._rest: memoryview = memoryview(b"")
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether its thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    def write(self, piece: memoryview) -> None:
        """Another piece, which must not change any more."""
        if self._undecided:
            self._undecided = False
            head = bytes(piece[:512])
            if detect(head) or head[_MAGIC] == b"ustar":
                self._thread = threading.Thread(target=self._run, name="layer", daemon=True)
                self._thread.start()
        self._put(piece)

    def finish(self, digest: str) -> None:
        """That was all of it; its digest."""
        self._digest = digest
        self._put(b"")

    def stop(self) -> None:
        """Give up what isn't finished; returns when the thread has ended."""
        self._stopped = True
        self.join()

    def join(self) -> None:
        """Wait for the thread's end."""
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.stop()

    def read(self, size: int, /) -> bytes:
        """On the thread: the next bytes.

        Raises:
            HostileOrBroken: the archive ended early, or was given up.
        """
        while not self._rest:
            if self._stopped:
                raise HostileOrBroken("the archive was given up")
            # Whoever gives up doesn't write any more: so this looks again from time to time.
            try:
                self._rest = memoryview(self._queue.get(timeout=_WAIT))
            except Empty:
                continue
            if not self._rest:
                self._rest = memoryview(b"")
                return b""
        out, self._rest = self._rest[:size], self._rest[size:]
        return bytes(out)

    def _put(self, piece: bytes | memoryview) -> None:
        while self.running:
            try:
                self._queue.put(piece, timeout=_WAIT)
            except Full:
                continue
            return

    def _run(self) -> None:
        unpacking = self._stores.snapshots.unpacking()
        try:
            unpacked = unpack_stream(self, unpacking.root, lowest=False, digest=self._told, limits=self._stores.limits)
        except (HostileOrBroken, OSError) as error:
            logger.debug("a file of an archive of images isn't a layer that can be unpacked: %s", error)
            unpacking.discard()
        except BaseException:
            unpacking.discard()
            raise
        else:
            self._assembly.prepared[self._digest] = Prepared(unpacking, unpacked)

    def _told(self) -> str:
        """The digest, once all has been read: it was told before the end was."""
        return self._digest
