"""Carrying out what COPY and ADD say, on a file system that isn't written yet.

Where a source goes is BuildKit's way: a directory's content goes to the destination, anything else too unless that is a
directory, which it goes into. Directories that have to be made are 0755 and the new files' owner's, those that are there stay
as they are; directories within a copied one get what the source's have. Source: fsutil copy/copy.go.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from boxrun.container.users import FILE_LIMIT
from msgspec.structs import replace

from boxshipd.builder.graph import Copy, MakeDirectory, MakeFile
from boxshipd.builder.ops.files_mode import Change, parse_mode
from boxshipd.builder.ops.files_owner import parse_owner
from boxshipd.builder.ops.files_sources import Pick, Selection
from boxshipd.builder.ops.files_target import Made, Target, moved
from boxshipd.builder.results import Entry, Tree
from boxshipd.builder.trees.paths import join, shown
from boxshipd.errors import InvalidParameter

_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Attributes:
    """What new files get.

    Attributes:
        owner: uid and gid; None for the source's.
        change: what becomes of the mode; None for nothing.
        times: ns since the epoch; None for the source's.
        now: ns since the epoch: for what has no source.
    """

    owner: tuple[int, int] | None
    change: Change | None
    times: int | None
    now: int

    @property
    def made_owner(self) -> tuple[int, int]:
        """The owner of directories that have to be made."""
        return self.owner or (0, 0)

    @property
    def made_time(self) -> int:
        """The time of what has no source."""
        return self.now if self.times is None else self.times

    def given(self, entry: Entry, path: bytes) -> Entry:
        """A source's entry as it is at its new place."""
        mode = entry.mode
        if self.change is not None and entry.kind != "symlink":
            mode = self.change(mode, entry.kind == "directory")
        owner = (entry.uid, entry.gid) if self.owner is None else self.owner
        mtime = entry.mtime if self.times is None else self.times
        return moved(entry, path, mode=mode, owner=owner, mtime=mtime)


def attributes(action: Copy | MakeFile | MakeDirectory, target: Target, now: int) -> Attributes:
    """What an action says of new files' attributes.

    Raises:
        InvalidParameter: it names nobody, or its mode is none.
    """
    owner: tuple[int, int] | None = parse_owner(action.owner, lambda path: target.read(path, FILE_LIMIT))
    if isinstance(action, Copy) and action.keep_owner and not action.owner:
        owner = None
    change = parse_mode(action.mode) if not isinstance(action, MakeDirectory) and action.mode else None
    return Attributes(owner, change, None if action.times is None else action.times * _SECOND, now)


class Placing:
    """Puts what one action brings where it belongs.

    Args:
        target: the file system.
        destination: the action's.
        directory: it is a directory, whatever is there.
        given: what new files get.
    """

    def __init__(self, target: Target, destination: str, *, directory: bool, given: Attributes) -> None:
        self._target = target
        path = os.fsencode(destination)
        last = path.rpartition(b"/")[2]
        self._is_directory = directory or last in (b"", b".", b"..")
        self._path = path
        self._given = given

    def demand_directory(self, keyword: str) -> None:
        """Check that the destination is a directory, or is to be one, as several sources need it.

        Raises:
            InvalidParameter: it isn't.
        """
        present = None if self._is_directory else self._target.entry(self._target.resolve(self._path))
        if not self._is_directory and (present is None or present.kind != "directory"):
            raise InvalidParameter(
                f"When using {keyword} with more than one source file, the destination must be a directory and end with a /"
            )

    def destination(self) -> bytes:
        """Where the destination is, with what has to be above it."""
        needed = self._path if self._is_directory else self._path.rpartition(b"/")[0]
        self.make_directories(self._target.resolve(needed))
        return self._target.resolve(self._path)

    def make_directories(self, path: bytes) -> None:
        """Make a directory, and those above it, where missing."""
        self._target.make_directories(path, _DIRECTORY_MODE, self._given.made_owner, self._given.made_time)

    def place(self, name: bytes) -> bytes:
        """Where a file of that name goes."""
        path = self.destination()
        present = self._target.entry(path)
        if present is not None and present.kind == "directory":
            path = join(path, name)
        self.make_directories(path.rpartition(b"/")[0])
        return path

    def copy(self, pick: Pick, selection: Selection, tree: Tree) -> None:
        """Copy one source.

        Raises:
            InvalidParameter: a file and a directory are to take each other's place.
        """
        group = self._target.group()
        if pick.entry.kind != "directory":
            self._put(pick.entry, self.place(pick.name), tree, group)
            return
        top = self.destination()
        present = self._target.entry(top)
        if present is None:
            self.make_directories(top)
        elif present.kind != "directory":
            raise InvalidParameter(f"cannot copy to non-directory: {shown(top)}")
        for path, entry, passage in selection.contents(pick):
            place = join(top, path)
            if entry.kind == "directory":
                self._put_directory(entry, place, passage=passage)
            else:
                self._put(entry, place, tree, group)

    def put_new(self, path: bytes, data: bytes) -> None:
        """Write a file that has no source."""
        entry = Entry(path=path, kind="file", mode=_FILE_MODE, size=len(data), mtime=self._given.made_time)
        self._target.put(Made(self._given.given(entry, path), data=data), replace_directory=False)

    def _put(self, entry: Entry, path: bytes, tree: Tree, group: int) -> None:
        made = self._given.given(entry, path)
        if entry.kind != "file":
            self._target.put(Made(made), replace_directory=False)
            return
        # Links are kept within one source.
        links = (group, entry.inode) if entry.inode else None
        self._target.put(Made(made, entry, tree, group=links), replace_directory=False)

    def _put_directory(self, entry: Entry, path: bytes, *, passage: bool) -> None:
        present = self._target.entry(path)
        made = self._given.given(entry, path)
        if present is not None:
            if present.kind != "directory":
                raise InvalidParameter(f"cannot copy to non-directory: {shown(path)}")
            made = (
                replace(made, xattrs={**present.xattrs, **entry.xattrs}) if not passage else replace(present, mode=entry.mode)
            )
        self._target.put(Made(made))
