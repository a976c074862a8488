"""Which file system a path is on. Source: proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
from typing import NamedTuple


class FileSystem(NamedTuple):
    """A mounted file system.

    Attributes:
        kind: its type, ``ext4``.
        options: what it was mounted with, its own options and not those of one mount.
    """

    kind: str
    options: frozenset[str]


def of_path(path: str) -> FileSystem | None:
    """The file system that ``path`` is on; None where nobody says. Raises OSError: there is no such path."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            if fields.split()[2] == wanted:
                kind, _, options = rest.split()
                return FileSystem(kind, frozenset(options.split(",")))
    return None
