"""What a container has changed: its overlay's upper directory against the layers below. Source: moby pkg/archive/changes.go."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from errno import EINVAL, ELOOP, ENAMETOOLONG, ENODATA, ENOENT, ENOTDIR, ENOTSUP
from types import TracebackType
from typing import Self

from boxrun.linux.files import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from boxship.types.containers import Change

from boxshipd.errors import InternalError
from boxshipd.files.pack import Walk
from boxshipd.images.unpack.tree import OPAQUE, is_whiteout

MODIFIED, ADDED, DELETED = 0, 1, 2

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS
_ABSENT = frozenset({ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG})
_FOREIGN = ("trusted.overlay.redirect", "trusted.overlay.metacopy")


class Lowers:
    """The layers below a container's own directory, topmost first, seen as one tree.

    Args:
        paths: their directories.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._stack = ExitStack()
        self._roots: list[int] = []
        self._ends: dict[tuple[int, bytes], bool] = {}
        try:
            for path in paths:
                fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                self._stack.callback(os.close, fd)
                self._roots.append(fd)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor. Idempotent."""
        self._stack.close()
        self._roots.clear()

    def find(self, path: bytes) -> os.stat_result | None:
        """The status of what the layers have at a path; None where they have nothing."""
        found = self.locate(path)
        return None if found is None else found[1]

    def open(self, path: bytes) -> int | None:
        """An ``O_PATH`` descriptor of what the layers have at a path, which is the caller's; None where they have nothing."""
        for layer, root in enumerate(self._roots):
            fd = _opened(root, path)
            if fd is not None:
                if not is_whiteout(os.fstat(fd)):
                    return fd
                os.close(fd)
                return None
            if self._is_hidden_below(layer, path):
                return None
        return None

    def open_file(self, layer: int, path: bytes) -> int:
        """A descriptor, which is the caller's, for reading the regular file that a layer has at a path.

        Raises:
            OSError: it has none there.
        """
        # What isn't a file mustn't be waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = openat2(self._roots[layer], os.fsdecode(path), flags, resolve=_RESOLVE)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(EINVAL, os.strerror(EINVAL), os.fsdecode(path))
        return fd

    def directories(self, path: bytes) -> Iterator[tuple[int, int]]:
        """The directory at a path in each layer that adds to it, topmost first.

        The layer's number, and a descriptor that is valid until the next step.
        """
        for layer, root in enumerate(self._roots):
            own = _opened(root, path)
            if own is None:
                if self._is_hidden_below(layer, path):
                    return
                continue
            try:
                if not stat.S_ISDIR(os.fstat(own).st_mode):
                    return
                fd = os.open(f"/proc/self/fd/{own}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            finally:
                os.close(own)
            try:
                yield layer, fd
                if is_opaque(fd):
                    return
            finally:
                os.close(fd)

    def locate(self, path: bytes) -> tuple[int, os.stat_result] | None:
        """As ``find``, with the number of the topmost layer that has it."""
        for layer, root in enumerate(self._roots):
            status = _status(root, path)
            if status is not None:
                return None if is_whiteout(status) else (layer, status)
            if self._is_hidden_below(layer, path):
                return None
        return None

    def stack(self, path: bytes) -> list[int]:
        """The numbers of the layers that a directory is made of, topmost first; none where it isn't one."""
        found: list[int] = []
        for layer, root in enumerate(self._roots):
            status = _status(root, path)
            if status is not None:
                if not stat.S_ISDIR(status.st_mode):
                    break
                found.append(layer)
                if self._ends_at(layer, path):
                    break
            if self._is_hidden_below(layer, path):
                break
        return found

    def link(self, path: bytes) -> bytes:
        """Where the symbolic link at a path leads to, as it is written."""
        found = self.locate(path)
        if found is None:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), os.fsdecode(path))
        fd = openat2(self._roots[found[0]], os.fsdecode(path), os.O_PATH | os.O_NOFOLLOW, resolve=_RESOLVE)
        try:
            return os.fsencode(os.readlink("", dir_fd=fd))
        finally:
            os.close(fd)

    def names(self, path: bytes) -> set[bytes]:
        """The names in the directory at a path."""
        found: set[bytes] = set()
        hidden: set[bytes] = set()
        for _, fd in self.directories(path):
            for name in map(os.fsencode, os.listdir(fd)):
                if name in found or name in hidden:
                    continue
                gone = is_whiteout(os.stat(name, dir_fd=fd, follow_symlinks=False))
                (hidden if gone else found).add(name)
        return found

    def _is_hidden_below(self, layer: int, path: bytes) -> bool:
        """Whether a layer that has nothing at a path hides what those below it have there."""
        above = path.rpartition(b"/")[0]
        while above:
            if self._ends_at(layer, above):
                return True
            above = above.rpartition(b"/")[0]
        return False

    def _ends_at(self, layer: int, path: bytes) -> bool:
        """Whether a layer hides what the layers below it have in a directory."""
        known = self._ends.get((layer, path))
        if known is None:
            known = self._ends[layer, path] = self._look(self._roots[layer], path)
        return known

    @staticmethod
    def _look(root: int, path: bytes) -> bool:
        status = _status(root, path)
        if status is None:
            return False
        if not stat.S_ISDIR(status.st_mode):
            return True
        fd = openat2(root, os.fsdecode(path), os.O_RDONLY | os.O_DIRECTORY, resolve=_RESOLVE)
        try:
            return is_opaque(fd)
        finally:
            os.close(fd)


