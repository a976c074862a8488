"""Finding out which cgroup hierarchies the machine has."""

from __future__ import annotations

from collections.abc import Iterable

from boxrun.container.cgroups.errors import CgroupError, CgroupUnavailableError
from boxrun.container.cgroups.hybrid import Hybrid
from boxrun.container.cgroups.model import Cgroups
from boxrun.container.cgroups.unified import Unified

_NOT_CONTROLLERS = frozenset({"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"})


def detect(mountinfo: str = "/proc/self/mountinfo") -> Cgroups:
    """The machine's cgroup hierarchies.

    Args:
        mountinfo: the list of mounts, in the format of proc_pid_mountinfo(5).

    Raises:
        CgroupUnavailableError: cgroup2 is mounted nowhere.
        CgroupError: it can't be read.
    """
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as lines:
            cgroup2, v1 = mounts(lines)
    except OSError as error:
        raise CgroupError(f"read {mountinfo}: {error.strerror}") from error
    if cgroup2 is None:
        raise CgroupUnavailableError(
            "cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup, or beside v1's hierarchies on /sys/fs/cgroup/unified"
        )
    unified = Unified(cgroup2)
    if "memory" in unified.controllers or not any(controllers for _, controllers in v1):
        return unified
    return Hybrid(cgroup2, v1)


def mounts(lines: Iterable[str]) -> tuple[str | None, list[tuple[str, frozenset[str]]]]:
    """Where cgroup2 is mounted, and each v1 hierarchy with its controllers (none for a named one), each at its first mount."""
    cgroup2: str | None = None
    v1: dict[frozenset[str], tuple[str, frozenset[str]]] = {}
    for line in lines:
        fields, _, rest = line.partition(" - ")
        kind, _, super_options = rest.split(" ", 2)
        path = _unescaped(fields.split(" ", 5)[4])
        if kind == "cgroup2" and cgroup2 is None:
            cgroup2 = path
        elif kind == "cgroup":
            options = (option for option in super_options.strip().split(",") if not option.startswith("release_agent="))
            key = frozenset(options) - _NOT_CONTROLLERS
            controllers = frozenset(option for option in key if not option.startswith("name="))
            v1.setdefault(key, (path, controllers))
    return cgroup2, list(v1.values())


def _unescaped(path: str) -> str:
    """A path of mountinfo, where blanks and backslashes are three octal digits."""
    first, *rest = path.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)
