"""Writing an archive into a container's directory, as ``PUT /containers/{id}/archive`` does.

The container may be running and change everything meanwhile: every path is resolved inside its root, step by step by
descriptors, and nothing is followed at the last step, so that no race leads out. A file appears under its name when it is
whole. Source: moby pkg/archive (Unpack).
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from errno import EBUSY, EDQUOT, EIO, EISDIR, ENOENT, ENOSPC, EOPNOTSUPP, EROFS, EXDEV

from boxrun.linux.files import RESOLVE_NO_XDEV, openat2

from boxshipd.errors import Forbidden, InternalError, InvalidParameter
from boxshipd.files.ids import Owners
from boxshipd.files.lookup import mount_id
from boxshipd.files.pack import Walk
from boxshipd.images.unpack.apply import LayerApplier
from boxshipd.images.unpack.limits import Limits
from boxshipd.images.unpack.tar import DIRECTORY, FILE, LINK, SYMLINK, Entry, TarReader
from boxshipd.images.unpack.tree import Tree

_UNNAMED = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
_ITSELF = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OURS = frozenset({ENOSPC, EDQUOT, EIO})

LIMITS = Limits(ratio=1 << 20, free_bytes=0)
"""A client may fill its own disk, and send a file of nothing but zeros; everything else is bounded as an image is."""


class Extraction(LayerApplier):
    """One archive on its way into one directory.

    Args:
        tree: the directory.
        place: how it is called in messages.
        owners: how owners come onto the disk.
        owner: uid and gid of everything that is written, in the container's numbers; None for what the archive says.
        strict: refuse to put a file in a directory's place, or a directory in a file's.
        check: called before each entry; it may raise to end the work.
    """

    def __init__(
        self,
        tree: Tree,
        place: str,
        owners: Owners,
        *,
        owner: tuple[int, int] | None,
        strict: bool,
        check: Callable[[], None],
    ) -> None:
        super().__init__(tree, LIMITS)
        self._place = place
        self._owners = owners
        self._owner = owner
        self._strict = strict
        self._check = check

    def apply(self, reader: TarReader) -> int:
        """Write every entry; bytes of the files."""
        for entry in reader:
            self._check()
            self._apply_one(entry, reader)
        self._set_times()
        return self._size

    def _entry(self, entry: Entry, path: bytes, reader: TarReader) -> None:
        if not path:
            # The directory itself stays as it is.
            return
        above, _, name = path.rpartition(b"/")
        entry.uid, entry.gid = self._owners.outside(*(self._owner or (entry.uid, entry.gid)))
        parent = self._tree.directory(above)
        self._size += entry.length
        self._check_kinds(entry, path, parent, name)
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

    def _check_kinds(self, entry: Entry, path: bytes, parent: int, name: bytes) -> None:
        """Refuse what ``noOverwriteDirNonDir`` refuses, in Docker's words.

        Raises:
            InvalidParameter: a directory and something else are to take each other's place.
        """
        if not self._strict:
            return
        try:
            present = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        full = os.path.join(self._place, os.fsdecode(path))
        if stat.S_ISDIR(present.st_mode) and entry.kind != DIRECTORY:
            raise InvalidParameter(f'cannot overwrite directory "{full}" with non-directory "{self._place}"')
        if not stat.S_ISDIR(present.st_mode) and entry.kind == DIRECTORY:
            raise InvalidParameter(f'cannot overwrite non-directory "{full}" with directory "{self._place}"')

    def _file(self, entry: Entry, parent: int, name: bytes, reader: TarReader) -> None:
        try:
            fd = os.open(b".", _UNNAMED, 0o600, dir_fd=parent)
        except OSError as error:
            if error.errno not in (EOPNOTSUPP, EISDIR, ENOENT):
                raise
            # A file system without unnamed files.
            self._by_name(entry, parent, name, reader)
            return
        try:
            self._fill(entry, fd, reader)
            source = f"/proc/self/fd/{fd}"
            try:
                os.link(source, name, dst_dir_fd=parent, follow_symlinks=True)
            except FileExistsError:
                if _is_mounted(parent, name):
                    _overwrite(fd, parent, name)
                    return
                aside = _aside()
                os.link(source, aside, dst_dir_fd=parent, follow_symlinks=True)
                self._replace(parent, aside, name)
        finally:
            os.close(fd)

    def _by_name(self, entry: Entry, parent: int, name: bytes, reader: TarReader) -> None:
        aside = _aside()
        fd = os.open(aside, _NEW, 0o600, dir_fd=parent)
        try:
            self._fill(entry, fd, reader)
            if _is_mounted(parent, name):
                _overwrite(fd, parent, name)
                os.unlink(aside, dir_fd=parent)
                return
        except BaseException:
            os.unlink(aside, dir_fd=parent)
            raise
        finally:
            os.close(fd)
        self._replace(parent, aside, name)

    def _replace(self, parent: int, aside: bytes, name: bytes) -> None:
        """Put a whole file in the place of whatever has its name."""
        try:
            try:
                os.rename(aside, name, src_dir_fd=parent, dst_dir_fd=parent)
            except IsADirectoryError:
                self._make_room(parent, name)
                os.rename(aside, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(aside, dir_fd=parent)
            raise

    def _directory(self, entry: Entry, path: bytes, parent: int, name: bytes) -> None:
        try:
            present = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            present = None
        if present is not None and not stat.S_ISDIR(present.st_mode):
            self._make_room(parent, name)
        super()._directory(entry, path, parent, name)

    def _make_room(self, parent: int, name: bytes) -> None:
        """Remove what is in an entry's place, unless something is mounted on it or below.

        The mount is in the container's namespace and not in ours, so the kernel wouldn't refuse: it would take the mount away.
        """
        if _is_mounted(parent, name):
            raise OSError(EBUSY, os.strerror(EBUSY))
        own = os.open(name, _ITSELF, dir_fd=parent)
        try:
            if stat.S_ISDIR(os.fstat(own).st_mode):
                _refuse_mounts_below(own)
        finally:
            os.close(own)
        super()._make_room(parent, name)

    def _failure(self, entry: Entry, error: OSError) -> Exception:
        """An error that names the entry and the container's directory."""
        text = f"copy {os.fsdecode(entry.name)} to {self._place}: {(os.strerror(error.errno or 0)).lower()}"
        if error.errno == EROFS:
            return Forbidden(text)
        return InternalError(text) if error.errno in _OURS else InvalidParameter(text)


