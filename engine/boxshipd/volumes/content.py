"""Copying an image's directory into a volume: everything a file has but its way there.

Both sides are descriptors, and every step is one name in an open directory, never following a link. So nothing that an image
holds, and nothing that a container does to a volume meanwhile, leads the copy out of either.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator

from boxrun.linux.files import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

from boxshipd.images.unpack.removal import remove_tree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 30
_HIDDEN = ("trusted.overlay.", "user.overlay.")
_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.EPERM, errno.EINVAL})
_NO_RANGE_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class CopyError(Exception):
    """The content couldn't be copied; the text says what and why."""


def is_empty(path: str) -> bool:
    """Whether a directory has nothing in it; one that isn't there has."""
    try:
        with os.scandir(path) as found:
            return next(found, None) is None
    except OSError:
        return True


@contextlib.contextmanager
def inside(root_fd: int, path: str) -> Iterator[int | None]:
    """The directory ``path`` of an image, resolved inside its root; None where there is none.

    Raises:
        NotADirectoryError: it is a file.
    """
    try:
        fd = openat2(root_fd, path, _DIRECTORY & ~os.O_NOFOLLOW, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        # Links in a circle lead nowhere, as does one to nothing.
        if error.errno != errno.ELOOP:
            raise
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def fill(source_fd: int, destination: str) -> None:
    """Copy a directory, its own owner, mode and times included, into an empty directory that nobody else can reach.

    Raises:
        CopyError: something can't be copied; what was is left for the caller to remove.
    """
    destination_fd = os.open(destination, _DIRECTORY)
    try:
        _Copy(destination_fd).directory(source_fd, destination_fd, "")
    except RecursionError:
        raise CopyError("its directories are nested too deep") from None
    finally:
        os.close(destination_fd)


def move_into(filled: str, destination: str) -> None:
    """Move what ``fill`` has made into an empty directory of the same file system that others may be using.

    Raises:
        CopyError: something can't be moved.
    """
    source_fd = os.open(filled, _DIRECTORY)
    try:
        destination_fd = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(source_fd):
                os.rename(name, name, src_dir_fd=source_fd, dst_dir_fd=destination_fd)
            _attributes(source_fd, destination_fd, os.fstat(source_fd))
        except OSError as error:
            raise CopyError(f"{destination}: {error.strerror}") from error
        finally:
            os.close(destination_fd)
    finally:
        os.close(source_fd)


def fill_shared(source_fd: int, destination: str) -> None:
    """As ``fill``, for a directory that others may be using: whole, or not at all.

    Raises:
        CopyError: something can't be copied; nothing is left of it.
    """
    aside = f"{destination}/.boxship-{secrets.token_hex(8)}"
    try:
        os.mkdir(aside, 0o700)
    except OSError as error:
        raise CopyError(f"mkdir {aside}: {error.strerror}") from error
    try:
        fill(source_fd, aside)
        move_into(aside, destination)
    finally:
        remove_tree(aside)


class _Copy:
    """One copy; remembers where files with several names have gone."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._linked: dict[tuple[int, int], str] = {}

    def directory(self, source_fd: int, destination_fd: int, path: str) -> None:
        """Copy what is in a directory, then what the directory has itself, since copying changes its times."""
        with os.scandir(source_fd) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            try:
                self._entry(source_fd, destination_fd, name, f"{path}{name}")
            except OSError as error:
                raise CopyError(f"{path}{name}: {error.strerror}") from error
        try:
            _attributes(source_fd, destination_fd, os.fstat(source_fd))
        except OSError as error:
            raise CopyError(f"{path or '.'}: {error.strerror}") from error

    def _entry(self, source_fd: int, destination_fd: int, name: str, path: str) -> None:
        found = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=destination_fd)
            with _opened(name, _DIRECTORY, source_fd) as below, _opened(name, _DIRECTORY, destination_fd) as made:
                self.directory(below, made, f"{path}/")
            return
        if found.st_nlink > 1:
            first = self._linked.setdefault((found.st_dev, found.st_ino), path)
            if first != path:
                link_again(self._root_fd, first, destination_fd, name)
                return
        if stat.S_ISREG(found.st_mode):
            _file(source_fd, destination_fd, name)
            return
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=destination_fd)
        elif stat.S_ISSOCK(found.st_mode):
            return
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=destination_fd)
        _special(source_fd, destination_fd, name, found)


def link_again(root_fd: int, first: str, directory_fd: int, name: str) -> None:
    """Give a file that was copied another name.

    Args:
        root_fd: the copy's root.
        first: the file's path in it, which is looked up without any link: the copy may lie where others can change it.
        directory_fd: the directory of the new name.
        name: the new name.

    Raises:
        OSError: the file isn't where it was put.
    """
    parent, _, last = first.rpartition("/")
    if not parent:
        os.link(last, name, src_dir_fd=root_fd, dst_dir_fd=directory_fd, follow_symlinks=False)
        return
    parent_fd = openat2(root_fd, parent, os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    try:
        os.link(last, name, src_dir_fd=parent_fd, dst_dir_fd=directory_fd, follow_symlinks=False)
    finally:
        os.close(parent_fd)


@contextlib.contextmanager
def _opened(name: str, flags: int, dir_fd: int) -> Iterator[int]:
    fd = os.open(name, flags, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _file(source_fd: int, destination_fd: int, name: str) -> None:
    with _opened(name, _FILE, source_fd) as origin:
        copy = os.open(name, _NEW, 0o600, dir_fd=destination_fd)
        try:
            found = os.fstat(origin)
            _data(origin, copy, found.st_size)
            _attributes(origin, copy, found)
        finally:
            os.close(copy)


def _data(origin: int, copy: int, size: int) -> None:
    """Copy a file's data and leave its holes."""
    os.ftruncate(copy, size)
    position = 0
    while position < size:
        try:
            start = os.lseek(origin, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(origin, start, os.SEEK_HOLE)
        _range(origin, copy, start, min(end, size))
        position = end


def _range(origin: int, copy: int, start: int, end: int) -> None:
    while start < end:
        try:
            done = os.copy_file_range(origin, copy, min(end - start, _PIECE), start, start)
        except OSError as error:
            if error.errno not in _NO_RANGE_COPY:
                raise
            os.lseek(copy, start, os.SEEK_SET)
            done = os.sendfile(copy, origin, start, min(end - start, _PIECE))
        if not done:
            return
        start += done


def _attributes(origin: int, copy: int, found: os.stat_result) -> None:
    """Give a file or directory the other's owner, mode, extended attributes and times."""
    os.fchown(copy, found.st_uid, found.st_gid)
    # After the owner, which takes the set-id bits away.
    os.fchmod(copy, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(origin):
        if not name.startswith(_HIDDEN):
            _set_attribute(copy, name, os.getxattr(origin, name))
    os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))


def _special(source_fd: int, destination_fd: int, name: str, found: os.stat_result) -> None:
    """The same for what isn't opened: links, pipes and devices."""
    os.chown(name, found.st_uid, found.st_gid, dir_fd=destination_fd, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        change_mode(destination_fd, name, found)
    origin = f"/proc/self/fd/{source_fd}/{name}"
    for attribute in os.listxattr(origin, follow_symlinks=False):
        if not attribute.startswith(_HIDDEN):
            value = os.getxattr(origin, attribute, follow_symlinks=False)
            with contextlib.suppress(OSError):
                os.setxattr(f"/proc/self/fd/{destination_fd}/{name}", attribute, value, follow_symlinks=False)
    os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=destination_fd, follow_symlinks=False)


def change_mode(directory_fd: int, name: str, found: os.stat_result) -> None:
    """Give a pipe or device that was made the mode it is to have, and nothing that has come into its place.

    Raises:
        OSError: it isn't what was made any more.
    """
    with _opened(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, directory_fd) as fd:
        made = os.fstat(fd)
        if (stat.S_IFMT(made.st_mode), made.st_rdev) != (stat.S_IFMT(found.st_mode), found.st_rdev):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
        # By way of the descriptor: chmod itself would follow a link, and fchmod doesn't take one of this kind.
        os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(found.st_mode))


def _set_attribute(fd: int, name: str, value: bytes) -> None:
    try:
        os.setxattr(fd, name, value)
    except OSError as error:
        # A file system without this kind of attribute, as Docker has it.
        if error.errno not in _UNSUPPORTED:
            raise
