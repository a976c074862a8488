"""ADD of archives: what is in them goes to the destination as if they were unpacked there.

A directory of an archive is merged into the one that is there, links to one included; anything else takes the place of what is
there. Owners are the archive's unless ``--chown`` says otherwise, modes and times are its own. Source: BuildKit
solver/llbsolver/file/unpack.go, tar.go; moby pkg/archive, Unpack.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from boxshipd.builder.ops.files_target import Made, Target, moved
from boxshipd.builder.results import Entry, Tree
from boxshipd.builder.trees.paths import join, walk
from boxshipd.errors import InvalidParameter


def unpack(tree: Tree, top: bytes, target: Target, owner: tuple[int, int] | None, check: Callable[[], None]) -> None:
    """Put what an archive has into a directory.

    Args:
        tree: the archive.
        top: the directory's path, resolved; it is there.
        target: where to.
        owner: uid and gid of everything, None for the archive's.
        check: called for each member; it may raise to end the work.

    Raises:
        InvalidParameter: a link in the destination doesn't lead to a directory where one is needed.
    """
    group = target.group()
    # Where the archive's directories have gone.
    places = {b"": top}
    for entry in walk(tree, b""):
        check()
        above, _, name = entry.path.rpartition(b"/")
        path = join(places[above], name)
        if entry.kind == "directory":
            places[entry.path] = _directory(entry, path, target, owner)
            continue
        made = moved(entry, path, mode=entry.mode, owner=owner or (entry.uid, entry.gid), mtime=entry.mtime)
        if entry.kind == "file":
            target.put(Made(made, entry, tree, group=(group, entry.inode) if entry.inode else None))
        else:
            target.put(Made(made))


def _directory(entry: Entry, path: bytes, target: Target, owner: tuple[int, int] | None) -> bytes:
    """Make or merge a directory; where it is."""
    present = target.entry(path)
    if present is not None and present.kind == "symlink":
        path = target.resolve(path)
        present = target.entry(path)
        if present is None:
            target.make_directories(path, 0o755, owner or (0, 0), entry.mtime)
        elif present.kind != "directory":
            raise InvalidParameter(f"mkdir /{path.decode('utf-8', 'backslashreplace')}: not a directory")
    made = moved(entry, path, mode=entry.mode, owner=owner or (entry.uid, entry.gid), mtime=entry.mtime)
    if present is not None and present.kind == "directory":
        made = replace(made, xattrs={**present.xattrs, **entry.xattrs})
    target.put(Made(made))
    return path
