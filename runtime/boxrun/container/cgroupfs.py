"""What a container sees at /sys/fs/cgroup: its own groups as the root of each hierarchy.

On a unified machine that is a cgroup2 mount in the container's cgroup namespace. Beside v1 controllers it is, as with Docker,
a small tmpfs with one directory a hierarchy; these are bind mounts of the container's own groups, which are far cheaper to
make and to tear down than a superblock for each hierarchy. Reference: cgroups(7), cgroup_namespaces(7).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec import Struct

from boxrun.container.options import Options
from boxrun.linux import mounts


class Hierarchy(Struct, frozen=True):
    """A mounted hierarchy of the host: where, and how /proc/<pid>/cgroup names it (empty for cgroup2)."""

    mountpoint: str
    controllers: str

    @property
    def directory(self) -> str:
        """The name of its directory below /sys/fs/cgroup."""
        return os.path.basename(self.mountpoint)


class Membership(Struct, frozen=True):
    """The host's hierarchies and this process's group in each, by the controllers' names."""

    unified: bool
    hierarchies: tuple[Hierarchy, ...]
    groups: dict[str, str]


_mounted: tuple[Hierarchy, ...] | None = None


def mounted() -> tuple[Hierarchy, ...]:
    """Return the host's mounted hierarchies; the mount table is read once in a process's life, best in the fork server."""
    global _mounted  # noqa: PLW0603 - the machine's hierarchies don't change
    if _mounted is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            _mounted = parse_mountinfo(file.read().splitlines())
    return _mounted


def parse_mountinfo(lines: Sequence[str]) -> tuple[Hierarchy, ...]:
    """Return the cgroup hierarchies among the ``lines`` of a mountinfo file, each once. Source: proc_pid_mountinfo(5)."""
    found: dict[str, Hierarchy] = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        kind, _, super_options = after.split(" ", 2)
        if kind not in ("cgroup", "cgroup2") or before.split(" ")[3] != "/":
            continue
        mountpoint = before.split(" ")[4]
        controllers = ""
        if kind == "cgroup":
            generic = {"rw", "ro", "xattr", "clone_children", "noprefix", "favordynmods"}
            names = [name for name in super_options.split(",") if name not in generic and not name.startswith("release_agent")]
            controllers = ",".join(names)
        found.setdefault(controllers, Hierarchy(mountpoint, controllers))
    return tuple(found.values())


def membership() -> Membership:
    """Return this process's groups; to be asked before the cgroup namespace changes and while the host's /proc is in sight."""
    hierarchies = mounted()
    unified = all(not hierarchy.controllers for hierarchy in hierarchies)
    groups: dict[str, str] = {}
    if not unified:
        fd = os.open("/proc/self/cgroup", os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = os.read(fd, 65536)
        finally:
            os.close(fd)
        groups = parse_groups(content.decode(errors="surrogateescape"))
    return Membership(unified, hierarchies, groups)


def parse_groups(content: str) -> dict[str, str]:
    """Return the path by controllers that a /proc/<pid>/cgroup file's ``content`` gives; cgroup2's key is empty."""
    groups = {}
    for line in content.splitlines():
        _, controllers, path = line.split(":", 2)
        groups[controllers] = path
    return groups


def collect(member: Membership) -> list[tuple[str, int]]:
    """Return each v1 hierarchy's directory name and a detached clone of this process's group in it."""
    trees = []
    if not member.unified:
        for hierarchy in member.hierarchies:
            path = member.groups.get(hierarchy.controllers)
            if path is not None:
                trees.append((hierarchy.directory, mounts.open_tree(hierarchy.mountpoint + path)))
    return trees


def attach(target_fd: int, member: Membership, parsed: Options) -> None:
    """Mount the view on the directory ``target_fd``."""
    if member.unified:
        tree_fd = mounts.new_mount("cgroup2", (), parsed.set_flags)
        try:
            mounts.move_mount(tree_fd, target_fd)
        finally:
            os.close(tree_fd)
        return
    writable = parsed.set_flags & ~mounts.MOUNT_ATTR_RDONLY
    shelf_fd = mounts.new_mount("tmpfs", (("mode", "755"), ("size", "64k")), writable)
    try:
        trees = collect(member)
        mounts.move_mount(shelf_fd, target_fd)
        for name, tree_fd in trees:
            os.mkdir(name, 0o755, dir_fd=shelf_fd)
            mounts.mount_setattr(tree_fd, set_flags=parsed.set_flags, propagation=mounts.MS_PRIVATE)
            mounts.move_mount(tree_fd, shelf_fd, name)
            os.close(tree_fd)
        for alias, name in aliases(member.hierarchies):
            os.symlink(name, alias, dir_fd=shelf_fd)
        if parsed.set_flags & mounts.MOUNT_ATTR_RDONLY:
            mounts.mount_setattr(shelf_fd, set_flags=mounts.MOUNT_ATTR_RDONLY)
    finally:
        os.close(shelf_fd)


def aliases(hierarchies: Sequence[Hierarchy]) -> list[tuple[str, str]]:
    """Return a link name and its target for each controller of a hierarchy that has several (``cpu`` for ``cpu,cpuacct``)."""
    taken = {hierarchy.directory for hierarchy in hierarchies}
    return [
        (controller, hierarchy.directory)
        for hierarchy in hierarchies
        if "," in hierarchy.controllers
        for controller in hierarchy.controllers.split(",")
        if controller not in taken
    ]
