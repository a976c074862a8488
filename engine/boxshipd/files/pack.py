"""Reading a tree that somebody else is changing into a tar stream.

Every file is opened once, as itself (``O_PATH | O_NOFOLLOW``, from its directory's descriptor), and whatever is told of it
comes from that descriptor: what is swapped meanwhile is either read or not, but never followed. Nothing is opened that isn't
a regular file or a directory, so neither a pipe nor a device can be made to wait or to act.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from errno import EACCES, ELOOP, ENODATA, ENOENT, ENOTDIR, ENOTSUP, ENXIO, EPERM

from boxrun.linux.files import filesystem_magic
from boxship.archive import tar_writer

from boxshipd.errors import InternalError
from boxshipd.files.ids import Owners

CHUNK = 1 << 20
"""Bytes that are read of a file at a time."""
_BATCH = 256 * 1024
_OPEN_DIRECTORIES = 48
_HOLES_FROM = 1 << 20
_SELF = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = frozenset({ENOENT, ENOTDIR, ELOOP})

# File systems that show the kernel's state rather than files. Source: linux/magic.h.
_KERNELS = frozenset(
    {0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x19800202, 0x1CD1, 0x64626720, 0x74726163, 0x73636673, 0xCAFE4A11, 0x6165676C}
)
_HIDDEN_XATTRS = ("trusted.overlay.", "user.overlay.", "security.selinux", "system.")


class Packer:
    """Writes files as members of an archive.

    Args:
        owners: how owners are shown.
        check: called before each member; it may raise to end the work.
        newest: no member is shown to be younger, in seconds since the epoch; None for no such bound.

    Attributes:
        size: the sum of the files' lengths so far, in bytes.
    """

    def __init__(self, owners: Owners, check: Callable[[], None], newest: int | None = None) -> None:
        self.size = 0
        self._owners = owners
        self._check = check
        self._newest = newest
        self._links: dict[tuple[int, int], bytes] = {}

    def tree(self, fd: int, name: bytes, *, itself: bool = True, cross: bool = True) -> Iterator[bytes]:
        """A directory with all that is in it, in the order of the names.

        Args:
            fd: the directory; stays the caller's.
            name: what it is called in the archive, empty for nothing.
            itself: whether it is a member itself.
            cross: whether what is mounted below is part of it. The kernel's own file systems never are.
        """
        if itself:
            status = os.fstat(fd)
            yield self._directory(fd, status, name)
        if filesystem_magic(fd) not in _KERNELS:
            yield from self._below(fd, name + b"/" if name or itself else b"", cross)

    def _below(self, fd: int, prefix: bytes, cross: bool) -> Iterator[bytes]:
        device = os.fstat(fd).st_dev
        walk = Walk(fd)
        try:
            for own, path in walk:
                self._check()
                try:
                    status = os.fstat(own)
                    member = prefix + path
                    if stat.S_ISDIR(status.st_mode):
                        inside = status.st_dev == device or (cross and filesystem_magic(own) not in _KERNELS)
                        opened = walk.enter() if inside else -1
                        yield self._directory(opened, status, member)
                    else:
                        yield from self.member(own, status, member)
                except OSError as error:
                    if error.errno not in _GONE:
                        raise InternalError(f"read {os.fsdecode(path)}: {os.strerror(error.errno or 0)}") from error
        finally:
            walk.close()

    def member(self, fd: int, status: os.stat_result, name: bytes) -> Iterator[bytes]:
        """Anything but a directory.

        Args:
            fd: an ``O_PATH`` descriptor of it; stays the caller's.
            status: its status.
            name: what it is called in the archive.
        """
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            return
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                yield self.header(tar_writer.LINK, name, status, linkname=first)
                return
        if kind == stat.S_IFREG:
            yield from self._file(fd, status, name)
        elif kind == stat.S_IFLNK:
            yield self.header(tar_writer.SYMLINK, name, status, linkname=os.readlink(b"", dir_fd=fd))
        elif kind == stat.S_IFIFO:
            yield self.header(tar_writer.FIFO, name, status)
        else:
            device = os.major(status.st_rdev), os.minor(status.st_rdev)
            block = tar_writer.CHAR if kind == stat.S_IFCHR else tar_writer.BLOCK_DEVICE
            yield self.header(block, name, status, device=device)

    def _directory(self, fd: int, status: os.stat_result, name: bytes) -> bytes:
        return self.header(tar_writer.DIRECTORY, name + b"/", status, xattrs=read_xattrs(fd) if fd >= 0 else {})

    def _file(self, own: int, status: os.stat_result, name: bytes) -> Iterator[bytes]:
        fd = os.open(f"/proc/self/fd/{own}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            size = status.st_size
            self.size += size
            xattrs = read_xattrs(fd)
            if status.st_blocks * 512 + _HOLES_FROM < size:
                fragments = data_extents(fd, size)
                mapped = tar_writer.sparse_map(fragments)
                total = len(mapped) + sum(length for _, length in fragments)
                above, _, last = name.rpartition(b"/")
                shown = above + b"/GNUSparseFile.0/" + last if above else b"GNUSparseFile.0/" + last
                records = tar_writer.sparse_records(name, size)
                yield self.header(tar_writer.FILE, shown, status, size=total, xattrs=xattrs, more=records)
                yield mapped
                for offset, length in fragments:
                    yield from self._data(fd, offset, length)
            else:
                total = size
                yield self.header(tar_writer.FILE, name, status, size=size, xattrs=xattrs)
                yield from self._data(fd, 0, size)
            if end := tar_writer.padding(total):
                yield end
        finally:
            os.close(fd)

    def _data(self, fd: int, offset: int, length: int) -> Iterator[bytes]:
        """As many bytes as were announced, whatever becomes of the file meanwhile."""
        while length:
            piece = os.pread(fd, min(length, CHUNK), offset) or bytes(min(length, CHUNK))
            offset += len(piece)
            length -= len(piece)
            yield piece
            if length:
                self._check()

    def header(
        self,
        kind: bytes,
        name: bytes,
        status: os.stat_result,
        *,
        size: int = 0,
        linkname: bytes = b"",
        device: tuple[int, int] = (0, 0),
        xattrs: dict[str, bytes] | None = None,
        more: tuple[tuple[bytes, bytes], ...] = (),
    ) -> bytes:
        """A member's header, as ``status`` describes it."""
        uid, gid = self._owners.inside(status.st_uid, status.st_gid)
        mtime = status.st_mtime_ns // 1_000_000_000
        return tar_writer.header(
            kind,
            name,
            mode=status.st_mode & 0o7777,
            uid=uid,
            gid=gid,
            size=size,
            mtime=mtime if self._newest is None else min(mtime, self._newest),
            linkname=linkname,
            device=device,
            xattrs=xattrs or {},
            more=more,
        )


