"""The host's side of a start: everything that can be opened, made and checked before the container's first process exists."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final, Protocol, Self

from boxrun.container import (
    capabilities,
    cgroupfs,
    console,
    devices,
    masks,
    mounts,
    namespaces,
    neighbours,
    rehearsal,
    rlimits,
    rootfs,
    trees,
)
from boxrun.container.spec import Spec
from boxrun.errors import SetupError
from boxrun.linux import mounts as kernel_mounts
from boxrun.linux import process

_SYS_RESOURCE: Final = 1 << capabilities.CAPABILITIES["CAP_SYS_RESOURCE"]


class Joinable(Protocol):
    """What of a container's cgroup is needed here; ``boxrun.container.cgroups.Group`` has it."""

    @property
    def fd(self) -> int | None:
        """The cgroup2 directory, or None."""

    @property
    def join_fds(self) -> Iterable[int]:
        """The v1 hierarchies' files to which the child writes."""


class Prepared:
    """A container ready to be cloned. Owns descriptors: close it once it is spawned, or given up.

    What needs only the host's paths and devices is done by :meth:`stage`, in the container's own first process, whose copy of
    the host's mount namespace shows the same, so that this work's memory is touched once only. But with a user namespace that
    process has no power over the host any more, and the caller's does it.

    Attributes:
        warnings: what couldn't be had as asked for, in words for the user.
        oom_score_adj: what this machine lets be set; None to leave the present one.
    """

    def __init__(self, spec: Spec, joins: Mapping[str, int], group: Joinable, seccomp_program: bytes) -> None:
        self.spec = spec
        self.group = group
        self.seccomp_program = seccomp_program
        self.warnings: list[str] = []
        self.root_fd = self.null_fd = self.empty_fd = self.master_fd = self.devpts_fd = self.dev_fd = -1
        self.borrowed: dict[str, int] = {}
        self.mounts: list[mounts.Planned] = []
        self.nodes: list[devices.Node] = []
        self.rlimits: list[tuple[int, tuple[int, int]]] = []
        self.namespaces = namespaces.plan(spec, joins)
        self._joins = joins
        self.owner = _owner(spec) if spec.uid_mappings else None
        self._check_privileges()

    def open(self) -> None:
        """Open what the caller must have before the clone."""
        try:
            if self.spec.process.terminal:
                self._open_terminal()
        except OSError as error:
            raise _failed("console", "open a terminal", error) from error
        self.borrowed = neighbours.borrow(self.spec.mounts, self._joins)
        self.borrowed.update(trees.early(self.spec.mounts))
        if "user" in self.namespaces.new:
            self.stage()

    @property
    def staged(self) -> bool:
        """Whether :meth:`stage` was done."""
        return self.root_fd >= 0

    def stage(self) -> None:
        """Make the root, the mounts and /dev as detached trees.

        Raises:
            SetupError: something on the host is missing, or refused.
        """
        spec = self.spec
        self.nodes = devices.inspect(spec.devices)
        try:
            self.root_fd = rootfs.detached_overlay(spec.root)
        except OSError as error:
            raise _failed("rootfs", "mount the root file system", error) from error
        self.mounts = mounts.plan(spec.mounts, self.owner, self.devpts_fd, self.borrowed)
        self.devpts_fd = -1
        try:
            self._fill_dev()
            if spec.masked_paths:
                self._make_covers()
        except OSError as error:
            raise _failed("devices", "prepare /dev", error) from error

    def close(self) -> None:
        """Close every descriptor but the terminal's master once :meth:`take_master` has given it away."""
        mounts.close(self.mounts)
        while self.borrowed:
            os.close(self.borrowed.popitem()[1])
        for fd in (self.root_fd, self.null_fd, self.empty_fd, self.master_fd, self.devpts_fd):
            if fd >= 0:
                os.close(fd)
        self.root_fd = self.null_fd = self.empty_fd = self.master_fd = self.devpts_fd = -1

    def for_child(self) -> Self:
        """Return a copy for a child in this same memory, which will stage it and note descriptors of its own there."""
        copy = object.__new__(type(self))
        vars(copy).update(vars(self), borrowed=dict(self.borrowed))
        return copy

    def take_master(self) -> int | None:
        """Return the terminal's master, which then is the caller's, or None without a terminal."""
        fd, self.master_fd = self.master_fd, -1
        return fd if fd >= 0 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _check_privileges(self) -> None:
        """Find out what this machine can't give, while there is still somebody to tell."""
        settings = self.spec.process
        self.oom_score_adj = settings.oom_score_adj
        if not settings.rlimits and settings.oom_score_adj is None:
            return
        may_raise = bool(process.capget()[1] & _SYS_RESOURCE)
        self.rlimits, warnings = rlimits.plan(settings.rlimits, may_raise=may_raise)
        self.warnings.extend(warnings)
        if settings.oom_score_adj is not None and not may_raise and settings.oom_score_adj < _own_oom_score_adj():
            self.oom_score_adj = None
            self.warnings.append(f"oom_score_adj {settings.oom_score_adj} needs CAP_SYS_RESOURCE, the present one stays")

    def _fill_dev(self) -> None:
        for item in self.mounts:
            if item.target == "/dev" and item.mount.kind == "tmpfs":
                self.dev_fd = item.tree_fd
        if self.dev_fd < 0:
            return
        devices.populate(self.dev_fd, console=self.spec.process.terminal, owner=self.owner)
        for item in self.mounts:
            # Cheaper than to find each of them missing when its turn comes.
            if item.mount.kind in _OWN_DIRECTORY and item.target.startswith("/dev/") and item.target.count("/") == 2:
                os.mkdir(item.target[5:], 0o755, dir_fd=self.dev_fd)
        outside = []
        for node in self.nodes:
            if node.target.startswith("/dev/"):
                devices.make_below(self.dev_fd, node.target[5:], node, self.owner)
            else:
                outside.append(node)
        self.nodes = outside

    def _make_covers(self) -> None:
        """Make what masked paths are covered with; the null device comes from the container's own /dev where there is one."""
        self.empty_fd = kernel_mounts.new_mount("tmpfs", _EMPTY_OPTIONS, kernel_mounts.MOUNT_ATTR_RDONLY)
        if self.dev_fd < 0:
            self.null_fd = masks.null_cover()

    def _open_terminal(self) -> None:
        for mount in self.spec.mounts:
            if mount.kind == "devpts":
                self.devpts_fd = mounts.devpts(mount, self.owner)
                break
        else:
            self.devpts_fd = kernel_mounts.new_mount("devpts", (("ptmxmode", "0666"),))
        self.master_fd = console.open_master(self.devpts_fd)
        if self.owner is not None:
            slave_fd = console.open_slave(self.master_fd)
            os.fchown(slave_fd, *self.owner)
            os.close(slave_fd)
        if self.spec.process.console_height or self.spec.process.console_width:
            console.set_size(self.master_fd, self.spec.process.console_height, self.spec.process.console_width)


