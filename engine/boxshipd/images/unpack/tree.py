"""A directory tree being written, which nothing can be written outside of.

Every path is opened from the root's descriptor by ``openat2`` with ``RESOLVE_IN_ROOT``, and what is made in a directory is
made through that directory's descriptor without following a link at the last step. So neither ``..``, nor absolute names,
nor links that the archive itself has made, lead anywhere else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from boxrun.linux.files import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, openat2

from boxshipd.images.errors import InvalidArchive

OPAQUE = "trusted.overlay.opaque"
_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CACHED = 128
_ATTEMPTS = 64
_DEFAULT_MODE = 0o755
_WHITEOUT = os.makedev(0, 0)


class Tree:
    """A tree below a root directory.

    Args:
        root: the directory's path.
        parents: the directories of the layers below, topmost first; parents that an archive doesn't have take their owner
            and mode from there.
        anchor: a descriptor of a root above ``root``, which stays the caller's: ``root`` is a path in there then, links on the
            way lead to places in there, and what is mounted in there is part of it.
    """

    def __init__(self, root: str, parents: Sequence[str] = (), *, anchor: int | None = None) -> None:
        self._parents: list[int] = []
        self._anchor = anchor
        self._base = os.fsencode(root).rstrip(b"/") + b"/"
        self.root = os.open(root, _DIRECTORY) if anchor is None else _open_below(anchor, self._base, _RESOLVE)
        self._cache: OrderedDict[bytes, int] = OrderedDict()
        # Dropped from the cache, but perhaps still in use by the operation under way.
        self._stale: list[int] = []
        try:
            for parent in parents:
                self._parents.append(os.open(parent, _DIRECTORY))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every descriptor. Idempotent."""
        self.forget()
        self.settle()
        for fd in self._parents:
            os.close(fd)
        self._parents.clear()
        if self.root >= 0:
            os.close(self.root)
            self.root = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def forget(self) -> None:
        """Drop the cache: needed whenever something that may be a directory, or a part of a path to one, goes away."""
        self._stale.extend(self._cache.values())
        self._cache.clear()

    def settle(self) -> None:
        """Close what was dropped; called between operations, when nobody holds a descriptor of ours."""
        while self._stale:
            os.close(self._stale.pop())

    def directory(self, path: bytes) -> int:
        """A descriptor of the directory at ``path``, made with its parents where missing. It stays this object's.

        Raises:
            InvalidArchive: something on the way isn't a directory.
        """
        fd = self._cached(path)
        if fd is not None:
            return fd
        try:
            return self.remember(path, self._open(path))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise InvalidArchive(f"archive path {path!r}: {os.strerror(error.errno or 0)}") from error
        above: list[bytes] = []
        names = path.split(b"/")
        for name in names:
            fd = self._implied(b"/".join(above), name)
            above.append(name)
        return self.directory(path) if fd is None else fd

    def existing(self, path: bytes) -> int:
        """A descriptor of the directory at ``path``, which must exist. It stays this object's.

        Raises:
            OSError: it doesn't.
        """
        fd = self._cached(path)
        return fd if fd is not None else self.remember(path, self._open(path))

    def remember(self, path: bytes, fd: int) -> int:
        """Keep the descriptor of the directory at ``path`` for what comes next in it."""
        previous = self._cache.pop(path, None)
        if previous is not None:
            self._stale.append(previous)
        self._cache[path] = fd
        if len(self._cache) > _CACHED:
            os.close(self._cache.popitem(last=False)[1])
        return fd

    def make_directory(self, parent: int, name: bytes) -> int:
        """Make a directory, or take the one that is there, and open it; what else is there makes room.

        A directory in a whiteout's place hides what is below, as the whiteout did.
        """
        opaque = False
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            present = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(present.st_mode):
                opaque = is_whiteout(present)
                os.unlink(name, dir_fd=parent)
                self.forget_if_link(present)
                os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        if opaque:
            self.make_opaque(fd)
        return fd

    def forget_if_link(self, removed: os.stat_result) -> None:
        """Drop the cache if what was removed may have been a part of a cached path."""
        if stat.S_ISLNK(removed.st_mode) or stat.S_ISDIR(removed.st_mode):
            self.forget()

    def whiteout(self, parent: int, name: bytes) -> None:
        """Hide ``name`` of the layers below. What this layer itself has of that name stays."""
        if not self._parents:
            return
        try:
            os.mknod(name, stat.S_IFCHR | 0o600, _WHITEOUT, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
                try:
                    self.make_opaque(fd)
                finally:
                    os.close(fd)

    def make_opaque(self, fd: int) -> None:
        """Hide everything that the layers below have in a directory."""
        if self._parents:
            os.setxattr(fd, OPAQUE, b"y")

    def inherit(self, path: bytes, fd: int) -> None:
        """Give a directory that the archive doesn't describe the owner and mode it has in the layers below."""
        for parent in self._parents:
            try:
                lower = _open_below(parent, path)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    continue
                break
            try:
                known = os.fstat(lower)
            finally:
                os.close(lower)
            os.fchown(fd, known.st_uid, known.st_gid)
            os.fchmod(fd, stat.S_IMODE(known.st_mode))
            return
        os.fchmod(fd, _DEFAULT_MODE)

    def _open(self, path: bytes) -> int:
        if self._anchor is None:
            return _open_below(self.root, path)
        return _open_below(self._anchor, self._base + path, _RESOLVE)

    def _cached(self, path: bytes) -> int | None:
        if not path:
            return self.root
        fd = self._cache.get(path)
        if fd is not None:
            self._cache.move_to_end(path)
        return fd

    def _implied(self, above: bytes, name: bytes) -> int | None:
        """Make sure that ``name`` is a directory in the existing directory ``above``.

        Its descriptor where it had to be made.
        """
        parent = self.existing(above)
        try:
            present = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            present = None
        if present is not None and not is_whiteout(present):
            if stat.S_ISDIR(present.st_mode) or stat.S_ISLNK(present.st_mode):
                self._must_be_directory(above, name)
                return None
            raise InvalidArchive(f"archive path {_join(above, name)!r}: not a directory")
        path = _join(above, name)
        fd = self.make_directory(parent, name)
        if present is None:
            self.inherit(path, fd)
        else:
            os.fchmod(fd, _DEFAULT_MODE)
        return self.remember(path, fd)

    def _must_be_directory(self, above: bytes, name: bytes) -> None:
        path = _join(above, name)
        try:
            self.existing(path)
        except OSError as error:
            raise InvalidArchive(f"archive path {path!r}: {os.strerror(error.errno or 0)}") from error


def is_whiteout(status: os.stat_result) -> bool:
    """Whether overlayfs takes a file of this status for a whiteout."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _WHITEOUT


def _open_below(root: int, path: bytes, resolve: int = _RESOLVE | RESOLVE_NO_XDEV) -> int:
    """Open a directory by its path below another, which nothing on the way can lead out of."""
    for _ in range(_ATTEMPTS):
        try:
            return openat2(root, os.fsdecode(path), _DIRECTORY, resolve=resolve)
        except BlockingIOError:
            # The kernel couldn't make sure of a "..", because something on the machine was renamed or mounted meanwhile.
            continue
    raise InvalidArchive(f"archive path {path!r} can't be resolved safely")


def _join(above: bytes, name: bytes) -> bytes:
    return above + b"/" + name if above else name
