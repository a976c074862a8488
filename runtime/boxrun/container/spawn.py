"""Making the container's first process and learning whether its program runs."""

from __future__ import annotations

import os
from errno import EINVAL, ENOSYS
from types import TracebackType
from typing import Final, Self

from boxrun.container import namespaces, report
from boxrun.container.child import Child, set_oom_score_adj
from boxrun.container.prepare import Prepared
from boxrun.errors import SetupError
from boxrun.linux import namespaces as kernel_namespaces
from boxrun.linux import process

_KILL: Final = 9


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


def spawn(prepared: Prepared, stdio: tuple[int, int, int] | None) -> Spawned:
    """Clone the container's first process; it goes on by itself to its program.

    ``prepared`` is used up: its descriptors are closed in this process. Only for single-threaded processes; the caller becomes
    non-dumpable for good.

    Args:
        prepared: what :func:`boxrun.container.prepare.prepare` returned.
        stdio: descriptors for standard input, output and error; None for a terminal, or to hand on the caller's own.

    Raises:
        SetupError: the process couldn't be made.
    """
    # Whoever shares a namespace with the child must not trace it or look through its descriptors (CVE-2016-9962).
    process.prctl(process.PR_SET_DUMPABLE, 0)
    report_fd, report_end = os.pipe2(os.O_CLOEXEC)
    go_end = go_fd = -1
    try:
        if "user" in prepared.namespaces.new:
            go_end, go_fd = os.pipe2(os.O_CLOEXEC)
        with namespaces.around_clone(prepared.namespaces):
            pid, pidfd = _clone(prepared)
            if pid == 0:
                Child(prepared, stdio, report_end, go_end).run()
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
        _let_go(prepared, spawned, go_fd)
    return spawned


def _clone(prepared: Prepared) -> tuple[int, int]:
    flags = prepared.namespaces.clone_flags
    try:
        return process.clone3(flags | process.CLONE_CLEAR_SIGHAND, prepared.group.fd)
    except OSError as error:
        # An outer container's filter hides clone3, older kernels know fewer flags.
        if error.errno not in (ENOSYS, EINVAL) or flags & kernel_namespaces.CLONE_NEWUSER:
            raise
    return _fork_and_unshare(flags, prepared.group.fd)


def _fork_and_unshare(flags: int, cgroup_fd: int | None) -> tuple[int, int]:
    """Do clone3's work in steps: enter a pid namespace for children, fork, unshare the rest in the child."""
    own_fd = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if flags & kernel_namespaces.CLONE_NEWPID:
            kernel_namespaces.unshare(kernel_namespaces.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            if cgroup_fd is not None:
                fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup_fd)
                os.write(fd, b"0")
                os.close(fd)
            kernel_namespaces.unshare(flags & ~kernel_namespaces.CLONE_NEWPID)
            return 0, -1
        if flags & kernel_namespaces.CLONE_NEWPID:
            kernel_namespaces.setns(own_fd, kernel_namespaces.CLONE_NEWPID)
    finally:
        os.close(own_fd)
    return pid, process.pidfd_open(pid)


def _let_go(prepared: Prepared, spawned: Spawned, go_fd: int) -> None:
    """Write the id mappings that a new user namespace can't write itself, then let the child go on."""
    spec = prepared.spec
    try:
        namespaces.map_ids(spawned.pid, spec.uid_mappings, spec.gid_mappings)
        if spec.process.oom_score_adj is not None:
            set_oom_score_adj(str(spawned.pid), spec.process.oom_score_adj)
        os.write(go_fd, b"g")
    except OSError as error:
        spawned.abandon()
        raise SetupError("namespaces", error.errno or 0, f"{error.filename}: {(error.strerror or '').lower()}") from error
    finally:
        os.close(go_fd)
