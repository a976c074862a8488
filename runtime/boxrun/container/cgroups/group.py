"""What a container's group does alike on every machine, as cgroup2 is always there: its processes, devices and descriptors."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Self

from boxrun.container.cgroups import tree
from boxrun.container.cgroups.device_programs import DevicePrograms
from boxrun.container.cgroups.errors import CgroupBusyError, CgroupError
from boxrun.container.cgroups.population import Population
from boxrun.container.spec import DeviceRule


class Cgroup2Group:
    """The cgroup2 part of a container's group; ``model.Group`` says what the methods promise.

    Args:
        name: the group's path below the hierarchy's root.
        parent: the directory it is in, whose descriptor stays the caller's.
        fd: its own directory, which this object closes.
        programs: the eBPF programs that judge device accesses; None where the kernel has none.
        new: it has just been made, so that nothing can be attached to it yet.
    """

    def __init__(self, name: str, parent: int, fd: int, programs: DevicePrograms | None, *, new: bool) -> None:
        self.name = name
        self.fd = fd
        self.join_fds: list[int] = []
        self.warnings: list[str] = []
        self._parent = parent
        self._leaf = name.rpartition("/")[2]
        self._programs = programs
        self._new = new
        self._population = Population(fd, name)

    def joined(self) -> None:
        """Close ``join_fds``."""
        while self.join_fds:
            os.close(self.join_fds.pop())

    def open_joins(self) -> None:
        """Nothing is to be opened: cgroup2 is entered with the clone."""

    def pids(self) -> list[int]:
        """Every process of the group and below."""
        return self._population.pids()

    def kill(self) -> None:
        """Kill every process of the group and below."""
        self._population.kill()

    def signal(self, signum: int) -> None:
        """Send ``signum`` to every process of the group and below."""
        self._population.signal(signum)

    def freeze(self, timeout: float = 10.0) -> None:
        """Stop every process and wait until all have stopped."""
        self._population.freeze(timeout)

    def thaw(self) -> None:
        """Let the processes run again."""
        self._population.thaw()

    def frozen(self) -> bool:
        """Whether the group is frozen, or about to be."""
        return self._population.frozen()

    def wait_empty(self, timeout: float) -> bool:
        """Wait until no process is left; whether that came true."""
        return self._population.wait_empty(timeout)

    def close(self) -> None:
        """Close every file descriptor."""
        self.joined()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def remove_cgroup2(self, deadline: float) -> None:
        """Remove the cgroup2 directory, killing and waiting until ``deadline`` (of time.monotonic). Raises CgroupBusyError."""
        while not tree.remove(self._parent, self._leaf):
            self._population.kill()
            left = deadline - time.monotonic()
            if left <= 0 or not self._population.wait_empty(left):
                raise CgroupBusyError(f"remove cgroup {self.name}: processes {self._population.pids()} are still in it")

    def set_devices(self, rules: tuple[DeviceRule, ...]) -> None:
        """Let ``rules`` judge device accesses, in place of those there were; none change nothing. Raises CgroupError."""
        if not rules:
            return
        if self._programs is None:
            raise CgroupError(f"set device rules of cgroup {self.name}: this kernel has no eBPF programs for cgroups")
        self._programs.attach(self.fd, rules, self._new)


def make(parent: int, path: str, leaf: str) -> None:
    """Make a group's directory, in place of an empty one that a crash left behind.

    Args:
        parent: the directory it is made in.
        path: the whole path, for messages.
        leaf: its name.

    Raises:
        CgroupBusyError: one with processes in it is there.
        CgroupError: the kernel refused.
    """
    try:
        try:
            os.mkdir(leaf, 0o755, dir_fd=parent)
        except FileExistsError:
            if not tree.remove(parent, leaf):
                raise CgroupBusyError(f"create cgroup {path}: one of that name is in use") from None
            os.mkdir(leaf, 0o755, dir_fd=parent)
    except OSError as error:
        raise CgroupError(f"create cgroup {path}: {error.strerror}") from error