_OWN_DIRECTORY: Final = frozenset({"devpts", "mqueue", "tmpfs"})
_EMPTY_OPTIONS: Final = (("size", "4k"), ("nr_inodes", "2"), ("mode", "755"))


def prewarm() -> None:
    """Look at the machine once, for every container to come; the fork server calls this before its first fork.

    Raises:
        OSError: this machine, or this process's privileges, don't suffice for containers.
    """
    process.reset_internal_signals()
    cgroupfs.mounted()
    capabilities.inherited_bounding_set()
    rehearsal.rehearse()


def prepare(spec: Spec, joins: Mapping[str, int], group: Joinable, seccomp_program: bytes) -> Prepared:
    """Do the host's side of starting ``spec``.

    Args:
        spec: the container.
        joins: an open namespace file for each kind of namespace that ``spec`` joins.
        group: the container's cgroup.
        seccomp_program: the compiled filter, empty for none.

    Raises:
        SetupError: something on the host is missing, or refused; nothing stays open.
    """
    umask = os.umask(0)
    try:
        prepared = Prepared(spec, joins, group, seccomp_program)
        try:
            prepared.open()
        except BaseException:
            prepared.close()
            raise
        return prepared
    finally:
        os.umask(umask)


def _owner(spec: Spec) -> tuple[int, int]:
    return namespaces.outside(spec.uid_mappings, 0), namespaces.outside(spec.gid_mappings, 0)


def _own_oom_score_adj() -> int:
    with open("/proc/self/oom_score_adj", "rb") as file:
        return int(file.read())


def _failed(step: str, what: str, error: OSError) -> SetupError:
    return SetupError(step, error.errno or 0, f"{what}: {error.filename}: {(error.strerror or '').lower()}")
