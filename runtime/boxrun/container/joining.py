"""A further process in a running container: cloned into its namespaces and cgroup, it becomes a program of its own.

It is made in two stages, as runc makes it. The first stage is a child of the caller that stays out of the container's pid
namespace, so that nobody in there sees it: it gives up every descriptor it doesn't need, enters the container, takes on user,
limits, filter and capabilities. Then it clones the second stage, the caller's child too, which is in the pid namespace from its
first moment: that has the container's root, the program's streams and two pipes, and nothing is left to do for it but to wait
for the caller's word and to execute the program. So whoever may trace it (CAP_SYS_PTRACE) finds in it what the program will
have anyway.

Where nothing in the container may trace, the second stage needn't be an interpreter with a memory of its own to be looked into:
there it is a few machine instructions in the caller's memory (``boxrun.linux.bare``), which costs half as much in all.

Nothing is ever executed on the process's own account: without the caller's word, which comes once the process is registered, it
ends. The container is reached through the descriptor of its first process, so that no number can have come to mean another
one. Sources: setns(2), clone(2), pid_namespaces(7), ptrace(2); runc libcontainer/nsenter/nsexec.c.
"""

from __future__ import annotations

import ctypes
import os
import stat
from _socket import AF_UNIX, CMSG_SPACE, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket, socketpair
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EACCES, EINVAL, ENODEV, ENOENT, ENOMEM, ENOSYS, EPERM, ESRCH, ETIMEDOUT
from fcntl import F_DUPFD_CLOEXEC, fcntl
from mmap import MADV_DONTFORK, PAGESIZE, mmap
from select import POLLIN, poll
from struct import pack, unpack
from time import time_ns
from typing import Final, NamedTuple

from boxrun.container import capabilities, console, onlookers, paths, report, rlimits
from boxrun.container.exec import lookup
from boxrun.container.prepare import Joinable
from boxrun.container.program import Program, set_oom_score_adj
from boxrun.container.spawn import clone
from boxrun.container.spec import Process
from boxrun.errors import SetupError, StartError
from boxrun.linux import bare, files, namespaces, process, vfork

JOIN_SECONDS: Final = 15.0
"""How long the first stage may take: the container may be frozen, or its files on something that doesn't answer."""

_KINDS: Final = (
    namespaces.CLONE_NEWNS
    | namespaces.CLONE_NEWUTS
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWNET
    | namespaces.CLONE_NEWPID
    | namespaces.CLONE_NEWCGROUP
)
_OWN_TIME: Final = "/proc/self/ns/time"
_SYS_RESOURCE: Final = 1 << capabilities.CAPABILITIES["CAP_SYS_RESOURCE"]
_PTMX: Final = os.makedev(5, 2)
_GONE: Final = frozenset({ESRCH, ENODEV, ENOMEM, ENOENT})
_GO_FD: Final = 4
_GO: Final = b"g"
_FILTERED_STEPS: Final = frozenset({"seccomp", "capabilities", "clone", "session"})
_KILL: Final = 9


class Target(NamedTuple):
    """The container that is joined.

    Attributes:
        id: its id.
        pidfd: its first process.
        group: its cgroup, with ``join_fds`` open.
        user_namespace: it has a user namespace of its own.
        secluded: for certain no process in it can trace one that is about to execute a program.
    """

    id: str
    pidfd: int
    group: Joinable
    user_namespace: bool
    secluded: bool = False


class Joined(NamedTuple):
    """A process whose program runs. The descriptors are the caller's; ``console`` is -1 without a terminal."""

    pid: int
    pidfd: int
    console: int
    started_at: int
    warnings: tuple[str, ...]


class _Ready:
    """What the process needs and what is opened on its way."""

    def __init__(self, settings: Process, seccomp_program: bytes) -> None:
        self.root_fd = -1
        self.seccomp_program = seccomp_program
        self.rlimits: list[tuple[int, tuple[int, int]]] = []
        self.warnings: list[str] = []
        if settings.rlimits:
            may_raise = bool(process.capget()[1] & _SYS_RESOURCE)
            self.rlimits, self.warnings = rlimits.plan(settings.rlimits, may_raise=may_raise)


