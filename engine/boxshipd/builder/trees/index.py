"""What an archive's members amount to when one after the other is unpacked: an index of files, made without writing any.

It comes to what ``boxshipd.images.unpack`` would write: a member replaces what an earlier one has put in its place, members
below a symbolic link go where it leads inside the archive's root, directories that no member describes are implied, and what
would lead outside is refused.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from msgspec.structs import replace

from boxshipd.builder.dockerfile.ignore import Matcher
from boxshipd.builder.results import Entry, Kind
from boxshipd.builder.trees.paths import follow, join, shown
from boxshipd.images.errors import InvalidArchive, LimitExceeded
from boxshipd.images.unpack import tar
from boxshipd.images.unpack.apply import clean
from boxshipd.images.unpack.limits import MIB

_KINDS: dict[bytes, Kind] = {
    tar.FILE: "file",
    tar.SYMLINK: "symlink",
    tar.CHAR: "char",
    tar.BLOCK_DEVICE: "block",
    tar.DIRECTORY: "directory",
    tar.FIFO: "fifo",
}
# What an index may take in memory, and what one member takes beside its names.
_MEMORY = 768 * MIB
_OVERHEAD = 640
_NO_NAMES: dict[bytes, None] = {}


class Data(NamedTuple):
    """A file's bytes.

    ``offset`` and ``stored`` say where in the archive's stream they are, ``digest`` is their sha256 where that is known,
    ``extents`` are the pieces that there are of a file with holes.
    """

    offset: int
    stored: int
    digest: bytes = b""
    extents: tuple[tuple[int, int], ...] | None = None


class Index:
    """The files.

    Attributes:
        entries: each by its path, the root among them.
        data: where regular files' bytes are, by their paths.
    """

    def __init__(self) -> None:
        self._made = time.time_ns()
        self.entries: dict[bytes, Entry] = {b"": self._implied(b"")}
        self.data: dict[bytes, Data] = {}
        self._names: dict[bytes, dict[bytes, None]] = {b"": {}}
        self._sorted: set[bytes] = set()
        # Where directories that were reached through links are; good until something goes away.
        self._aliases: dict[bytes, bytes] = {}
        self._memory = 0
        self._inodes = 0

    def place(self, name: bytes) -> bytes:
        """Where a member of this name goes.

        Raises:
            InvalidArchive: its name leads outside, or through something that isn't a directory.
        """
        path = clean(name)
        above, _, last = path.rpartition(b"/")
        if above in self._names or not path:
            return path
        return join(self._directory(above), last)

    def add(self, member: tar.Entry, path: bytes, data: Data | None) -> None:
        """Take a member in.

        Args:
            member: what the archive says of it.
            path: what ``place`` says.
            data: where its bytes are; None for anything but a regular file.

        Raises:
            InvalidArchive: it can't be what it says.
            LimitExceeded: there are more of them than anybody needs.
        """
        self._account(member, path)
        if member.kind == tar.LINK:
            self._link(member, path)
            return
        kind = _KINDS[member.kind]
        if kind == "directory":
            self._make_directory(path)
        elif not path:
            raise InvalidArchive(f"archive entry {member.name!r} would replace the root directory")
        else:
            self._make_room(path)
        if kind == "symlink" and (not member.linkname or b"\0" in member.linkname):
            raise InvalidArchive(f"archive entry {member.name!r} is a symbolic link to {member.linkname!r}")
        self.entries[path] = Entry(
            path=path,
            kind=kind,
            mode=member.mode,
            uid=member.uid,
            gid=member.gid,
            size=member.length if data is not None else 0,
            mtime=member.mtime_ns,
            link=member.linkname if kind == "symlink" else b"",
            device=(member.major, member.minor),
            xattrs=member.xattrs,
        )
        if data is not None:
            self.data[path] = data

    def leave_out(self, ignored: set[bytes]) -> None:
        """Drop what is ignored; a directory stays where something in it does."""
        for path in sorted(ignored, reverse=True):
            entry = self.entries.get(path)
            if entry is not None and not self._names.get(path):
                self._forget(path)

    def without(self, exclude: Matcher) -> Index:
        """The same files but for those that a matcher matches."""
        left = Index()
        left.entries, left.data = dict(self.entries), dict(self.data)
        left._names = {path: dict(names) for path, names in self._names.items()}
        left._sorted = set(self._sorted)
        left.leave_out({path for path in self.entries if path and exclude.matches(os.fsdecode(path))})
        return left

    def children(self, path: bytes) -> list[Entry]:
        """What a directory has, by the names' bytes."""
        names = self._names.get(path, _NO_NAMES)
        if path not in self._sorted and path in self._names:
            # Thousands of files in one directory are asked for more than once.
            names = self._names[path] = dict.fromkeys(sorted(names))
            self._sorted.add(path)
        prefix = path + b"/" if path else b""
        return [self.entries[prefix + name] for name in names]

    def resolve(self, path: bytes) -> bytes:
        """As ``Tree.resolve``."""
        return follow(path, self._target)

    def _target(self, path: bytes) -> bytes | None:
        entry = self.entries.get(path)
        return entry.link if entry is not None and entry.kind == "symlink" else None

    def _account(self, member: tar.Entry, path: bytes) -> None:
        self._memory += _OVERHEAD + 2 * len(path) + len(member.linkname)
        if member.xattrs:
            self._memory += sum(map(len, member.xattrs.values()))
        if self._memory > _MEMORY:
            raise LimitExceeded(f"archive has too many files: their names and attributes take more than {_MEMORY} bytes")

    def _implied(self, path: bytes) -> Entry:
        return Entry(path=path, kind="directory", mode=0o755, mtime=self._made)

    def _directory(self, above: bytes) -> bytes:
        """The real path of a directory that a member is in, made where it is missing."""
        known = self._aliases.get(above)
        if known is not None:
            return known
        real = b""
        for name in above.split(b"/"):
            path = join(real, name)
            present = self.entries.get(path)
            if present is None:
                self._memory += _OVERHEAD + 2 * len(path)
                self._make_directory(path)
                self.entries[path] = self._implied(path)
            elif present.kind == "symlink":
                path = self.resolve(path)
            if path not in self._names:
                raise InvalidArchive(f"archive path {above!r}: {shown(path)} is not a directory")
            real = path
        self._aliases[above] = real
        self._memory += len(above)
        return real

    def _make_directory(self, path: bytes) -> None:
        if path in self._names:
            return
        self._make_room(path)
        self._names[path] = {}

    def _make_room(self, path: bytes) -> None:
        """Have the name there, and nothing under it."""
        if path in self.entries:
            self._remove(path)
        above, _, name = path.rpartition(b"/")
        self._names[above][name] = None

    def _remove(self, path: bytes) -> None:
        """Remove what is at a path, with all that is in it."""
        pending = [path]
        while pending:
            path = pending[-1]
            names = self._names.get(path)
            if names:
                pending.extend(join(path, name) for name in names)
                names.clear()
                continue
            pending.pop()
            if self.entries[path].kind in ("directory", "symlink"):
                self._aliases.clear()
            self._forget(path)

    def _forget(self, path: bytes) -> None:
        above, _, name = path.rpartition(b"/")
        self._names[above].pop(name, None)
        self._names.pop(path, None)
        self.data.pop(path, None)
        del self.entries[path]

    def _link(self, member: tar.Entry, path: bytes) -> None:
        target = clean(member.linkname)
        above, _, name = target.rpartition(b"/")
        target = join(self.resolve(above), name)
        source = self.entries.get(target)
        if target == path:
            raise InvalidArchive(f"archive entry {member.name!r} is a hard link to itself")
        if source is None or source.kind == "directory":
            reason = "a directory" if source else "which the archive doesn't have"
            raise InvalidArchive(f"archive entry {member.name!r} is a hard link to {member.linkname!r}, {reason}")
        if not source.inode:
            self._inodes += 1
            source = self.entries[target] = replace(source, inode=self._inodes)
        data = self.data.get(target)
        self._make_room(path)
        self.entries[path] = replace(source, path=path)
        if data is not None:
            self.data[path] = data