def changes(upper: str, layers: Sequence[str], check: Callable[[], None]) -> list[Change]:
    """Every change, in the order of the paths, with the directories above that have changed by it.

    Args:
        upper: the container's own directory.
        layers: the directories below, topmost first.
        check: called for each path; it may raise to end the work.
    """
    found: list[Change] = []
    listed: set[str] = set()
    top = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        walk = Walk(top)
        try:
            with Lowers(layers) as lowers:
                for own, path in walk:
                    check()
                    status = os.fstat(own)
                    directory = stat.S_ISDIR(status.st_mode)
                    opened = walk.enter() if directory else -1
                    kind = _kind(status, opened, path, lowers)
                    if kind is None:
                        continue
                    shown = "/" + path.decode("utf-8", "replace")
                    if directory:
                        listed.add(shown)
                    parent = shown.rpartition("/")[0]
                    if kind != MODIFIED and parent and parent not in listed:
                        found.append(Change(parent, MODIFIED))
                        listed.add(parent)
                    found.append(Change(shown, kind))
                    if kind == MODIFIED and directory and is_opaque(opened):
                        gone = lowers.names(path) - set(map(os.fsencode, os.listdir(opened)))
                        found.extend(Change(f"{shown}/{name.decode('utf-8', 'replace')}", DELETED) for name in sorted(gone))
        finally:
            walk.close()
    finally:
        os.close(top)
    return found


def _kind(status: os.stat_result, opened: int, path: bytes, lowers: Lowers) -> int | None:
    """What has become of one path; None for a directory that is only there for what is in it."""
    if is_whiteout(status):
        return DELETED
    below = lowers.find(path)
    if below is None:
        return ADDED
    if stat.S_ISDIR(status.st_mode) and stat.S_ISDIR(below.st_mode) and not is_opaque(opened):
        same = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns) == (
            below.st_mode,
            below.st_uid,
            below.st_gid,
            below.st_mtime_ns,
        )
        return None if same else MODIFIED
    return MODIFIED


def is_opaque(fd: int) -> bool:
    """Whether an overlay's directory hides what is below it."""
    try:
        return os.getxattr(fd, OPAQUE) == b"y"
    except OSError as error:
        if error.errno in (ENODATA, ENOTSUP):
            return False
        raise


def refuse_references(fd: int | str, path: bytes) -> None:
    """Refuse a file that is only a reference to one in a layer below: another's overlay options made it.

    Raises:
        InternalError: it is.
    """
    names = os.listxattr(fd)
    for name in _FOREIGN:
        if name in names:
            raise InternalError(f"/{os.fsdecode(path)} has {name}: overlay directories with references can't be read")


def _status(root: int, path: bytes) -> os.stat_result | None:
    if path and b"/" not in path and path != b"..":
        try:
            # A name alone leads nowhere else, and most layers have nothing of it.
            return os.stat(path, dir_fd=root, follow_symlinks=False)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
    fd = _opened(root, path)
    if fd is None:
        return None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _opened(root: int, path: bytes) -> int | None:
    if b"\0" in path:
        return None
    try:
        return openat2(root, os.fsdecode(path) or ".", os.O_PATH | os.O_NOFOLLOW, resolve=_RESOLVE)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