class _Crossing:
    """What the caller learns of both stages without a word from either, which a filter might forbid them.

    Two pages of the caller's memory that the first stage shares: in one the kernel puts the second stage's number, which that
    doesn't get to see; in the other the second stage notes that it is about to execute the program.
    """

    def __init__(self) -> None:
        self._pages = mmap(-1, 2 * PAGESIZE)
        self._pid = ctypes.c_int.from_buffer(self._pages)

    @property
    def pid(self) -> int:
        """The second stage's number, 0 where there has never been one."""
        return self._pid.value

    @property
    def over(self) -> bool:
        """Whether the second stage got as far as executing the program."""
        return self._pages[PAGESIZE] == bare.EXECUTING

    @property
    def refused(self) -> bool:
        """Whether it got there, and the kernel would not."""
        return self._pages[PAGESIZE] == bare.REFUSED

    def hide(self) -> None:
        """Keep the number from every further child."""
        self._pages.madvise(MADV_DONTFORK, 0, PAGESIZE)

    def clone(self) -> int:
        """Clone the second stage; 0 in it."""
        return process.clone_sibling(self._pid)

    def clone_bare(self, path: str, args: Sequence[str], env: dict[str, str]) -> bool:
        """Clone the second stage as one that only executes ``path``; False where it can't be told what."""
        argv = [os.fsencode(argument) for argument in args]
        envp = [os.fsencode(f"{name}={value}") for name, value in env.items()]
        name = os.fsencode(path)
        if any(b"\0" in text for text in (name, *argv, *envp)):
            return False
        bare.clone(self._pid, name, argv, envp, word_fd=_GO_FD, said=ctypes.addressof(self._pid) + PAGESIZE)
        return True

    def arrive(self) -> None:
        """Note that the program is executed next."""
        self._pages[PAGESIZE] = bare.EXECUTING


class _Joining(Program):
    """Both stages of the process, from the caller's clone to the program.

    Args:
        ends: the report pipe, the pipe that the caller's word comes through, the socket for the terminal (-1 for none).
        filtered: the second stage is born with filter and without the capabilities it isn't to have.
        barely: it may be one without an interpreter.
    """

    def __init__(
        self,
        target: Target,
        settings: Process,
        ready: _Ready,
        stdio: tuple[int, int, int] | None,
        *,
        ends: tuple[int, int, socket | None],
        crossing: _Crossing,
        filtered: bool,
        barely: bool,
    ) -> None:
        report_fd, self._go_fd, self._console_end = ends
        super().__init__(settings, ready, stdio, report_fd)
        self._target = target
        self._own = ready
        self._crossing = crossing
        self._filtered = filtered
        self.barely = barely
        self._kinds = _KINDS | (namespaces.CLONE_NEWUSER if target.user_namespace else 0)

    def shares_time(self) -> bool:
        """Whether the container has the caller's time namespace; another can't be entered by one who borrows memory."""
        try:
            own = os.stat(_OWN_TIME)
        except FileNotFoundError:
            return True
        found = os.stat(f"/proc/{process.number_of(self._target.pidfd)}/ns/time")
        if (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino):
            return True
        self._kinds |= namespaces.CLONE_NEWTIME
        return False

    def _enter(self) -> None:
        target, settings, console_end = self._target, self._settings, self._console_end
        # The caller's death must show at once, and nothing but this is to be entered with.
        kept = [self._report_fd, self._go_fd, target.pidfd, *target.group.join_fds, *(self._stdio or ())]
        files.close_others(kept if console_end is None else [*kept, console_end.fileno()])
        self._crossing.hide()
        self._step = "cgroup"
        for fd in target.group.join_fds:
            os.write(fd, b"0")
        self._step = "namespaces"
        namespaces.setns(target.pidfd, self._kinds)
        if target.user_namespace:
            process.set_ids(0, 0)
            # New credentials make the process as dumpable as fs.suid_dumpable has it.
            process.prctl(process.PR_SET_DUMPABLE, 0)
        try:
            process.join_session_keyring(f"_ses.{target.id}")
        except OSError as error:
            if error.errno not in (ENOSYS, EPERM, EACCES):
                raise
        self._own.root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if not settings.cwd.startswith("/"):
            raise StartError("cwd", 0, "Cwd must be an absolute path", 126)
        if console_end is not None:
            self._step = "console"
            self._open_terminal(console_end)

    def _open_terminal(self, console_end: socket) -> None:
        """Open a terminal of the container's own devpts and send its master out."""
        master_fd = _open_master(self._own.root_fd)
        if self._settings.console_height or self._settings.console_width:
            console.set_size(master_fd, self._settings.console_height, self._settings.console_width)
        self._slave_fd = console.open_slave(master_fd)
        console_end.sendmsg([b"m"], [(SOL_SOCKET, SCM_RIGHTS, pack("i", master_fd))])

    def _take_terminal(self) -> None:
        console.spread(self._slave_fd)

    def _close_rest(self) -> None:
        """Have the two pipes and nothing else from here on."""
        go_fd = fcntl(self._go_fd, F_DUPFD_CLOEXEC, _GO_FD)
        self._move_report()
        if go_fd != _GO_FD:
            os.dup2(go_fd, _GO_FD, inheritable=False)
        files.close_from(_GO_FD + 1)

    def _cross(self, env: dict[str, str], *, filtered: bool) -> None:
        """Clone the second stage, end the first, and wait for the caller's word."""
        if filtered != self._filtered:
            if filtered:
                self._crossing.arrive()
            return
        self._step = "clone"
        args = self._settings.args
        # What isn't found is left to the one that can say so.
        if self.barely and (path := lookup(args, env)) is not None and self._crossing.clone_bare(path, args, env):
            os._exit(0)
        if self._crossing.clone():
            os._exit(0)
        self._step = "session"
        if os.read(_GO_FD, 1) != _GO:
            os._exit(1)
        os.setsid()
        if self._slave_fd >= 0:
            console.control(0)
        if filtered:
            self._crossing.arrive()


