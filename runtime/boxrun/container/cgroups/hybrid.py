"""cgroup v1's controllers, with cgroup2 mounted beside them.

cgroup2 holds every container's processes: it kills, freezes and counts them, and an eBPF program, shared by all containers with
the same rules, judges device accesses, where v1's device controller would want a group and a write per rule for each.
Of v1, a container gets a group of its own

* always for ``cpu`` (so that containers share time among themselves, not thread by thread), ``memory`` and ``blkio`` (whose
  counts begin when a process joins);
* for ``cpuset`` and ``pids`` only with a limit. Without one it stays where the zygote settled, a group with no limits below the
  parent, that all share; ``update`` makes the missing group and moves the frozen container into it;
* never for ``cpuacct`` and ``freezer``, as cgroup2's cpu.stat and cgroup.freeze do the same.

Each group spared saves about 80 µs of a start and stop. A container whose parent isn't the one that was settled on gets a group
in every hierarchy, so that whatever limits that parent has hold for it.

A child joins a v1 group by writing ``0`` to ``tasks`` rather than to ``cgroup.procs``: moving only the calling thread needs no
lock on every fork and exit of the machine, and so no RCU grace period, which would cost several milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Collection, Sequence
from typing import Literal

from boxrun.container import spec
from boxrun.container.cgroups import devices, group, limits, limits_v1, tree
from boxrun.container.cgroups.device_programs import DevicePrograms, available
from boxrun.container.cgroups.errors import CgroupBusyError, CgroupError
from boxrun.container.cgroups.hierarchy import Hierarchy
from boxrun.container.cgroups.limits import Setting
from boxrun.container.cgroups.population import end_processes

OWN = frozenset({"cpu", "memory", "blkio"})
"""Controllers in which every container has a group of its own."""

SHARED = "shared"
"""The group, below a parent, of processes without limits of a kind."""


class Hybrid:
    """A machine with v1 controllers and cgroup2; ``model.Cgroups`` says what the methods promise.

    Args:
        mount: where cgroup2 is mounted.
        v1: the v1 hierarchies: where each is mounted, and its controllers.

    Raises:
        CgroupError: cgroup2's root can't be opened.
    """

    version: Literal["1", "2"] = "1"

    def __init__(self, mount: str, v1: Sequence[tuple[str, frozenset[str]]]) -> None:
        self._cgroup2 = Hierarchy(mount, frozenset())
        self._v1 = [Hierarchy(path, names, _inherit_cpuset if "cpuset" in names else None) for path, names in v1]
        names = frozenset().union(*(names for _, names in v1))
        self.controllers = frozenset("io" if name == "blkio" else name for name in names)
        self._programs = _programs(mount)
        own = OWN if self._programs else OWN | {"devices"}
        self._own = [hierarchy for hierarchy in self._v1 if hierarchy.controllers & own]
        self._by_controller = {name: hierarchy for hierarchy in self._v1 for name in hierarchy.controllers}
        self._settled = ""

    def settle(self, parent: str) -> None:
        """Move the calling process to the shared group of every hierarchy where containers need none of their own."""
        self._cgroup2.parent(parent)
        for hierarchy in self._v1:
            directory = hierarchy.parent(parent)
            if hierarchy in self._own:
                continue
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(SHARED, 0o755, dir_fd=directory)
                tree.write(directory, f"{SHARED}/cgroup.procs", "0")
            except OSError as error:
                raise CgroupError(f"join cgroup {hierarchy.mount}{parent}/{SHARED}: {error.strerror}") from error
        self._settled = parent

    def preload(self, rules: tuple[spec.DeviceRule, ...]) -> None:
        """Load the eBPF program for ``rules`` and keep it."""
        if self._programs is not None:
            self._programs.preload(rules)

    def create(self, cgroup: spec.Cgroup, resources: spec.Resources) -> HybridGroup:
        """Make the group with its limits."""
        leaf = tree.component(cgroup.name)
        path = f"{cgroup.parent.rstrip('/')}/{leaf}"
        settings = limits_v1.settings(resources)
        hierarchies = self._v1
        if cgroup.parent == self._settled:
            limited = {self._by_controller.get(setting.controller) for setting in settings}
            hierarchies = [hierarchy for hierarchy in self._v1 if hierarchy in self._own or hierarchy in limited]
        parent = self._cgroup2.parent(cgroup.parent)
        group.make(parent, path, leaf)
        made: list[int] = [parent]
        try:
            fd = tree.open_directory(leaf, parent)
            container = HybridGroup(path, parent, fd, self._places(cgroup.parent), self._programs, new=True)
            try:
                for hierarchy in hierarchies:
                    directory = hierarchy.parent(cgroup.parent)
                    group.make(directory, hierarchy.mount + path, leaf)
                    made.append(directory)
                container.set_limits(settings, resources.devices)
                for directory in made[1:]:
                    container.join_fds.append(os.open(f"{leaf}/tasks", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory))
            except BaseException:
                container.close()
                raise
        except BaseException as error:
            for directory in made:
                tree.remove(directory, leaf)
            if isinstance(error, OSError):
                raise CgroupError(f"create cgroup {path}: {error.strerror}") from error
            raise
        return container

    def lacking(self, parent: str, resources: spec.Resources) -> list[str]:
        """Warnings about the limits that a group below ``parent`` couldn't have."""
        places = {name: (hierarchy.parent(parent), "") for name, hierarchy in self._by_controller.items()}
        if resources.cpu_realtime_runtime and "cpu" in places:
            limits.check_realtime(resources.cpu_realtime_runtime, places["cpu"][0], parent)
        return limits.lacking(limits_v1.settings(resources), places)

    def open(self, cgroup: spec.Cgroup) -> HybridGroup:
        """The existing group."""
        leaf = tree.component(cgroup.name)
        path = f"{cgroup.parent.rstrip('/')}/{leaf}"
        parent = self._cgroup2.existing_parent(cgroup.parent)
        try:
            if parent is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            fd = tree.open_directory(leaf, parent)
        except OSError as error:
            raise CgroupError(f"open cgroup {path}: {error.strerror}") from error
        opened = HybridGroup(path, parent, fd, self._places(cgroup.parent), self._programs, new=False)
        opened.settled = cgroup.parent == self._settled
        return opened

    def sweep(self, parent: str, keep: Collection[str]) -> list[str]:
        """Kill and remove the groups below ``parent`` that ``keep`` doesn't name, be they in one hierarchy only."""
        found: set[str] = set()
        places = []
        for hierarchy in (self._cgroup2, *self._v1):
            directory = hierarchy.existing_parent(parent)
            if directory is not None:
                places.append(directory)
                found.update(tree.children(directory))
        names = sorted(found - set(keep) - {SHARED})
        for name in names:
            with contextlib.suppress(CgroupError):
                self.open(spec.Cgroup(parent=parent, name=name)).remove()
            _remove_v1(places, name, f"{parent}/{name}", time.monotonic() + 10.0)
        return names

    def dissolve(self, parent: str) -> bool:
        """Remove ``parent`` and its shared groups where they are empty."""
        path = "/".join(tree.components(parent))
        gone = True
        for hierarchy in (self._cgroup2, *self._v1):
            hierarchy.forget(parent)
            for directory in (f"{hierarchy.mount}/{path}/{SHARED}", f"{hierarchy.mount}/{path}"):
                try:
                    os.rmdir(directory)
                except OSError as error:
                    if error.errno not in (errno.EBUSY, errno.ENOENT):
                        raise CgroupError(f"remove cgroup {directory}: {error.strerror}") from error
                    gone = gone and error.errno == errno.ENOENT
        return gone

    def close(self) -> None:
        """Close the cached file descriptors."""
        if self._programs is not None:
            self._programs.close()
        for hierarchy in (self._cgroup2, *self._v1):
            hierarchy.close()

    def _places(self, parent: str) -> dict[str, int]:
        """The parent's directory of each v1 controller, or of each hierarchy's mount where it has no controller."""
        return {name: hierarchy.parent(parent) for hierarchy in self._v1 for name in hierarchy.controllers or {hierarchy.mount}}


