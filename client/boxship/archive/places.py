"""Where a copy goes: Docker's rules of ``cp``, which depend on what is there already and on how paths end.

Source: moby pkg/archive/copy.go.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import NamedTuple

from boxship.errors import CommandError

_MOST_LINKS = 10


class Place(NamedTuple):
    """One end of a copy.

    Attributes:
        path: absolute; a slash or ``/.`` at its end counts.
        exists: whether there is something.
        directory: whether that is a directory.
        name: what the source is called in the archive where that isn't its path's last part.
    """

    path: str
    exists: bool
    directory: bool
    name: str = ""


class Plan(NamedTuple):
    """What is to be done: extract into ``directory``, calling what the archive calls ``old`` ``new``."""

    directory: str
    old: str = ""
    new: str = ""


def plan(source: Place, target: Place) -> Plan:
    """How the archive of ``source`` gets to ``target``.

    Raises:
        CommandError: a directory would replace a file, or a file is to be put into a directory that isn't there.
    """
    if target.exists and target.directory:
        return Plan(target.path)
    if target.exists and source.directory:
        raise CommandError("cannot copy directory")
    if not target.exists and not source.directory and asserts_directory(target.path):
        raise CommandError("no such directory")
    directory, new = split(target.path)
    return Plan(directory, source.name or split(source.path)[1], new)


def split(path: str) -> tuple[str, str]:
    """A path's directory and its last part, which is ``.`` where the path ends so."""
    clean = posixpath.normpath(path)
    if path.endswith("/.") or path == ".":
        return clean, "."
    return posixpath.dirname(clean) or ".", posixpath.basename(clean) or "/"


def asserts_directory(path: str) -> bool:
    """Whether a path can only be a directory's."""
    return path.endswith(("/", "/.")) or path == "."


def absolute(path: str) -> str:
    """A local path from the root, its end as it was."""
    return ending(os.path.abspath(path), path)


def ending(clean: str, path: str) -> str:
    """A clean path with the slash or ``/.`` that ``path`` ends with."""
    if path == "." or path.endswith("/."):
        return clean if clean.endswith("/.") else f"{clean.rstrip('/')}/."
    return f"{clean}/" if path.endswith("/") and not clean.endswith("/") else clean


def rebased(path: str, resolved: str) -> tuple[str, str]:
    """A path that links were resolved in, ended as before, and the name to keep where the last part has become another."""
    resolved = ending(resolved, path)
    old = split(path)[1]
    return resolved, old if old != split(resolved)[1] else ""


def local_source(path: str, *, follow: bool) -> Place:
    """A file or directory of this machine, to be copied from.

    Raises:
        OSError: there is nothing.
    """
    name = ""
    if follow:
        resolved = os.path.realpath(path, strict=True)
        path, name = rebased(path, resolved)
    else:
        above, last = posixpath.split(path)
        resolved = f"{os.path.realpath(above, strict=True).rstrip('/')}/{last}"
        if path.endswith("/") and split(path)[1] != split(resolved)[1]:
            name = split(path)[1]
        path = resolved
    return Place(path, True, stat.S_ISDIR(os.lstat(path).st_mode), name)


def local_target(path: str) -> Place:
    """A path of this machine, to be copied to.

    Raises:
        CommandError: its directory isn't there, or it is neither a file nor a directory.
        OSError: it can't be looked at.
    """
    for _ in range(_MOST_LINKS):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            parent = split(path)[0]
            if not os.path.exists(parent):
                raise CommandError(f'invalid output path: directory "{parent}" does not exist') from None
            if not os.path.isdir(parent):
                raise CommandError("not a directory") from None
            return Place(path, False, False)
        if not stat.S_ISLNK(status.st_mode):
            check_kind(status.st_mode, f'invalid output path: "{path}" must be a directory or a regular file')
            return Place(path, True, stat.S_ISDIR(status.st_mode))
        path = os.path.join(split(path)[0], os.readlink(path.rstrip("/")))
    raise CommandError(f'too many symlinks in "{path}"')


def check_kind(mode: int, message: str) -> None:
    """Refuse what is neither a directory nor a regular file.

    Raises:
        CommandError: it is a device or something else.
    """
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise CommandError(f"{message}: got a device")
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise CommandError(f"{message}: got an irregular file")
