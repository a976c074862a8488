"""The file system that files are copied into: what is below, and what was put on it so far.

Nothing is written before all is known: every place that an action names is looked for in what the earlier ones have left, and
the one layer that comes of all of them is the same however they came about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from boxship.archive import tar_writer
from msgspec.structs import replace

from boxshipd.builder.results import Entry, Tree
from boxshipd.builder.trees.pack import pack_file, pack_header
from boxshipd.builder.trees.paths import follow, join, shown
from boxshipd.errors import InvalidParameter

# A directory of which more names than this are asked for is listed.
_SINGLY = 6
# What the kernel takes, less the slash before it and the end's zero. Source: linux/limits.h.
_LONGEST_PATH, _LONGEST_NAME = 4094, 255
_OPAQUE = b".wh..wh..opq"
_WHITEOUT = b".wh."
_NOTHING: dict[bytes, Entry] = {}
_ROOT = Entry(path=b"", kind="directory", mode=0o755)


class Made(NamedTuple):
    """Something that is to be in the layer.

    Attributes:
        entry: what it is, at its place.
        source: the entry that its bytes are of, for a regular file.
        tree: where those are.
        data: its bytes, where no tree has them.
        group: what hard links to the same file have in common, None for none.
    """

    entry: Entry
    source: Entry | None = None
    tree: Tree | None = None
    data: bytes = b""
    group: tuple[int, int] | None = None


class Target:
    """The file system.

    Args:
        below: what it is so far.
    """

    def __init__(self, below: Tree) -> None:
        self._below = below
        self._made: dict[bytes, Made] = {}
        # What each directory has got; never more than there is in ``_made``.
        self._names: dict[bytes, set[bytes]] = {}
        # What was there below and is gone, with all that was in it.
        self._gone: set[bytes] = set()
        self._listings: dict[bytes, dict[bytes, Entry]] = {}
        self._asked: Counter[bytes] = Counter()
        # What isn't there below: nothing under it has to be looked for, however long a path goes on.
        self._absent: set[bytes] = set()
        self._groups = 0

    @property
    def changed(self) -> bool:
        """Whether anything was put on it."""
        return bool(self._made)

    def group(self) -> int:
        """A number for a source's hard links that no other source has."""
        self._groups += 1
        return self._groups

    def entry(self, path: bytes) -> Entry | None:
        """What is at a path; links aren't followed."""
        made = self._made.get(path)
        return self._beneath(path) if made is None else made.entry

    def resolve(self, path: bytes) -> bytes:
        """Where a path leads, as ``Tree.resolve``."""
        return follow(path, self._link)

    def put(self, made: Made, *, replace_directory: bool = True) -> None:
        """Put something there, whose directory must be; what else is there goes.

        Args:
            made: what.
            replace_directory: whether something else may take a directory's place, with all that is in it.

        Raises:
            InvalidParameter: a layer can't have such a name, or a directory is there.
        """
        path = made.entry.path
        above, _, name = path.rpartition(b"/")
        if b"\0" in path or len(path) > _LONGEST_PATH or len(name) > _LONGEST_NAME:
            raise InvalidParameter(f"{shown(path[:_LONGEST_NAME])!r}: no file can have such a name, or it is too long")
        if name.startswith(_WHITEOUT):
            raise InvalidParameter(f"{shown(path)}: no layer can have a file whose name begins with .wh.")
        if made.entry.kind != "directory":
            present = self.entry(path)
            if present is not None and present.kind == "directory":
                if not replace_directory:
                    raise InvalidParameter(f"cannot replace to directory {shown(path)} with file")
                self._remove(path)
        self._made[path] = made
        self._names.setdefault(above, set()).add(name)

    def make_directories(self, path: bytes, mode: int, owner: tuple[int, int], mtime: int) -> None:
        """Make a directory, whose path is resolved, with those above it, where missing.

        Raises:
            InvalidParameter: something on the way isn't one.
        """
        missing: list[bytes] = []
        while path:
            present = self.entry(path)
            if present is not None:
                if present.kind != "directory":
                    raise InvalidParameter(f"mkdir {shown(path)}: not a directory")
                break
            missing.append(path)
            path = path.rpartition(b"/")[0]
        for each in reversed(missing):
            entry = Entry(path=each, kind="directory", mode=mode, uid=owner[0], gid=owner[1], mtime=mtime)
            self.put(Made(entry))

    def read(self, path: str, limit: int) -> bytes | None:
        """A file's bytes, of a longer one one more than ``limit``; None where there is no file."""
        made_path = self.resolve(path.encode("utf-8", "surrogateescape"))
        made = self._made.get(made_path)
        entry = made.source if made is not None else self._beneath(made_path)
        if made is not None and entry is None:
            return made.data if made.entry.kind == "file" else None
        if entry is None or entry.kind != "file":
            return None
        with (made.tree if made is not None and made.tree else self._below).open(entry) as file:
            return file.read(limit + 1)

    def members(self) -> Iterator[bytes]:
        """The layer's archive, without its end, in the order of the names.

        Directories above what was put there are in it as they are below.
        """
        told: set[bytes] = {b""}
        links: dict[tuple[int, int], bytes] = {}
        for path in sorted(self._made):
            for above in _missing(path.rpartition(b"/")[0], told):
                known = self._beneath(above)
                if known is not None:
                    yield pack_header(known)
            told.add(path)
            yield from self._member(self._made[path], links)

    def _member(self, made: Made, links: dict[tuple[int, int], bytes]) -> Iterator[bytes]:
        entry = made.entry
        if made.group is not None:
            first = links.setdefault(made.group, entry.path)
            if first != entry.path:
                yield pack_header(entry, linkname=first)
                return
        if entry.kind == "file" and made.tree is not None and made.source is not None:
            yield from pack_file(entry, made.source, made.tree)
            return
        yield pack_header(entry)
        if entry.kind == "file":
            yield made.data + tar_writer.padding(len(made.data))
        elif entry.kind == "directory" and entry.path in self._gone:
            yield tar_writer.header(tar_writer.FILE, join(entry.path, _OPAQUE), mode=0o600)

    def _link(self, path: bytes) -> bytes | None:
        entry = self.entry(path)
        return entry.link if entry is not None and entry.kind == "symlink" else None

    def _beneath(self, path: bytes) -> Entry | None:
        """What is below at a path and not hidden."""
        if not path:
            return self._below.entry(b"") or _ROOT
        above, _, name = path.rpartition(b"/")
        if above in self._absent:
            self._absent.add(path)
            return None
        listing = self._listings.get(above)
        if listing is None:
            listing = self._look(above)
        entry = self._below.entry(path) if listing is None else listing.get(name)
        if entry is None and listing is None:
            self._absent.add(path)
        return None if entry is None or (self._gone and self._is_gone(path)) else entry

    def _look(self, directory: bytes) -> dict[bytes, Entry] | None:
        """All that a directory below has, where that is known, or worth while."""
        self._asked[directory] += 1
        above, _, name = directory.rpartition(b"/")
        known = self._listings.get(above) if directory else None
        if known is not None and name not in known:
            # Thousands of files may go to a new directory.
            listing = _NOTHING
        elif self._asked[directory] <= _SINGLY:
            return None
        else:
            prefix = len(directory) + 1 if directory else 0
            listing = {entry.path[prefix:]: entry for entry in self._below.children(directory)}
        self._listings[directory] = listing
        return listing

    def _is_gone(self, path: bytes) -> bool:
        while path:
            if path in self._gone:
                return True
            path = path.rpartition(b"/")[0]
        return False

    def _remove(self, path: bytes) -> None:
        """Remove a directory with all that is in it."""
        below = self._beneath(path)
        if below is not None and below.kind == "directory":
            self._gone.add(path)
        pending = [path]
        while pending:
            directory = pending.pop()
            for name in self._names.pop(directory, ()):
                inner = join(directory, name)
                del self._made[inner]
                pending.append(inner)
        self._made.pop(path, None)


def moved(entry: Entry, path: bytes, *, mode: int, owner: tuple[int, int], mtime: int) -> Entry:
    """An entry at another place, with attributes of its own."""
    return replace(entry, path=path, mode=mode, uid=owner[0], gid=owner[1], mtime=mtime, inode=0)


def _missing(path: bytes, told: set[bytes]) -> list[bytes]:
    """The directories on the way to a path that weren't told yet, which they are now."""
    found: list[bytes] = []
    while path not in told:
        found.append(path)
        told.add(path)
        path = path.rpartition(b"/")[0]
    return found[::-1]
