"""A tar stream, made by somebody who isn't trusted, into a local directory.

Names are taken step by step from the directory's descriptor and no link is followed on the way, so that nothing in the
archive leads out of the directory. Owners stay whoever runs this. Source: moby pkg/archive (Untar with NoLchown and
NoOverwriteDirNonDir).
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from errno import ENOTSUP, EPERM
from typing import IO, cast

from boxship.archive.places import Plan
from boxship.errors import CommandError

_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_XATTR = "SCHILY.xattr."


class Pieces:
    """A stream of pieces that is read like a file.

    Attributes:
        count: bytes that have come.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""
        self.count = 0

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
            self.count += len(piece)
        out, self._rest = self._rest[:size], self._rest[size:]
        return out


def unpack(stream: Pieces, plan: Plan) -> None:
    """Extract an archive as ``plan`` says.

    Raises:
        CommandError: the archive isn't one, leads out of the directory, or can't be written.
    """
    try:
        top = os.open(plan.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CommandError(f"open {plan.directory}: {(error.strerror or '').lower()}") from error
    try:
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=_CHUNK) as archive:
            _Unpacking(top, plan).run(archive)
        while stream.read(_CHUNK):
            continue
    except tarfile.TarError as error:
        raise CommandError(f"the archive can't be read: {error}") from error
    finally:
        os.close(top)


class _Unpacking:
    def __init__(self, top: int, plan: Plan) -> None:
        self._top = top
        self._plan = plan
        self._times: list[tuple[list[str], int]] = []

    def run(self, archive: tarfile.TarFile) -> None:
        for member in archive:
            parts = self._parts(member.name)
            if not parts:
                continue
            try:
                self._member(archive, member, parts)
            except OSError as error:
                raise CommandError(f"write {self._shown(parts)}: {(error.strerror or str(error)).lower()}") from error
        for parts, moment in reversed(self._times):
            parent = self._parent(parts)
            try:
                os.utime(parts[-1], (moment, moment), dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(parent)

    def _parts(self, name: str) -> list[str]:
        """A member's name below the directory, by the name that it is to have there."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in name:
            raise CommandError(f'the archive has a member "{name}" outside of its directory')
        if self._plan.new:
            if self._plan.old in (".", "/"):
                parts.insert(0, self._plan.new)
            elif parts and parts[0] == self._plan.old:
                parts[0] = self._plan.new
        return [part for part in parts if part != "."]

    def _shown(self, parts: list[str]) -> str:
        return os.path.join(self._plan.directory, *parts)

    def _parent(self, parts: list[str]) -> int:
        """The directory that a member goes into, made where it isn't there; the caller closes it."""
        fd = os.dup(self._top)
        for part in parts[:-1]:
            try:
                try:
                    below = os.open(part, _DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=fd)
                    below = os.open(part, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parts: list[str]) -> None:
        parent = self._parent(parts)
        name = parts[-1]
        try:
            self._make_room(member, parts, parent, name)
            if member.isdir():
                if not _exists(parent, name):
                    os.mkdir(name, 0o700, dir_fd=parent)
                fd = os.open(name, _DIRECTORY, dir_fd=parent)
                try:
                    _describe(fd, member)
                finally:
                    os.close(fd)
                self._times.append((parts, int(member.mtime)))
            elif member.isfile():
                self._file(archive, member, parent, name)
            elif member.islnk():
                self._link(member, parent, name)
            elif member.issym():
                os.symlink(member.linkname, name, dir_fd=parent)
                os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
            elif member.ischr() or member.isblk() or member.isfifo():
                kind = stat.S_IFIFO if member.isfifo() else stat.S_IFCHR if member.ischr() else stat.S_IFBLK
                device = 0 if member.isfifo() else os.makedev(member.devmajor, member.devminor)
                os.mknod(name, kind | member.mode & 0o777, device, dir_fd=parent)
            else:
                raise CommandError(f"{self._shown(parts)}: unhandled tar header type {member.type!r}")
        finally:
            os.close(parent)

    def _make_room(self, member: tarfile.TarInfo, parts: list[str], parent: int, name: str) -> None:
        """Remove what a member replaces; files and directories don't replace each other."""
        try:
            present = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        directory = stat.S_ISDIR(present.st_mode)
        place = os.path.normpath(self._plan.directory)
        shown = os.path.join(place, *parts)
        if directory and not member.isdir():
            raise CommandError(f'cannot overwrite directory "{shown}" with non-directory "{place}"')
        if not directory and member.isdir():
            raise CommandError(f'cannot overwrite non-directory "{shown}" with directory "{place}"')
        if not directory:
            os.unlink(name, dir_fd=parent)

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        content = archive.extractfile(member)
        assert content is not None
        fd = os.open(name, _NEW, 0o600, dir_fd=parent)
        try:
            with open(fd, "wb", buffering=0, closefd=False) as file:
                if member.issparse():
                    os.ftruncate(fd, member.size)
                    while piece := content.read(_CHUNK):
                        if piece.count(0) == len(piece):
                            file.seek(len(piece), os.SEEK_CUR)
                        else:
                            file.write(piece)
                else:
                    shutil.copyfileobj(content, file, _CHUNK)
            _describe(fd, member)
            os.utime(fd, (member.mtime, member.mtime))
        except BaseException:
            os.unlink(name, dir_fd=parent)
            raise
        finally:
            os.close(fd)

    def _link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        parts = self._parts(member.linkname)
        if not parts:
            raise CommandError(f'the archive has a hard link "{member.name}" to a directory')
        source = self._parent(parts)
        try:
            os.link(parts[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)


def _exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _describe(fd: int, member: tarfile.TarInfo) -> None:
    """Give an open file its mode and extended attributes, those that this file system and user may."""
    os.fchmod(fd, member.mode & 0o7777)
    for key, value in member.pax_headers.items():
        if key.startswith(_XATTR):
            try:
                os.setxattr(fd, key.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"))
            except OSError as error:
                if error.errno not in (ENOTSUP, EPERM):
                    raise
