"""The host's side of a start: everything that can be opened, made and checked before the container's first process exists."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final, Protocol, Self

from boxrun.container import capabilities, cgroupfs, console, devices, exec, mounts, namespaces, rlimits, rootfs, sysctls
from boxrun.container.spec import Spec
from boxrun.errors import SetupError
from boxrun.linux import mounts as kernel_mounts
from boxrun.linux import process

_SYS_RESOURCE: Final = 1 << capabilities.CAPABILITIES["CAP_SYS_RESOURCE"]
_SYS_ADMIN: Final = 1 << capabilities.CAPABILITIES["CAP_SYS_ADMIN"]


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

    Attributes:
        warnings: what couldn't be had as asked for, in words for the user.
    """

    def __init__(self, spec: Spec, joins: Mapping[str, int], group: Joinable, seccomp_program: bytes) -> None:
        self.spec = spec
        self.group = group
        self.seccomp_program = seccomp_program
        self.warnings: list[str] = []
        self.root_fd = self.null_fd = self.empty_fd = self.master_fd = self.dev_fd = -1
        self.mounts: list[mounts.Planned] = []
        self.namespaces = namespaces.plan(spec, joins)
        self.owner = _owner(spec)
        self.env = exec.environment(spec.process.env)
        self.bounding = capabilities.bounding_set()
        self.capabilities = _capabilities(spec, self.bounding)
        self.sysctls = sysctls.plan(spec.sysctls, self.namespaces.own)
        self.ignored = [signum for signum in _SIGNALS if signal.getsignal(signum) == signal.SIG_IGN]
        _, permitted, _ = process.capget()
        self.rlimits, warnings = rlimits.plan(spec.process.rlimits, may_raise=bool(permitted & _SYS_RESOURCE))
        self.warnings.extend(warnings)
        self.nodes = devices.inspect(spec.devices)

    def open(self) -> None:
        """Open and make everything that is a descriptor."""
        spec = self.spec
        try:
            self.root_fd = rootfs.detached_overlay(spec.root)
        except OSError as error:
            raise _failed("rootfs", "mount the root file system", error) from error
        self.mounts = mounts.plan(spec.mounts, self.owner)
        try:
            if spec.masked_paths:
                self.null_fd = _null_tree()
                self.empty_fd = kernel_mounts.new_mount("tmpfs", _EMPTY_OPTIONS, kernel_mounts.MOUNT_ATTR_RDONLY)
            self._fill_dev()
            if spec.process.terminal:
                self._open_terminal()
        except OSError as error:
            raise _failed("devices", "prepare /dev", error) from error

    def close(self) -> None:
        """Close every descriptor but the terminal's master, which :func:`take_master` gives away."""
        mounts.close(self.mounts)
        for fd in (self.root_fd, self.null_fd, self.empty_fd, self.master_fd):
            if fd >= 0:
                os.close(fd)
        self.root_fd = self.null_fd = self.empty_fd = self.master_fd = -1

    def take_master(self) -> int | None:
        """Return the terminal's master, which then is the caller's, or None without a terminal."""
        fd, self.master_fd = self.master_fd, -1
        return fd if fd >= 0 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _fill_dev(self) -> None:
        for item in self.mounts:
            if item.target == "/dev" and item.mount.kind == "tmpfs":
                self.dev_fd = item.tree_fd
        if self.dev_fd >= 0:
            devices.populate(self.dev_fd, console=self.spec.process.terminal, owner=self.owner)
            inside = [node for node in self.nodes if node.target.startswith("/dev/")]
            for node in inside:
                devices.make_below(self.dev_fd, node.target[5:], node, self.owner)
            self.nodes = [node for node in self.nodes if not node.target.startswith("/dev/")]

    def _open_terminal(self) -> None:
        devpts = [item.tree_fd for item in self.mounts if item.mount.kind == "devpts"]
        own_fd = devpts[0] if devpts else kernel_mounts.new_mount("devpts", (("ptmxmode", "0666"),))
        try:
            self.master_fd = console.open_master(own_fd)
        finally:
            if not devpts:
                os.close(own_fd)
        if self.owner is not None:
            slave_fd = console.open_slave(self.master_fd)
            os.fchown(slave_fd, *self.owner)
            os.close(slave_fd)
        if self.spec.process.console_height or self.spec.process.console_width:
            console.set_size(self.master_fd, self.spec.process.console_height, self.spec.process.console_width)


_SIGNALS: Final = tuple(signal.valid_signals())
_EMPTY_OPTIONS: Final = (("size", "4k"), ("nr_inodes", "2"), ("mode", "755"))


def prewarm() -> None:
    """Look at the machine once, for every container to come; the fork server calls this before its first fork."""
    cgroupfs.mounted()


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


def _owner(spec: Spec) -> tuple[int, int] | None:
    if not spec.uid_mappings:
        return None
    return namespaces.outside(spec.uid_mappings, 0), namespaces.outside(spec.gid_mappings, 0)


def _capabilities(spec: Spec, bounding: int) -> int:
    try:
        return capabilities.mask_of(spec.process.capabilities) & bounding
    except ValueError as error:
        raise SetupError("capabilities", 0, str(error)) from error


def _null_tree() -> int:
    """Return a detached mount of the host's null device, which really is that."""
    tree_fd = kernel_mounts.open_tree("/dev/null", follow=False)
    if not devices.is_null(tree_fd):
        os.close(tree_fd)
        raise OSError(6, "not the null device", "open /dev/null")
    kernel_mounts.mount_setattr(tree_fd, propagation=kernel_mounts.MS_PRIVATE)
    return tree_fd


def _failed(step: str, what: str, error: OSError) -> SetupError:
    return SetupError(step, error.errno or 0, f"{what}: {error.filename}: {(error.strerror or '').lower()}")
