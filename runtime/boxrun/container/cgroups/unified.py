"""cgroup v2 with its own controllers: one directory per container."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Collection
from typing import Literal

from boxrun.container import spec
from boxrun.container.cgroups import group, limits, limits_v2, tree
from boxrun.container.cgroups.device_programs import DevicePrograms, available
from boxrun.container.cgroups.errors import CgroupError
from boxrun.container.cgroups.hierarchy import Hierarchy
from boxrun.container.cgroups.limits_v2 import Present

WANTED = ("cpu", "cpuset", "io", "memory", "pids")
"""The controllers that limits need."""


class Unified:
    """A machine with a single cgroup2 hierarchy; ``model.Cgroups`` says what the methods promise.

    Args:
        mount: where cgroup2 is mounted.

    Raises:
        CgroupError: its root can't be read.
    """

    version: Literal["1", "2"] = "2"

    def __init__(self, mount: str) -> None:
        try:
            root = tree.open_directory(mount)
            try:
                self.controllers = frozenset(tree.read(root, "cgroup.controllers").split())
                self._programs = DevicePrograms() if available(root) else None
            finally:
                os.close(root)
        except OSError as error:
            raise CgroupError(f"read cgroup controllers of {mount}: {error.strerror}") from error
        self._hierarchy = Hierarchy(mount, frozenset(), _enable_controllers)

    def settle(self, parent: str) -> None:
        """Make ``parent`` with its controllers. Nothing needs to move: children are cloned into their group."""
        self._hierarchy.parent(parent)

    def preload(self, rules: tuple[spec.DeviceRule, ...]) -> None:
        """Load the eBPF program for ``rules`` and keep it."""
        if self._programs is not None:
            self._programs.preload(rules)

    def create(self, cgroup: spec.Cgroup, resources: spec.Resources) -> UnifiedGroup:
        """Make the group with its limits."""
        leaf = tree.component(cgroup.name)
        path = f"{cgroup.parent.rstrip('/')}/{leaf}"
        settings = limits_v2.settings(resources)
        parent = self._hierarchy.parent(cgroup.parent)
        group.make(parent, path, leaf)
        try:
            made = UnifiedGroup(path, parent, tree.open_directory(leaf, parent), self._programs, new=True)
            try:
                made.warnings += limits.apply(settings, made.places(self.controllers), path)
                made.set_devices(resources.devices)
            except BaseException:
                made.close()
                raise
        except BaseException:
            tree.remove(parent, leaf)
            raise
        return made

    def lacking(self, parent: str, resources: spec.Resources) -> list[str]:
        """Warnings about the limits that a group below ``parent`` couldn't have."""
        directory = self._hierarchy.parent(parent)
        return limits.lacking(limits_v2.settings(resources), dict.fromkeys(self.controllers, (directory, "")))

    def open(self, cgroup: spec.Cgroup) -> UnifiedGroup:
        """The existing group."""
        leaf = tree.component(cgroup.name)
        path = f"{cgroup.parent.rstrip('/')}/{leaf}"
        parent = self._hierarchy.existing_parent(cgroup.parent)
        try:
            if parent is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return UnifiedGroup(path, parent, tree.open_directory(leaf, parent), self._programs, new=False)
        except OSError as error:
            raise CgroupError(f"open cgroup {path}: {error.strerror}") from error

    def sweep(self, parent: str, keep: Collection[str]) -> list[str]:
        """Kill and remove the groups below ``parent`` that ``keep`` doesn't name."""
        directory = self._hierarchy.existing_parent(parent)
        names = [] if directory is None else [name for name in tree.children(directory) if name not in keep]
        for name in names:
            self.open(spec.Cgroup(parent=parent, name=name)).remove()
        return names

    def dissolve(self, parent: str) -> bool:
        """Remove ``parent`` where it is empty."""
        self._hierarchy.forget(parent)
        try:
            os.rmdir("/".join([self._hierarchy.mount, *tree.components(parent)]))
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOENT):
                raise CgroupError(f"remove cgroup {parent}: {error.strerror}") from error
            return error.errno == errno.ENOENT
        return True

    def close(self) -> None:
        """Close the cached file descriptors."""
        if self._programs is not None:
            self._programs.close()
        self._hierarchy.close()


class UnifiedGroup(group.Cgroup2Group):
    """A container's one directory; ``model.Group`` says what the methods promise."""

    def places(self, controllers: Collection[str] = WANTED) -> dict[str, limits.Place]:
        """Where each controller's files are: all in the one directory."""
        return dict.fromkeys(controllers, (self.fd, ""))

    def update(self, resources: spec.Resources) -> list[str]:
        """Change the limits that ``resources`` sets."""
        settings = limits_v2.settings(resources, Present(self._memory_limit(), self._file("cpu.max", "max").split()[0]))
        with limits.all_or_none(settings, self.places(), self.name):
            warnings = limits.apply(settings, self.places(), self.name)
            self.set_devices(resources.devices)
        return warnings

    def oom_kills(self) -> int:
        """Processes of the group and below that were killed for want of memory."""
        return tree.numbers(self._file("memory.events", "")).get("oom_kill", 0)

    def oom_watch(self) -> tuple[int, int] | None:
        """memory.events, which shows POLLPRI when one of its counts grows."""
        try:
            events = os.open("memory.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        os.pread(events, 1, 0)
        return events, select.POLLPRI

    def remove(self, timeout: float = 10.0) -> None:
        """Kill what is left, wait for it, remove the group and close."""
        self.remove_cgroup2(time.monotonic() + timeout)
        self.close()

    def _memory_limit(self) -> int:
        limit = self._file("memory.max", "max").strip()
        return 0 if limit == "max" else int(limit)

    def _file(self, name: str, default: str) -> str:
        """A file's text, or ``default`` where the kernel has no such file. Raises CgroupError."""
        try:
            return tree.read(self.fd, name)
        except FileNotFoundError:
            return default
        except OSError as error:
            raise CgroupError(f"read {name} of cgroup {self.name}: {error.strerror}") from error


def _enable_controllers(directory: int, _above: int | None) -> None:
    """Let groups in ``directory`` have limits of their own. Raises OSError, EBUSY where processes are in it.

    A controller may refuse for itself (cpu, while real-time processes run): that shows where its limit is asked for.
    """
    there = set(tree.read(directory, "cgroup.controllers").split())
    enabled = set(tree.read(directory, "cgroup.subtree_control").split())
    for controller in sorted(there.intersection(WANTED) - enabled):
        try:
            tree.write(directory, "cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise
