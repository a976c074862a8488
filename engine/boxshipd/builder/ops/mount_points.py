"""The places where something is mounted for a command, made without the command's layer having them.

What is missing of a mount's target is put into a layer of its own that lies on top of those below and is forgotten afterwards.
So the command's layer has what the command has written, and neither an empty directory nor its parents' changed times.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from boxshipd.builder.ops.layered import LayeredRoot, Place

_HIDDEN = "trusted.overlay."


@dataclass(frozen=True, slots=True)
class Target:
    """A mount's target: its path, whether it is to be a file, and its permission bits where it is made."""

    path: str
    file: bool = False
    mode: int = 0o755


def make_mount_points(root: LayeredRoot, targets: Iterable[Target], directory: str) -> bool:
    """Make what is missing of some mounts' targets.

    Args:
        root: the layers below.
        targets: in the order in which they are mounted on; what lies in another one is that one's to have.
        directory: an empty directory, which becomes the layer; it isn't made where nothing is missing.

    Returns:
        Whether anything is missing, so that the directory is there and is to be used.
    """
    covered: list[bytes] = []
    known: dict[bytes, Place] = {}
    for target in targets:
        if _covered(os.fsencode(target.path).lstrip(b"/"), covered):
            continue
        place = root.place(target.path)
        if not _covered(place.path, covered) and place.status is None:
            _make(root, place.path, target, directory, known)
        covered.append(place.path)
    # From the deepest one up, since making something in a directory changes its times.
    for path in sorted(known, reverse=True):
        _inherit(root, known[path], _inside(directory, path))
    return bool(known)


def _covered(path: bytes, others: Iterable[bytes]) -> bool:
    return any(path == other or path.startswith(other + b"/") for other in others)


def _make(root: LayeredRoot, path: bytes, target: Target, directory: str, known: dict[bytes, Place]) -> None:
    parts = path.split(b"/")
    above = [b"/".join(parts[:count]) for count in range(len(parts))]
    places = {each: known[each] if each in known else root.place("/" + os.fsdecode(each)) for each in above}
    if any(place.status is not None and not place.directory for place in places.values()):
        # It can't be made; whoever is to mount there says so.
        return
    for each, place in places.items():
        os.makedirs(_inside(directory, each), 0o755, exist_ok=True)
        known[each] = place
    final = _inside(directory, path)
    if target.file:
        os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o755))
    else:
        os.makedirs(final, exist_ok=True)
    os.chmod(final, target.mode)


def _inherit(root: LayeredRoot, place: Place, made: str) -> None:
    """Give a directory that is there below as well what it has there: the command sees this one."""
    status = place.status
    if status is None:
        os.chmod(made, 0o755)
        return
    os.chown(made, status.st_uid, status.st_gid)
    os.chmod(made, stat.S_IMODE(status.st_mode))
    source = root.sources(place)[0]
    for name in os.listxattr(source):
        if not name.startswith(_HIDDEN):
            os.setxattr(made, name, os.getxattr(source, name))
    os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))


def _inside(directory: str, path: bytes) -> str:
    return f"{directory}/{os.fsdecode(path)}" if path else directory
