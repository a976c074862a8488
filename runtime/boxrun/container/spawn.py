"""Making the container's first process and learning whether its program runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EINVAL, ENOSYS
from types import TracebackType
from typing import Final, Self

from boxrun.container import namespaces, onlookers, report
from boxrun.container.child import Child
from boxrun.container.prepare import Prepared
from boxrun.container.program import set_oom_score_adj
from boxrun.errors import SetupError
from boxrun.linux import namespaces as kernel_namespaces
from boxrun.linux import process, vfork

_KILL: Final = 9
_LOOKED_INTO: Final = (
    "the pid namespace to join has a process that may trace others (CAP_SYS_PTRACE), which could reach the host's files "
    "through this container's first process while that is being made"
)


class Spawned:
    """The container's first process, on its way to its program.

    Attributes:
        pid: its number in the caller's pid namespace.
        pidfd: its descriptor; the caller's.
        report_fd: readable, at its end, once the program runs; :meth:`ready` reads and closes it.
        console_fd: the terminal's master where there is a terminal; the caller's.
        warnings: what couldn't be had as asked for.
    """

    def __init__(self, pid: int, pidfd: int, report_fd: int, console_fd: int | None, warnings: list[str]) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.report_fd = report_fd
        self.console_fd = console_fd
        self.warnings = warnings

    def ready(self) -> None:
        """Wait until the program has been executed.

        Raises:
            StartFault: it wasn't; the process has been reaped.
        """
        try:
            error = report.receive(self.report_fd)
        finally:
            os.close(self.report_fd)
            self.report_fd = -1
        if error is not None:
            self.abandon()
            raise error

    def abandon(self) -> None:
        """Kill and reap the process and close everything."""
        try:
            process.pidfd_send_signal(self.pidfd, _KILL)
        except ProcessLookupError:
            pass
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass
        self.close()

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self.pidfd, self.report_fd, -1 if self.console_fd is None else self.console_fd):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.report_fd = -1
        self.console_fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


Plug = Callable[[int], None]
"""Told of a container's own network namespace, by a descriptor that stays the caller's."""


def spawn(prepared: Prepared, stdio: tuple[int, int, int] | None, *, gate: int = -1, plug: Plug | None = None) -> Spawned:
    """Clone the container's first process; it goes on by itself to its program.

    ``prepared`` is used up: its descriptors are closed in this process. Only for single-threaded processes; the caller becomes
    non-dumpable for good.

    Args:
        prepared: what :func:`boxrun.container.prepare.prepare` returned.
        stdio: descriptors for standard input, output and error; None for a terminal, or to hand on the caller's own.
        gate: the end of a pipe out of which a byte has to come before the program runs; -1 for none.
        plug: for a container with a user namespace of its own, which has to own the network namespace as well.

    Raises:
        SetupError: the process couldn't be made.
    """
    # Whoever shares a namespace with the child must not trace it or look through its descriptors (CVE-2016-9962).
    process.prctl(process.PR_SET_DUMPABLE, 0)
    for kind, fd in prepared.namespaces.caller_joins:
        if kind == "pid" and onlookers.may_trace(fd):
            prepared.close()
            raise SetupError("namespaces", 0, _LOOKED_INTO)
    report_fd, report_end = os.pipe2(os.O_CLOEXEC)
    go_end = go_fd = -1
    try:
        if "user" in prepared.namespaces.new:
            go_end, go_fd = os.pipe2(os.O_CLOEXEC)
        with namespaces.around_clone(prepared.namespaces):
            borrowing = _borrow(prepared, stdio, report_end, gate)
            if borrowing is not None:
                pid, pidfd = borrowing
            else:
                pid, pidfd = clone(prepared.namespaces.clone_flags, prepared.group.fd, report_end)
                if pid == 0:
                    Child(prepared, stdio, report_end, gate, (go_end, go_fd)).run()
    except OSError as error:
        os.close(report_fd)
        raise SetupError("clone", error.errno or 0, f"{error.filename}: {(error.strerror or '').lower()}") from error
    finally:
        console_fd = prepared.take_master()
        prepared.close()
        os.close(report_end)
        if go_end >= 0:
            os.close(go_end)
    spawned = Spawned(pid, pidfd, report_fd, console_fd, prepared.warnings)
    if go_fd >= 0:
        _let_go(prepared, spawned, go_fd, plug)
    return spawned


def _borrow(prepared: Prepared, stdio: tuple[int, int, int] | None, report_end: int, gate: int) -> tuple[int, int] | None:
    """Spawn the child in this process's memory; None where it takes one of its own: it stays (``init``), or the caller does
    things between the clone and its program (id mappings), or around the clone for its sake, or the user's seccomp policy might
    kill it before its program runs, or the kernel refuses.
    """
    planned, spec = prepared.namespaces, prepared.spec
    if not vfork.SUPPORTED or spec.init or prepared.staged or planned.caller_joins or not planned.new >= {"mnt", "pid"}:
        return None
    if planned.new & {"user", "time"} or spec.seccomp.mode == "custom":
        return None
    child = Child(prepared.for_child(), stdio, report_end, gate)
    try:
        return vfork.spawn(planned.clone_flags | process.CLONE_CLEAR_SIGHAND, prepared.group.fd, child.run)
    except OSError as error:
        if error.errno not in (ENOSYS, EINVAL):
            raise
        return None


def clone(flags: int, cgroup_fd: int | None, report_fd: int) -> tuple[int, int]:
    """Fork with ``CLONE_NEW*`` flags into a cgroup, in steps where clone3 can't be had.

    Args:
        flags: namespaces that are new for the child.
        cgroup_fd: the cgroup2 directory it begins in.
        report_fd: where a child that can't catch up with what clone3 would have done says so.

    Returns:
        The child's pid and pid descriptor in the parent, ``(0, -1)`` in the child.
    """
    try:
        return process.clone3(flags | process.CLONE_CLEAR_SIGHAND, cgroup_fd)
    except OSError as error:
        # An outer container's filter hides clone3, older kernels know fewer flags.
        if error.errno not in (ENOSYS, EINVAL) or flags & kernel_namespaces.CLONE_NEWUSER:
            raise
    return _fork_and_unshare(flags, cgroup_fd, report_fd)


def _fork_and_unshare(flags: int, cgroup_fd: int | None, report_fd: int) -> tuple[int, int]:
    """Do clone3's work in steps: enter a pid namespace for children, fork, unshare the rest in the child.

    The child never returns from here but as a child that has everything: what it can't have it reports, and ends.
    """
    own_fd = -1
    try:
        if flags & kernel_namespaces.CLONE_NEWPID:
            own_fd = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            kernel_namespaces.unshare(kernel_namespaces.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            try:
                _catch_up(flags, cgroup_fd)
            except BaseException as error:  # noqa: BLE001 - two processes must never go on with the caller's work
                number = error.errno or 0 if isinstance(error, OSError) else 0
                report.send(report_fd, SetupError("clone", number, f"unshare the container's namespaces: {error}"))
                os._exit(1)
            return 0, -1
        if flags & kernel_namespaces.CLONE_NEWPID:
            kernel_namespaces.setns(own_fd, kernel_namespaces.CLONE_NEWPID)
    finally:
        if own_fd >= 0:
            os.close(own_fd)
    return pid, process.pidfd_open(pid)


def _catch_up(flags: int, cgroup_fd: int | None) -> None:
    """What clone3 would have done for the child before it began."""
    if cgroup_fd is not None:
        fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup_fd)
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)
    kernel_namespaces.unshare(flags & ~kernel_namespaces.CLONE_NEWPID)


def _let_go(prepared: Prepared, spawned: Spawned, go_fd: int, plug: Plug | None) -> None:
    """Write the id mappings that a new user namespace can't write itself, let the child go on, and have it plugged in."""
    spec = prepared.spec
    try:
        namespaces.map_ids(spawned.pid, spec.uid_mappings, spec.gid_mappings)
        if spec.process.oom_score_adj is not None:
            set_oom_score_adj(str(spawned.pid), spec.process.oom_score_adj)
        if plug is not None:
            namespace = os.open(f"/proc/{spawned.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                plug(namespace)
            finally:
                os.close(namespace)
        os.write(go_fd, b"g")
    except OSError as error:
        spawned.abandon()
        raise SetupError("namespaces", error.errno or 0, f"{error.filename}: {(error.strerror or '').lower()}") from error
    finally:
        os.close(go_fd)
