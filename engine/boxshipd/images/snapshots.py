"""Snapshots: unpacked layers as overlay directories, one for each chain id, shared by all images that have the chain.

A snapshot is unpacked into a directory of another name and renamed when complete, so that a chain id's directory is always
whole. Layers of an image are unpacked side by side, since what a layer becomes hardly depends on those below it. As with
blobs, a snapshot stays while it is pinned or named by the database, and what a crash leaves is removed at the next start.
"""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Collection, Iterable

from boxshipd.images.digest import parse_digest
from boxshipd.images.unpack.removal import remove_tree

_MODE = 0o710
_UNFINISHED = "unpacking-"
_REMOVED = "removing-"

_libc = ctypes.CDLL(None, use_errno=True)


class Unpacking:
    """A snapshot in the making, until ``publish`` or ``discard``.

    Attributes:
        root: the directory to unpack into.
    """

    def __init__(self, directory: str) -> None:
        self._work = tempfile.mkdtemp(prefix=_UNFINISHED, dir=directory)
        self.root = os.path.join(self._work, "fs")
        os.chmod(self._work, _MODE)
        os.mkdir(self.root, 0o755)

    def publish(self, place: str) -> None:
        """Move it to its place. Where somebody else was first, theirs is the same, and this one is removed."""
        try:
            os.rename(self._work, place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self.discard()

    def discard(self) -> None:
        """Remove it. Idempotent, and nothing once it is published."""
        remove_tree(self._work)


class SnapshotStore:
    """Snapshots below a directory, which is made where missing. Its methods may be called from any thread."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._pins: Counter[str] = Counter()
        os.makedirs(root, mode=_MODE, exist_ok=True)
        os.chmod(root, _MODE)

    def path(self, chain_id: str) -> str:
        """The overlay directory of a chain id."""
        return os.path.join(self.root, parse_digest(chain_id).hex, "fs")

    def claim(self, chain_id: str) -> bool:
        """Pin a snapshot; whether it is there."""
        with self._lock:
            self._pins[chain_id] += 1
            return os.path.isdir(self.path(chain_id))

    def unpin(self, chain_ids: Iterable[str]) -> None:
        """Take back as many claims."""
        with self._lock:
            self._pins.subtract(chain_ids)
            for chain_id in [chain_id for chain_id, count in self._pins.items() if count <= 0]:
                del self._pins[chain_id]

    def unpacking(self) -> Unpacking:
        """An empty directory to unpack a layer into."""
        return Unpacking(self.root)

    def publish(self, unpacking: Unpacking, chain_id: str) -> None:
        """Make an unpacked layer the snapshot of a chain id."""
        unpacking.publish(os.path.dirname(self.path(chain_id)))

    def sync(self) -> None:
        """Put all that was unpacked on the disk: one call for any number of files.

        Raises:
            OSError: the disk has failed.
        """
        sync_file_system(self.root)

    def discard(self, chain_id: str) -> None:
        """Remove a snapshot that nothing names any more, unless it is pinned."""
        path = os.path.dirname(self.path(chain_id))
        work = os.path.join(self.root, f"{_REMOVED}{os.path.basename(path)}")
        with self._lock:
            if chain_id in self._pins:
                return
            try:
                os.rename(path, work)
            except FileNotFoundError:
                return
        remove_tree(work)

    def chains(self) -> set[str]:
        """The chain ids of all snapshots that there are."""
        return {f"sha256:{name}" for name in os.listdir(self.root) if not name.startswith((_UNFINISHED, _REMOVED))}

    def sweep(self, named: Collection[str]) -> None:
        """At start: remove unfinished snapshots and those that nothing names."""
        keep = {parse_digest(chain_id).hex for chain_id in named}
        for name in os.listdir(self.root):
            if name not in keep:
                remove_tree(os.path.join(self.root, name))


def sync_file_system(path: str) -> None:
    """Put everything on the file system of a directory on the disk.

    Raises:
        OSError: the disk has failed.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), f"syncfs {path}")
    finally:
        os.close(fd)