def join(
    target: Target,
    settings: Process,
    seccomp_program: bytes,
    stdio: tuple[int, int, int] | None,
    *,
    registered: Callable[[int, int], None],
) -> Joined:
    """Run a program in a container and wait until it has been executed.

    Only for single-threaded processes; the caller becomes non-dumpable for good. ``target.group`` is used up.

    Args:
        target: the container.
        settings: the program; its terminal is one of the container's own.
        seccomp_program: the compiled filter, empty for none.
        stdio: descriptors for standard input, output and error; None with a terminal.
        registered: told of the process, by number and descriptor, before it may execute anything.

    Raises:
        StartFault: it couldn't be run; nothing is left of it.
    """
    # Whoever is in the container must not trace the process or look through its descriptors (CVE-2016-9962).
    process.prctl(process.PR_SET_DUMPABLE, 0)
    ready = _Ready(settings, seccomp_program)
    attempt = _Attempt(target, settings, ready, stdio, registered)
    joined = attempt.run(filtered=True, barely=True) if target.secluded and bare.SUPPORTED and not settings.terminal else None
    if joined is None:
        joined = attempt.run(filtered=True)
    if joined is None and not onlookers.may_trace(target.pidfd):
        # The policy forbids what it takes to get there. Nobody can look into a second stage that still has to put it on itself.
        joined = attempt.run(filtered=False)
    if joined is None:
        raise StartError("seccomp", EPERM, "the container's seccomp policy permits no further process beside its tracers")
    return joined