class HybridGroup(group.Cgroup2Group):
    """A container's group in cgroup2 and some v1 hierarchies; ``model.Group`` says what the methods promise.

    Args:
        name: the group's path below the hierarchies' roots.
        parent: the cgroup2 directory it is in, whose descriptor stays the caller's.
        fd: its cgroup2 directory, which this object closes.
        v1: the parent's directory of each v1 controller, whose descriptors stay the caller's.
        programs: the eBPF programs that judge device accesses; None where the kernel has none.
        new: it has just been made.
    """

    def __init__(
        self, name: str, parent: int, fd: int, v1: dict[str, int], programs: DevicePrograms | None, *, new: bool
    ) -> None:
        super().__init__(name, parent, fd, programs, new=new)
        self._v1 = v1
        self.settled = False
        """The calling process is in the parent's shared groups already."""

    def open_joins(self) -> None:
        """Open the files of every hierarchy's group, or of the shared one where the container has none of its own there."""
        try:
            for parent in set(self._v1.values()):
                for leaf in (self._leaf,) if self.settled else (self._leaf, SHARED):
                    with contextlib.suppress(FileNotFoundError):
                        self.join_fds.append(os.open(f"{leaf}/tasks", os.O_WRONLY | os.O_CLOEXEC, dir_fd=parent))
                        break
        except OSError as error:
            self.joined()
            raise CgroupError(f"open cgroup {self.name}: {error.strerror}") from error

    def set_limits(self, settings: Sequence[Setting], rules: tuple[spec.DeviceRule, ...]) -> None:
        """Write a new group's limits, collecting ``warnings``. Raises CgroupError."""
        self.warnings += limits.apply(settings, self.places(), self.name)
        self.set_devices(rules)

    def set_devices(self, rules: tuple[spec.DeviceRule, ...]) -> None:
        """Let ``rules`` judge device accesses: by v1's device controller where the kernel has no eBPF programs for it."""
        if self._programs is not None:
            super().set_devices(rules)
        elif not (self._new and devices.allows_everything(rules)):
            writes = [limits.setting("devices", file, line) for file, line in devices.lines(rules)]
            limits.apply(writes, self.places(), self.name)

    def update(self, resources: spec.Resources) -> list[str]:
        """Change the limits that ``resources`` sets, first making the groups that only they need."""
        settings = limits_v1.settings(resources)
        with limits.all_or_none(settings, self.places(), self.name):
            warnings = self._update(settings)
            self.set_devices(resources.devices)
        return warnings

    def _update(self, settings: Sequence[Setting]) -> list[str]:
        missing = {
            self._v1[setting.controller]
            for setting in settings
            if setting.controller in self._v1 and not tree.exists(self._v1[setting.controller], self._leaf)
        }
        if missing:
            with self._population.stopped():
                return self._join(missing, settings)
        return limits.apply(settings, self.places(), self.name)

    def oom_kills(self) -> int:
        """Processes of the group and below that were killed for want of memory."""
        if "memory" not in self._v1:
            return 0
        try:
            directory = tree.open_directory(self._leaf, self._v1["memory"])
        except FileNotFoundError:
            return 0
        try:
            return _oom_kills(directory)
        except OSError as error:
            raise CgroupError(f"read memory.oom_control of cgroup {self.name}: {error.strerror}") from error
        finally:
            os.close(directory)

    def oom_watch(self) -> tuple[int, int] | None:
        """An eventfd that becomes readable when the group runs out of memory."""
        if "memory" not in self._v1:
            return None
        place = self._v1["memory"]
        try:
            control = os.open(f"{self._leaf}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC, dir_fd=place)
            try:
                event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                try:
                    tree.write(place, f"{self._leaf}/cgroup.event_control", f"{event} {control}")
                except BaseException:
                    os.close(event)
                    raise
            finally:
                os.close(control)
        except OSError as error:
            raise CgroupError(f"watch memory of cgroup {self.name}: {error.strerror}") from error
        return event, select.POLLIN

    def remove(self, timeout: float = 10.0) -> None:
        """Kill what is left, wait for it, remove the group from every hierarchy and close."""
        deadline = time.monotonic() + timeout
        self.remove_cgroup2(deadline)
        _remove_v1(set(self._v1.values()), self._leaf, self.name, deadline)
        self.close()

    def places(self) -> dict[str, limits.Place]:
        """Where each controller's files are, or would be if the group had one there."""
        prefix = f"{self._leaf}/"
        return {controller: (parent, prefix) for controller, parent in self._v1.items()}

    def _join(self, parents: Collection[int], settings: Sequence[Setting]) -> list[str]:
        """Make the group below each of ``parents``, set the limits, and move all processes in. Returns warnings."""
        made = []
        try:
            for parent in parents:
                group.make(parent, self.name, self._leaf)
                made.append(parent)
            warnings = limits.apply(settings, self.places(), self.name)
            for parent in parents:
                self._move_into(parent)
        except BaseException:
            for parent in made:
                tree.remove(parent, self._leaf)
            raise
        return warnings

    def _move_into(self, parent: int) -> None:
        for pid in self.pids():
            try:
                tree.write(parent, f"{self._leaf}/cgroup.procs", str(pid))
            except ProcessLookupError:
                continue
            except OSError as error:
                raise CgroupError(f"move process {pid} into cgroup {self.name}: {error.strerror}") from error


def _remove_v1(parents: Collection[int], leaf: str, path: str, deadline: float) -> None:
    """Remove the directories called ``leaf`` below each parent, ending processes in them. Raises CgroupBusyError."""
    for parent in parents:
        while not tree.remove(parent, leaf):
            if time.monotonic() > deadline:
                raise CgroupBusyError(f"remove cgroup {path}: processes are still in it")
            try:
                directory = tree.open_directory(leaf, parent)
            except FileNotFoundError:
                break
            try:
                end_processes(directory, deadline)
            finally:
                os.close(directory)


def _oom_kills(directory: int) -> int:
    """Sum over a v1 memory group and those below, since v1 counts a kill only in the victim's own group."""
    total = tree.numbers(tree.read(directory, "memory.oom_control")).get("oom_kill", 0)
    for name in tree.children(directory):
        with contextlib.suppress(FileNotFoundError):
            below = tree.open_directory(name, directory)
            try:
                total += _oom_kills(below)
            finally:
                os.close(below)
    return total


def _programs(mount: str) -> DevicePrograms | None:
    """Where eBPF programs for devices are kept, if this kernel has them. Raises CgroupError."""
    try:
        root = tree.open_directory(mount)
    except OSError as error:
        raise CgroupError(f"open cgroup {mount}: {error.strerror}") from error
    try:
        return DevicePrograms() if available(root) else None
    finally:
        os.close(root)


def _inherit_cpuset(directory: int, above: int | None) -> None:
    """Give a cpuset directory what v1 makes empty, the CPUs and memory of the one above, and hand that on to groups in it."""
    if above is None:
        return
    prefix = "cpuset." if tree.exists(directory, "cpuset.cpus") else ""
    for file in (f"{prefix}cpus", f"{prefix}mems"):
        if not tree.read(directory, file).strip():
            tree.write(directory, file, tree.read(above, file).strip())
    tree.write(directory, "cgroup.clone_children", "1")
