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
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from boxrun.linux.files import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, openat2

from boxshipd.images.errors import InvalidArchive, LimitExceeded
from boxshipd.images.unpack.limits import MIB

OPAQUE = "trusted.overlay.opaque"
_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CACHED = 128
_ATTEMPTS = 64
_DEFAULT_MODE = 0o755
# What notes of directories may take in memory, and what one takes beside its path.
_NOTES = 64 * MIB
_NOTE_OVERHEAD = 128
_WHITEOUT = os.makedev(0, 0)


class Tree:
    """A tree below a root directory.

    Args:
        root: the directory's path.
        layered: it is one layer of several: whiteouts are kept, and directories that no entry describes are noted.
        anchor: a descriptor of a root above ``root``, which stays the caller's: ``root`` is a path in there then, links on the
            way lead to places in there, and what is mounted in there is part of it.

    Attributes:
        hides: something was hidden of the layers below.
        implied: directories that had to be made though no entry describes them; ``inherit`` gives them what they have below.
    """

    def __init__(self, root: str, *, layered: bool = False, anchor: int | None = None) -> None:
        self._layered = layered
        self.hides = False
        self.implied: dict[bytes, None] = {}
        self._implied_length = 0
        self._anchor = anchor
        self._base = os.fsencode(root).rstrip(b"/") + b"/"
        self.root = os.open(root, _DIRECTORY) if anchor is None else _open_below(anchor, self._base, _RESOLVE)
        self._cache: OrderedDict[bytes, int] = OrderedDict()
        # Dropped from the cache, but perhaps still in use by the operation under way.
        self._stale: list[int] = []

    def close(self) -> None:
        """Close every descriptor. Idempotent."""
        self.forget()
        self.settle()
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
        if not self._layered:
            return
        self.hides = True
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
        if self._layered:
            self.hides = True
            os.setxattr(fd, OPAQUE, b"y")

    def note_implied(self, path: bytes) -> None:
        """Note a directory whose owner and mode are those it has in the layers below.

        Raises:
            LimitExceeded: there are more of them than anybody needs.
        """
        if self._layered:
            self.implied[path] = None
            self._implied_length += len(path) + _NOTE_OVERHEAD
            if self._implied_length > _NOTES:
                raise LimitExceeded("archive has too many directories that it doesn't describe")

    def described(self, path: bytes) -> None:
        """An entry describes a directory after all."""
        self.implied.pop(path, None)

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
        os.fchmod(fd, _DEFAULT_MODE)
        if present is None:
            self.note_implied(path)
        return self.remember(path, fd)

    def _must_be_directory(self, above: bytes, name: bytes) -> None:
        path = _join(above, name)
        try:
            self.existing(path)
        except OSError as error:
            raise InvalidArchive(f"archive path {path!r}: {os.strerror(error.errno or 0)}") from error


def inherit(root: str, paths: Iterable[bytes], parents: Sequence[str]) -> None:
    """Give directories that a layer's archive doesn't describe the owner and mode they have in the layers below.

    Args:
        root: the layer's directory.
        paths: which directories in it.
        parents: the directories of the layers below, topmost first, all of them whole.

    Raises:
        OSError: the kernel refused.
    """
    with ExitStack() as stack:

        def opened(path: str) -> int:
            fd = os.open(path, _DIRECTORY)
            stack.callback(os.close, fd)
            return fd

        top = opened(root)
        lowers = [opened(parent) for parent in parents]
        for path in paths:
            known = _status_below(lowers, path)
            fd = None if known is None else _opened_below(top, path)
            if known is not None and fd is not None:
                try:
                    os.fchown(fd, known.st_uid, known.st_gid)
                    os.fchmod(fd, stat.S_IMODE(known.st_mode))
                finally:
                    os.close(fd)


def _status_below(lowers: Sequence[int], path: bytes) -> os.stat_result | None:
    """A directory's status in the topmost layer that has it; None where something else is in its place there."""
    for lower in lowers:
        try:
            fd = _open_below(lower, path or b".")
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)
    return None


def _opened_below(top: int, path: bytes) -> int | None:
    """A directory of the layer itself; None where a later entry has put something else in its place."""
    try:
        return _open_below(top, path or b".")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


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