class _Attempt:
    """One way of going about it, or the other; the arguments are those of :func:`join`."""

    def __init__(
        self,
        target: Target,
        settings: Process,
        ready: _Ready,
        stdio: tuple[int, int, int] | None,
        registered: Callable[[int, int], None],
    ) -> None:
        self._target = target
        self._settings = settings
        self._ready = ready
        self._stdio = stdio
        self._registered = registered

    def run(self, *, filtered: bool, barely: bool = False) -> Joined | None:
        """Run the program; None where, for all that is known, the filter keeps a second stage that is born with it from that,
        or where one without an interpreter couldn't execute it and can't say why.

        Raises:
            StartFault: it couldn't be run; nothing is left of it.
        """
        crossing = _Crossing()
        report_fd, report_end = os.pipe2(os.O_CLOEXEC)
        go_end, go_fd = os.pipe2(os.O_CLOEXEC)
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM) if self._settings.terminal else (None, None)
        try:
            try:
                stage, stage_fd = self._clone((report_end, go_end, theirs), crossing, filtered=filtered, barely=barely)
            finally:
                os.close(report_end)
                os.close(go_end)
                if theirs is not None:
                    theirs.close()
            in_time = _end(stage, stage_fd)
            pid = crossing.pid
            pidfd = process.pidfd_open(pid) if pid else -1
            try:
                if not in_time:
                    late = f"container {self._target.id} let no process in within {JOIN_SECONDS:.0f} s"
                    raise SetupError("join", ETIMEDOUT, late)
                over = self._go(pid, pidfd, go_fd, report_fd, crossing, filtered=filtered)
                console_fd = -1 if ours is None or not over else _receive(ours)
            except BaseException:
                _abandon(pid, pidfd)
                raise
            if not over:
                _abandon(pid, pidfd)
                return None
        finally:
            os.close(report_fd)
            os.close(go_fd)
            if ours is not None:
                ours.close()
        return Joined(pid, pidfd, console_fd, time_ns(), tuple(self._ready.warnings))

    def _clone(
        self, ends: tuple[int, int, socket | None], crossing: _Crossing, *, filtered: bool, barely: bool
    ) -> tuple[int, int]:
        """Clone the first stage into the container's cgroup; one that borrows this process's memory has ended afterwards."""
        target = self._target
        joining = _Joining(
            target, self._settings, self._ready, self._stdio, ends=ends, crossing=crossing, filtered=filtered, barely=barely
        )
        try:
            if joining.shares_time() and vfork.SUPPORTED:
                try:
                    return vfork.spawn(process.CLONE_CLEAR_SIGHAND, target.group.fd, joining.run)
                except OSError as error:
                    if error.errno not in (ENOSYS, EINVAL):
                        raise
            # It has a memory of its own, which it can't leave to another.
            joining.barely = False
            stage, stage_fd = clone(0, target.group.fd, ends[0])
            if stage == 0:
                joining.run()
        except OSError as error:
            if error.errno in _GONE:
                raise SetupError("join", error.errno or 0, f"container {target.id} is not running") from error
            message = f"{error.filename}: {(error.strerror or '').lower()}"
            raise SetupError("clone", error.errno or 0, message) from error
        return stage, stage_fd

    def _go(self, pid: int, pidfd: int, go_fd: int, report_fd: int, crossing: _Crossing, *, filtered: bool) -> bool:
        """Register the second stage, where there is one, let it go on, and see it execute the program.

        Returns:
            False where the filter may have been in the way.

        Raises:
            StartFault: something else was.
        """
        if pid:
            self._registered(pid, pidfd)
            if self._settings.oom_score_adj is not None:
                # By the host's own /proc: in the container that may be anything.
                with suppress(FileNotFoundError, ProcessLookupError):
                    set_oom_score_adj(str(pid), self._settings.oom_score_adj)
            with suppress(BrokenPipeError):
                os.write(go_fd, _GO)
        fault = report.receive(report_fd)
        if fault is None and crossing.over:
            return True
        if crossing.refused:
            return False
        if filtered and self._ready.seccomp_program and (fault is None or fault.step in _FILTERED_STEPS):
            return False
        if fault is not None:
            if fault.step in ("namespaces", "clone") and fault.errno in _GONE:
                raise SetupError("join", fault.errno, f"container {self._target.id} is not running") from fault
            raise fault
        if not pid:
            raise SetupError("join", 0, f"the process that was to enter container {self._target.id} was killed")
        # Killed on its last steps, by the policy as a rule: its exit status tells.
        return True


def _end(stage: int, stage_fd: int) -> bool:
    """Wait for the first stage's end, which is made certain after a while; whether it came by itself."""
    waiting = poll()
    waiting.register(stage_fd, POLLIN)
    in_time = bool(waiting.poll(JOIN_SECONDS * 1000))
    if not in_time:
        process.pidfd_send_signal(stage_fd, _KILL)
    os.waitpid(stage, 0)
    os.close(stage_fd)
    return in_time


def _open_master(root_fd: int) -> int:
    """Open a new terminal's master by the root of the container's devpts, made sure to be one; no name in it is looked up."""
    devpts_fd = files.openat2(root_fd, "/dev/pts", os.O_PATH | os.O_DIRECTORY, resolve=paths.RESOLVE)
    try:
        if files.filesystem_magic(devpts_fd) != files.DEVPTS_SUPER_MAGIC:
            raise OSError(25, "not a devpts file system", "/dev/pts")
        # No mount and no link stands between the file system and its own node.
        resolve = files.RESOLVE_BENEATH | files.RESOLVE_NO_XDEV | files.RESOLVE_NO_SYMLINKS
        master_fd = files.openat2(devpts_fd, "ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW, resolve=resolve)
    finally:
        os.close(devpts_fd)
    found = os.fstat(master_fd)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _PTMX:
        os.close(master_fd)
        raise OSError(25, "not a terminal multiplexer", "/dev/pts/ptmx")
    console.unlock(master_fd)
    return master_fd


def _receive(sock: socket) -> int:
    """The terminal's master, which was sent before the program was executed."""
    _, ancillary, _, _ = sock.recvmsg(1, CMSG_SPACE(4), MSG_CMSG_CLOEXEC)
    (fd,) = unpack("i", ancillary[0][2])
    return int(fd)


def _abandon(pid: int, pidfd: int) -> None:
    """Kill and reap the second stage, where there is one."""
    if not pid:
        return
    try:
        process.pidfd_send_signal(pidfd, _KILL)
    except ProcessLookupError:
        pass
    os.waitpid(pid, 0)
    os.close(pidfd)
