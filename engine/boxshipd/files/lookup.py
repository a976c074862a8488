"""Paths that clients name, inside a container's root, and what the API tells of what is there.

Source: moby daemon/archive_unix.go, daemon/containerfs_linux.go; Go's io/fs for the numbers of modes.
"""

from __future__ import annotations

import base64
import os
import posixpath
import stat
from errno import EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR

import msgspec
from boxrun.container.paths import RESOLVE
from boxrun.linux.files import openat2
from msgspec import Struct

from boxshipd.errors import Forbidden, InternalError, InvalidParameter, NotFound
from boxshipd.times import rfc3339

_MISSING = frozenset({ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG})
_MOST_LINKS = 255
# Go's bits for what isn't a permission.
_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFREG: 0,
}
_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


class PathStat(Struct, rename="camel", frozen=True):
    """What ``X-Docker-Container-Path-Stat`` says of a path. ``mode`` is Go's, ``size`` in bytes."""

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str = ""

    def encoded(self) -> str:
        """The header's value."""
        return base64.b64encode(msgspec.json.encode(self)).decode()


class Missing(NotFound):
    """There is nothing at a path."""

    def __init__(self, path: str, container: str) -> None:
        super().__init__(f"Could not find the file {path} in container {container}")


def absolute(path: str) -> str:
    """A path from the root, without ``..``; a slash or ``/.`` at its end stays, since it asks for a directory."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        return clean
    if path.endswith("/."):
        return f"{clean}/."
    return f"{clean}/" if path.endswith("/") else clean


def base_name(path: str) -> str:
    """The last part of an absolute path as Go has it: ``.`` for one that ends so, ``/`` for the root."""
    return posixpath.basename(path.rstrip("/")) or "/"


class Root:
    """A container's root while files are copied.

    Args:
        fd: a descriptor of it, which stays the caller's.
        container: how the client called the container, for messages.
    """

    def __init__(self, fd: int, container: str) -> None:
        self.fd = fd
        self._container = container

    def open(self, path: str, *, follow: bool = False) -> int:
        """An ``O_PATH`` descriptor of what is at an absolute path; a link at its end is opened itself unless ``follow``.

        Raises:
            NotFound: there is nothing.
            InvalidParameter: it can't be a path.
        """
        try:
            return openat2(self.fd, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW), resolve=RESOLVE)
        except ValueError as error:
            raise InvalidParameter(f"invalid path {path!r}: {error}") from None
        except OSError as error:
            if error.errno in _MISSING:
                raise Missing(path, self._container) from error
            raise InternalError(f"open {path} in container {self._container}: {os.strerror(error.errno or 0)}") from error

    def describe(self, path: str, fd: int) -> PathStat:
        """What the API tells of ``path``, which was opened as ``fd``."""
        status = os.fstat(fd)
        kind = stat.S_IFMT(status.st_mode)
        mode = status.st_mode & 0o777 | _KINDS.get(kind, 1 << 19)
        for bit, meaning in _BITS.items():
            if status.st_mode & bit:
                mode |= meaning
        return PathStat(
            name=base_name(path),
            size=status.st_size,
            mode=mode,
            mtime=rfc3339(status.st_mtime_ns),
            link_target=self.destination(path) if kind == stat.S_IFLNK else "",
        )

    def destination(self, path: str) -> str:
        """Where a path leads through all links, as far as there is something; only told to clients, never opened."""
        pending = [part for part in reversed(path.split("/")) if part]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part == ".":
                continue
            if part == "..":
                done = done[:-1]
                continue
            target = self._link("/" + "/".join((*done, part)))
            if target is None or (links := links + 1) > _MOST_LINKS:
                done.append(part)
                continue
            if target.startswith("/"):
                done = []
            pending.extend(step for step in reversed(target.split("/")) if step)
        return "/" + "/".join(done)

    def _link(self, path: str) -> str | None:
        try:
            fd = openat2(self.fd, path, os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE)
        except OSError:
            return None
        try:
            return os.readlink("", dir_fd=fd)
        except OSError as error:
            if error.errno in (EINVAL, ENOENT):
                return None
            raise
        finally:
            os.close(fd)

    def check_writable(self, fd: int) -> None:
        """Refuse a directory that the container itself can't write to.

        Raises:
            Forbidden: it is on a read-only mount.
        """
        if not os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            return
        if mount_id(fd) == mount_id(self.fd):
            raise Forbidden("container rootfs is marked read-only")
        raise Forbidden("mounted volume is marked read-only")


def mount_id(fd: int) -> int:
    """The number of the mount that an open file is on. Source: proc_pid_fdinfo(5)."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("mnt_id:"):
                return int(line.partition(":")[2])
    raise InternalError(f"descriptor {fd} has no mount")
