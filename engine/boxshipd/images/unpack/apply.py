"""Applying a layer: an archive's entries become an overlay directory.

Whiteouts (``.wh.name``) become character devices 0:0 and opaque marks (``.wh..wh..opq``) the attribute
``trusted.overlay.opaque``, which is how overlayfs has them. Source: OCI image specification, layer.md; kernel documentation,
overlayfs.rst; moby pkg/archive/diff.go.
"""

from __future__ import annotations

import errno
import os
import stat

from boxshipd.images.errors import InvalidArchive, LimitExceeded
from boxshipd.images.unpack.direct import DirectWriter
from boxshipd.images.unpack.limits import DEFAULT_LIMITS, MIB, Limits
from boxshipd.images.unpack.removal import remove_tree
from boxshipd.images.unpack.tar import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry, TarReader
from boxshipd.images.unpack.tree import Tree

_WHITEOUT_PREFIX = b".wh."
_META_PREFIX = b".wh..wh."
_OPAQUE_MARK = b".wh..wh..opq"
_NODE_TYPES = {CHAR: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Attributes that steer overlayfs itself; an image has no say in them.
_RESERVED_XATTRS = ("trusted.overlay.", "user.overlay.")
_MAX_NS = (1 << 63) - 1
_SPACE_CHECK = 32 * MIB
# From which length on a file is written around the page cache, which it would fill with what may never be read.
_DIRECT = 32 * MIB
# What notes of directories' times may take in memory, and what one takes beside its path.
_NOTES = 256 * MIB
_NOTE_OVERHEAD = 160


class LayerApplier:
    """Applies one archive to one tree."""

    def __init__(self, tree: Tree, limits: Limits = DEFAULT_LIMITS) -> None:
        self._tree = tree
        self._limits = limits
        self._size = 0
        self._unchecked = 0
        # Times of directories are set last, since making a file in one changes them.
        self._times: dict[bytes, int] = {}
        self._noted = 0

    def apply(self, reader: TarReader) -> int:
        """Apply every entry; the sum of the files' lengths in bytes, which is what Docker calls a layer's size.

        Raises:
            InvalidArchive: an entry can't be what it says without leaving the tree.
            LimitExceeded: the archive takes too much.
            OSError: the kernel refused.
        """
        os.fchmod(self._tree.root, 0o755)
        self._tree.note_implied(b"")
        for entry in reader:
            self._apply_one(entry, reader)
        self._set_times()
        return self._size

    def _apply_one(self, entry: Entry, reader: TarReader) -> None:
        path = clean(entry.name)
        self._tree.settle()
        try:
            self._entry(entry, path, reader)
        except OSError as error:
            raise self._failure(entry, error) from error

    def _failure(self, entry: Entry, error: OSError) -> Exception:
        """An error that names the entry; what an archive can cause by itself is the archive's fault."""
        reason = os.strerror(error.errno or 0)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            return OSError(error.errno, reason, f"unpack {entry.name!r}")
        return InvalidArchive(f"unpack {entry.name!r}: {reason}")

    def _entry(self, entry: Entry, path: bytes, reader: TarReader) -> None:
        if not path:
            self._root(entry)
            return
        above, _, name = path.rpartition(b"/")
        if name.startswith(_WHITEOUT_PREFIX):
            self._whiteout(above, name)
            return
        parent = self._tree.directory(above)
        self._size += entry.length
        if entry.kind == FILE:
            self._file(entry, parent, name, reader)
        elif entry.kind == DIRECTORY:
            self._directory(entry, path, parent, name)
        elif entry.kind == SYMLINK:
            self._symlink(entry, parent, name)
        elif entry.kind == LINK:
            self._link(entry, path, parent, name)
        else:
            self._node(entry, parent, name)

    def _root(self, entry: Entry) -> None:
        if entry.kind != DIRECTORY:
            raise InvalidArchive(f"archive entry {entry.name!r} would replace the root directory")
        self._describe(entry, self._tree.root)
        self._tree.described(b"")
        self._times[b""] = entry.mtime_ns

    def _whiteout(self, above: bytes, name: bytes) -> None:
        if name == _OPAQUE_MARK:
            self._tree.make_opaque(self._tree.directory(above))
        elif not name.startswith(_META_PREFIX):
            hidden = name[len(_WHITEOUT_PREFIX) :]
            if hidden in (b"", b".", b".."):
                raise InvalidArchive(f"archive entry {name!r} is a whiteout of nothing")
            self._tree.whiteout(self._tree.directory(above), hidden)

    def _directory(self, entry: Entry, path: bytes, parent: int, name: bytes) -> None:
        fd = self._tree.remember(path, self._tree.make_directory(parent, name))
        self._describe(entry, fd)
        self._tree.described(path)
        self._note_time(path, entry.mtime_ns)

    def _note_time(self, path: bytes, mtime_ns: int) -> None:
        self._times[path] = mtime_ns
        self._noted += len(path) + _NOTE_OVERHEAD
        if self._noted > _NOTES:
            raise LimitExceeded("archive has too many directories with long names")

    def _file(self, entry: Entry, parent: int, name: bytes, reader: TarReader) -> None:
        # Mostly what is wanted already, so that nothing has to be changed afterwards.
        mode = entry.mode & 0o777
        try:
            fd = os.open(name, _CREATE, mode, dir_fd=parent)
        except FileExistsError:
            self._make_room(parent, name)
            fd = os.open(name, _CREATE, mode, dir_fd=parent)
        try:
            self._fill(entry, fd, reader)
        finally:
            os.close(fd)

    def _fill(self, entry: Entry, fd: int, reader: TarReader) -> None:
        """Give an empty file its content and everything else an entry says of it."""
        if entry.sparse is None and entry.size >= _DIRECT:
            writer = DirectWriter(fd)
            for piece in reader.data():
                writer.write(piece)
            writer.flush()
        elif entry.sparse is None:
            for piece in reader.data():
                _write(fd, piece)
        else:
            self._write_sparse(entry, fd, reader)
        self._check_space(fd, entry.size)
        self._describe(entry, fd)
        time = _bounded(entry.mtime_ns)
        os.utime(fd, ns=(time, time))

    @staticmethod
    def _write_sparse(entry: Entry, fd: int, reader: TarReader) -> None:
        """Write a file's data between its holes."""
        os.ftruncate(fd, entry.length)
        places = iter(entry.sparse.fragments if entry.sparse else ())
        offset = left = 0
        for piece in reader.data():
            rest = piece
            while rest:
                if not left:
                    offset, left = next(places)
                    os.lseek(fd, offset, os.SEEK_SET)
                _write(fd, rest[:left])
                done = min(left, len(rest))
                left -= done
                rest = rest[done:]

    def _link(self, entry: Entry, path: bytes, parent: int, name: bytes) -> None:
        target = clean(entry.linkname)
        above, _, last = target.rpartition(b"/")
        if not last:
            raise InvalidArchive(f"archive entry {entry.name!r} is a hard link to the root directory")
        if target == path:
            raise InvalidArchive(f"archive entry {entry.name!r} is a hard link to itself")
        try:
            source = self._tree.existing(above)
            os.stat(last, dir_fd=source, follow_symlinks=False)
        except OSError as error:
            reason = f"which the layer doesn't have: {os.strerror(error.errno or 0)}"
            raise InvalidArchive(f"archive entry {entry.name!r} is a hard link to {entry.linkname!r}, {reason}") from error
        try:
            os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            self._make_room(parent, name)
            os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def _symlink(self, entry: Entry, parent: int, name: bytes) -> None:
        if not entry.linkname or b"\0" in entry.linkname:
            raise InvalidArchive(f"archive entry {entry.name!r} is a symbolic link to {entry.linkname!r}")
        try:
            os.symlink(entry.linkname, name, dir_fd=parent)
        except FileExistsError:
            self._make_room(parent, name)
            os.symlink(entry.linkname, name, dir_fd=parent)
        self._describe_name(entry, parent, name)

    def _node(self, entry: Entry, parent: int, name: bytes) -> None:
        device = os.makedev(entry.major, entry.minor) if entry.kind != FIFO else 0
        mode = _NODE_TYPES[entry.kind] | 0o600
        try:
            os.mknod(name, mode, device, dir_fd=parent)
        except FileExistsError:
            self._make_room(parent, name)
            os.mknod(name, mode, device, dir_fd=parent)
        self._describe_name(entry, parent, name)

    def _make_room(self, parent: int, name: bytes) -> None:
        """Remove what is in an entry's place."""
        present = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(present.st_mode):
            remove_tree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
        self._tree.forget_if_link(present)

    def _describe(self, entry: Entry, fd: int) -> None:
        """Give an open file or directory its owner, mode and extended attributes, in the order in which none undoes another."""
        present = os.fstat(fd)
        owned = present.st_uid == entry.uid and present.st_gid == entry.gid
        if not owned:
            os.fchown(fd, entry.uid, entry.gid)
        # A change of owner may have taken set-id bits away.
        if stat.S_IMODE(present.st_mode) != entry.mode or not owned:
            os.fchmod(fd, entry.mode)
        for key, value in entry.xattrs.items():
            self._set_xattr(fd, key, value)

    def _describe_name(self, entry: Entry, parent: int, name: bytes) -> None:
        """The same for what can't be opened without side effects: links, devices and fifos."""
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != SYMLINK:
            self._change_mode(entry, parent, name)
        for key, value in entry.xattrs.items():
            self._set_xattr(b"/proc/self/fd/%d/%s" % (parent, name), key, value)
        time = _bounded(entry.mtime_ns)
        os.utime(name, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    @staticmethod
    def _change_mode(entry: Entry, parent: int, name: bytes) -> None:
        """Set a mode without following a link that somebody may have put there; fchmodat(2) itself would follow it."""
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                os.chmod(f"/proc/self/fd/{fd}", entry.mode)
        finally:
            os.close(fd)

    @staticmethod
    def _set_xattr(target: int | bytes, key: str, value: bytes) -> None:
        """Set an extended attribute; one that the file system hasn't is passed over, as Docker does."""
        if key.startswith(_RESERVED_XATTRS):
            return
        try:
            if isinstance(target, int):
                os.setxattr(target, key, value)
            else:
                os.setxattr(target, key, value, follow_symlinks=False)
        except OSError as error:
            # The kernel refuses user.* on anything but files and directories by EPERM.
            if error.errno != errno.ENOTSUP and not (error.errno == errno.EPERM and key.startswith("user.")):
                raise

    def _check_space(self, fd: int, written: int) -> None:
        """Refuse to fill the disk to its last block."""
        self._unchecked += written
        if self._unchecked >= _SPACE_CHECK:
            self._unchecked = 0
            volume = os.fstatvfs(fd)
            if volume.f_bavail * volume.f_frsize < self._limits.free_bytes:
                raise LimitExceeded(f"unpacking would leave less than {self._limits.free_bytes} bytes of disk space")

    def _set_times(self) -> None:
        for path, mtime_ns in self._times.items():
            time = _bounded(mtime_ns)
            if not path:
                os.utime(self._tree.root, ns=(time, time))
                continue
            above, _, name = path.rpartition(b"/")
            try:
                parent = self._tree.existing(above)
                if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    os.utime(name, ns=(time, time), dir_fd=parent, follow_symlinks=False)
            except OSError as error:
                # A later entry put something else in its place.
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise


def clean(name: bytes) -> bytes:
    """A name without ``.``, ``..`` and leading slashes; the root is empty.

    Raises:
        InvalidArchive: the name leads out of the archive, or can't be a name.
    """
    if name and name[0] != 47 and b"//" not in name and b"." not in name and b"\0" not in name:
        return name.rstrip(b"/")
    if b"\0" in name or not name:
        raise InvalidArchive(f"archive has an entry named {name!r}")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise InvalidArchive(f"archive entry {name!r} is outside of the archive's root")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def _write(fd: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(fd, piece) :]


def _bounded(time_ns: int) -> int:
    """A time that the kernel can keep; Docker bounds it so as well."""
    return min(max(time_ns, 0), _MAX_NS)