class Walk:
    """Everything below a directory, depth first, by the names' bytes.

    Iterating gives an ``O_PATH`` descriptor, valid until the next step, and the path below the top. A directory is only walked
    into if ``enter`` is called while it is the present one. However deep it goes, few directories are open at a time.

    Args:
        top: the directory, which stays the caller's.
    """

    def __init__(self, top: int) -> None:
        self._names: list[list[str]] = [_listing(top)]
        self._path: list[str] = []
        self._open: list[int] = [os.dup(top)]
        self._own = -1
        self._name = ""

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while self._names:
            if not self._names[-1]:
                self._leave()
                continue
            self._name = self._names[-1].pop()
            self._forget()
            try:
                self._own = os.open(self._name, _SELF, dir_fd=self._present())
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise InternalError(f"read {self._shown()}: {os.strerror(error.errno or 0)}") from error
            yield self._own, os.fsencode(self._shown())

    def enter(self) -> int:
        """Walk into the present directory next; a readable descriptor of it, which stays the walk's."""
        fd = os.open(f"/proc/self/fd/{self._own}", _DIRECTORY & ~os.O_NOFOLLOW)
        self._open.append(fd)
        self._path.append(self._name)
        self._names.append(_listing(fd))
        if len(self._open) > _OPEN_DIRECTORIES:
            # The top stays: it is where the way to the others begins.
            position = len(self._open) - _OPEN_DIRECTORIES
            if self._open[position] >= 0:
                os.close(self._open[position])
                self._open[position] = -1
        return fd

    def close(self) -> None:
        """Close every descriptor."""
        self._forget()
        for fd in self._open:
            if fd >= 0:
                os.close(fd)
        self._open.clear()
        self._names.clear()

    def _leave(self) -> None:
        self._names.pop()
        fd = self._open.pop()
        if fd >= 0:
            os.close(fd)
        if self._path:
            self._path.pop()

    def _present(self) -> int:
        """The present directory, opened again step by step where it isn't open any more."""
        if self._open[-1] < 0:
            known = max(position for position, fd in enumerate(self._open) if fd >= 0)
            fd = os.dup(self._open[known])
            for name in self._path[known:]:
                try:
                    below = os.open(name, _DIRECTORY, dir_fd=fd)
                finally:
                    os.close(fd)
                fd = below
            self._open[-1] = fd
        return self._open[-1]

    def _forget(self) -> None:
        if self._own >= 0:
            os.close(self._own)
            self._own = -1

    def _shown(self) -> str:
        return "/".join((*self._path, self._name))


def batched(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces, ended as an archive is; what is large stays as it is."""
    waiting: list[bytes] = []
    length = 0
    for piece in pieces:
        if len(piece) >= _BATCH:
            if waiting:
                yield b"".join(waiting)
                waiting, length = [], 0
            yield piece
            continue
        waiting.append(piece)
        length += len(piece)
        if length >= _BATCH:
            yield b"".join(waiting)
            waiting, length = [], 0
    yield b"".join((*waiting, tar_writer.END))


def read_xattrs(file: int | str, *, follow: bool = True) -> dict[str, bytes]:
    """A file's extended attributes but for those that steer overlayfs or label the host's own.

    Args:
        file: a descriptor, or a path.
        follow: whether a link at the path's end is followed.
    """
    found: dict[str, bytes] = {}
    try:
        names = os.listxattr(file, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (ENOTSUP, EPERM, EACCES):
            return found
        raise
    for name in names:
        if name.startswith(_HIDDEN_XATTRS):
            continue
        try:
            found[name] = os.getxattr(file, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in (ENODATA, ENOTSUP, EPERM, EACCES):
                raise
    return found


def _listing(fd: int) -> list[str]:
    """The names in a directory, the first one last."""
    names = os.listdir(fd)
    names.sort(key=os.fsencode, reverse=True)
    return names


def data_extents(fd: int, size: int) -> list[tuple[int, int]]:
    """Where an open file has data: offset and length of each piece; the last one ends where the file does."""
    fragments: list[tuple[int, int]] = []
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == ENXIO:
                break
            return [(0, size)]
        offset = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start < size:
            fragments.append((start, offset - start))
    if not fragments or sum(fragments[-1]) < size:
        # GNU tar takes the last piece's end for the file's.
        fragments.append((size, 0))
    return fragments
