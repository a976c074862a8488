"""What was fetched from the network, kept so that the next build only has to ask whether it has changed.

Each is a directory by a key. It isn't part of the build cache: it may go at any time, and is then fetched again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable

from boxshipd.builder.trees.directory import DirectoryTree
from boxshipd.images.unpack.removal import remove_tree

LIMIT = 4 << 30
"""Bytes that are kept at most, beside what is in use; what wasn't used for longest goes first."""

_NEW = "new-"


class Fetched:
    """Directories below one of its own, which is made where missing. Its methods block, and may be called from any thread.

    Args:
        root: that directory.
        limit: bytes to be kept at most.
    """

    def __init__(self, root: str, limit: int = LIMIT) -> None:
        self._root = root
        self._limit = limit
        self._lock = threading.Lock()
        self._used: Counter[str] = Counter()
        os.makedirs(root, mode=0o700, exist_ok=True)
        for name in os.listdir(root):
            if name.startswith(_NEW):
                remove_tree(os.path.join(root, name))

    def new(self) -> str:
        """A directory to fetch something into: ``keep`` it or remove it."""
        return tempfile.mkdtemp(prefix=_NEW, dir=self._root)

    def find(self, key: str) -> str | None:
        """The directory of a key, which stays until it is given back; None where there is none."""
        path = os.path.join(self._root, key)
        with self._lock:
            try:
                os.utime(path)
            except FileNotFoundError:
                return None
            self._used[key] += 1
        return path

    def keep(self, new: str, key: str, *, replace: bool = False) -> str:
        """Make a new directory that of a key; as ``find``.

        Args:
            new: what ``new`` has given; it is complete.
            key: the key: the name of a file.
            replace: it is newer than what is there; else what is there is as good, and stays.
        """
        path = os.path.join(self._root, key)
        with self._lock:
            aside = ""
            if os.path.isdir(path):
                aside = tempfile.mkdtemp(prefix=_NEW, dir=self._root)
                os.rename(path if replace else new, f"{aside}/gone")
            if not aside or replace:
                os.rename(new, path)
            os.utime(path)
            self._used[key] += 1
        if aside:
            remove_tree(aside)
        self._make_room()
        return path

    def give_back(self, key: str) -> None:
        """It isn't used any more."""
        with self._lock:
            self._used[key] -= 1
            if not self._used[key]:
                del self._used[key]

    def _make_room(self) -> None:
        kept = []
        for name in os.listdir(self._root):
            path = os.path.join(self._root, name)
            with contextlib.suppress(FileNotFoundError):
                if not name.startswith(_NEW):
                    kept.append((os.stat(path).st_mtime_ns, name, _size(path)))
        excess = sum(size for _, _, size in kept) - self._limit
        for _, name, size in sorted(kept):
            if excess <= 0:
                return
            if self._drop(name):
                excess -= size

    def _drop(self, name: str) -> bool:
        aside = tempfile.mkdtemp(prefix=_NEW, dir=self._root)
        with self._lock:
            dropped = name not in self._used
            if dropped:
                os.rename(os.path.join(self._root, name), f"{aside}/gone")
        remove_tree(aside)
        return dropped


class FetchedTree(DirectoryTree):
    """A directory that is in use, or a part of it.

    Args:
        path: the directory.
        release: called when the tree is closed.
        remove: as with any directory.
    """

    def __init__(self, path: str, release: Callable[[], None], *, remove: str = "") -> None:
        super().__init__(path, remove=remove)
        self._release: Callable[[], None] | None = release

    def close(self) -> None:
        """As the base's. Idempotent."""
        super().close()
        release, self._release = self._release, None
        if release is not None:
            release()


def _size(path: str) -> int:
    total = 0
    for top, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(top, name)).st_blocks * 512
    return total
