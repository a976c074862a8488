"""What every cgroup implementation offers: ``Cgroups``, the machine's hierarchies; ``Group``, a container's group in them."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Literal, Protocol, Self

from boxrun.container import spec
from boxrun.container.cgroups.limits import Place


class Group(Protocol):
    """One container's cgroup, in every hierarchy it has one in.

    Owns file descriptors: close it, or use it as a context manager. Closing leaves the cgroup itself alone.
    """

    name: str
    """Path of the group below the hierarchies' root, for messages."""
    fd: int
    """The cgroup2 directory, for CLONE_INTO_CGROUP."""
    join_fds: list[int]
    """``tasks`` files of the v1 hierarchies: the child, while it has a single thread, writes ``b"0"`` to each before it
    unshares the cgroup namespace. Empty on a unified machine."""
    warnings: list[str]
    """Limits that this kernel can't give and that were left out, in Docker's words."""

    def joined(self) -> None:
        """Close ``join_fds``: the container's first process is in its groups."""

    def open_joins(self) -> None:
        """Open ``join_fds`` of an existing group, for one more process to enter it. Raises CgroupError."""

    def pids(self) -> list[int]:
        """Every process of the group and of groups below it, in the caller's pid namespace's numbers."""

    def kill(self) -> None:
        """Kill every process of the group and below, none escaping by forking. Does not wait for their end."""

    def signal(self, signum: int) -> None:
        """Send ``signum`` to every process of the group and below."""

    def freeze(self, timeout: float = 10.0) -> None:
        """Stop every process and wait, at most ``timeout`` seconds, until all have stopped. Raises CgroupError."""

    def thaw(self) -> None:
        """Let the processes run again."""

    def frozen(self) -> bool:
        """Whether the processes stand still, or are about to. Raises CgroupError."""

    def update(self, resources: spec.Resources) -> list[str]:
        """Change the limits that ``resources`` sets, leaving the others; returns warnings. Raises CgroupError.

        Where the kernel refuses one, those changed before it have their old values again.
        """

    def places(self) -> dict[str, Place]:
        """Where each controller's files are: a directory's descriptor and what to put before a file's name there."""

    def oom_kills(self) -> int:
        """How many processes of the group the kernel has killed for want of memory, since the group was made."""

    def oom_watch(self) -> tuple[int, int] | None:
        """A new file descriptor, and the poll(2) events that show on it when the group runs out of memory.

        The caller closes it. ``None`` where the kernel has no memory controller. After a wake-up, read ``oom_kills``.
        """

    def wait_empty(self, timeout: float) -> bool:
        """Wait until no process is left, at most ``timeout`` seconds; whether that came true."""

    def remove(self, timeout: float = 10.0) -> None:
        """Kill what is left, wait for it, and remove the group from every hierarchy, groups below it first. Then close.

        Removing a group that is gone already is no error. Raises CgroupBusyError after ``timeout`` seconds.
        """

    def close(self) -> None:
        """Close every file descriptor."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Cgroups(Protocol):
    """The machine's cgroup hierarchies."""

    version: Literal["1", "2"]
    """As ``docker info`` shows it: ``1`` also where v1 controllers stand beside a cgroup2 mount."""
    controllers: frozenset[str]
    """Controllers whose limits work here, in cgroup v2's names (``io`` for v1's blkio)."""

    def settle(self, parent: str) -> None:
        """Prepare ``parent`` and move the calling process to where containers without limits of a kind may stay.

        The zygote calls this once. Without it every group is made in every hierarchy, which is right but slower.
        """

    def preload(self, rules: tuple[spec.DeviceRule, ...]) -> None:
        """Load the eBPF program for ``rules`` and keep it, as loading takes longer than all else that ``create`` does.

        The zygote calls this before it forks for a container, so that all containers with the same rules share one program.
        Without it ``create`` loads one for itself. Raises CgroupError.
        """

    def create(self, cgroup: spec.Cgroup, resources: spec.Resources) -> Group:
        """Make the group with its limits; a leftover empty group of that name is replaced. Nothing stays on failure.

        Raises InvalidLimitError, CgroupBusyError where a group of that name has processes, CgroupError.
        """

    def lacking(self, parent: str, resources: spec.Resources) -> list[str]:
        """Warnings about the limits that a group below ``parent``, which is made, couldn't have.

        Raises CgroupError where its creation would for want of something in the kernel or the parent.
        """

    def open(self, cgroup: spec.Cgroup) -> Group:
        """The existing group. Raises CgroupError where there is none."""

    def sweep(self, parent: str, keep: Collection[str]) -> list[str]:
        """Kill and remove the groups below ``parent`` whose name is not in ``keep``; returns the names removed."""

    def dissolve(self, parent: str) -> bool:
        """Remove ``parent`` itself, with what ``settle`` made, where nobody is in it; whether nothing is left of it."""

    def close(self) -> None:
        """Close the cached file descriptors."""