def _is_mounted(parent: int, name: bytes) -> bool:
    """Whether something is mounted on a name."""
    try:
        os.close(openat2(parent, os.fsdecode(name), _ITSELF, resolve=RESOLVE_NO_XDEV))
    except OSError as error:
        if error.errno == EXDEV:
            return True
        if error.errno != ENOENT:
            raise
    return False


def _refuse_mounts_below(own: int) -> None:
    top = os.open(f"/proc/self/fd/{own}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mount = mount_id(top)
        walk = Walk(top)
        try:
            for fd, _ in walk:
                if mount_id(fd) != mount:
                    raise OSError(EBUSY, os.strerror(EBUSY))
                if stat.S_ISDIR(os.fstat(fd).st_mode):
                    walk.enter()
        finally:
            walk.close()
    finally:
        os.close(top)


def _aside() -> bytes:
    return f".boxship-{secrets.token_hex(8)}".encode()


def _overwrite(source: int, parent: int, name: bytes) -> None:
    """Write one file's content into another, which must be a regular file and is opened as itself."""
    own = os.open(name, _ITSELF, dir_fd=parent)
    try:
        if not stat.S_ISREG(os.fstat(own).st_mode):
            raise OSError(EBUSY, os.strerror(EBUSY))
        target = os.open(f"/proc/self/fd/{own}", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    finally:
        os.close(own)
    try:
        reading = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while piece := memoryview(os.read(reading, 1 << 20)):
                while piece:
                    piece = piece[os.write(target, piece) :]
        finally:
            os.close(reading)
    finally:
        os.close(target)
