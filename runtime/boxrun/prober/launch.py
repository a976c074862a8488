"""Running one probe.

A fork of this process costs more than the whole probe, mostly in page faults, so the program is executed by the C code that
the standard library's subprocess module has for it: vfork(2), a few dup2(2), execve(2).
"""

from __future__ import annotations

import os
from _posixsubprocess import fork_exec
from contextlib import suppress
from ctypes import c_int
from errno import EACCES, ENOENT, ENOTDIR, EPERM
from mmap import MADV_DONTFORK, PAGESIZE, mmap
from typing import Final, NoReturn, Protocol

from boxrun.container import report
from boxrun.container.program import Program
from boxrun.container.spec import Process
from boxrun.errors import StartError, StartFault
from boxrun.linux import namespaces
from boxrun.linux.process import clone_sibling
from boxrun.prober.plan import Plan, may_trace

_PREFIX: Final = "OCI runtime exec failed: exec failed: unable to start container process: "

_CLONE: Final = "clone"
_KILL: Final = 9


class LaunchError(Exception):
    """The probe's program can't be run; in Docker's words."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{_PREFIX}{reason}: unknown")


class Launcher(Protocol):
    """Starts probes."""

    def launch(self, output: int) -> int:
        """Execute the program with both its outputs to ``output``; its process's number. Raises LaunchError."""


class Direct:
    """For a process that is what the program is to be.

    Args:
        plan: what to execute.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._programs = plan.programs
        # This process is in the root directory and has the null device for its standard streams already.
        self._cwd = None if plan.cwd == "/" else plan.cwd
        self._errors = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def launch(self, output: int) -> int:
        """Execute the program in a session of its own. Raises LaunchError."""
        errors = self._errors
        try:
            pid = fork_exec(
                self._plan.args,
                self._programs,
                False,
                (),
                self._cwd,  # type: ignore[arg-type]
                self._plan.env,
                *(-1, -1, -1, output, -1, output, *errors),
                True,
                True,
                -1,
                None,
                None,
                None,
                -1,
                None,  # type: ignore[arg-type]
                True,
            )
        except OSError as error:
            raise LaunchError(f"fork: {(error.strerror or '').lower()}") from error
        # This process stood still until the program was executed, or the child had said why not.
        try:
            failure = os.read(errors[0], 256)
        except BlockingIOError:
            self._found()
            return pid
        os.waitpid(pid, 0)
        raise LaunchError(self._reason(failure))

    def _found(self) -> None:
        """Begin with the program that was found last: every place that it isn't in costs an execve(2)."""
        if self._programs is self._plan.programs and len(self._programs) > 1:
            found = next((path for path in self._programs if os.access(path, os.X_OK)), None)
            self._programs = self._programs if found is None else [found, *self._programs]

    def _reason(self, failure: bytes) -> str:
        """What went wrong, from fork_exec's message: an exception's name, the error number in hex, and where."""
        _, _, rest = failure.partition(b":")
        number, _, step = rest.partition(b":")
        try:
            errno = int(number, 16)
        except ValueError:
            errno = 0
        reason = os.strerror(errno).lower()
        if step:
            return f'chdir to cwd ("{self._plan.cwd}") set in config.json failed: {reason}'
        name = os.fsdecode(self._plan.args[0])
        if errno in (ENOENT, ENOTDIR):
            missing = f"stat {name}: {reason}" if "/" in name else "executable file not found in $PATH"
            return f'exec: "{name}": {missing}'
        if errno in (EACCES, EPERM):
            return f'exec: "{name}": permission denied'
        return f"exec {name}: {reason}"


class Confined:
    """For a process that is root in the container: every child becomes by itself what the program is to be.

    It does so outside of the container's pid namespace, where nothing in the container sees it. What then appears in there is
    its sibling, which has the program's rights, the program's descriptors and the report pipe, and only executes the program.
    Only where the user's filter forbids that, and nothing in the container may trace, does the sibling load the filter.

    ``root_fd``, ``rlimits`` and ``seccomp_program`` are what ``boxrun.container.program`` takes.

    Args:
        plan: what to execute.
        settings: the program.
        null: the null device's descriptor.
        pid_namespace: the one to be in, -1 for this process's own.
    """

    def __init__(self, plan: Plan, settings: Process, null: int, pid_namespace: int) -> None:
        self.root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.seccomp_program = plan.seccomp
        self.rlimits = list(plan.rlimits)
        self._settings = settings
        self._null = null
        self._pid_namespace = pid_namespace
        self._filtered = True
        # Where the kernel puts the sibling's number; the child shares it, the sibling doesn't.
        self._page = mmap(-1, PAGESIZE)
        self._number = c_int.from_buffer(self._page)

    def launch(self, output: int) -> int:
        """Fork a child that becomes the program. Raises LaunchError."""
        pid, failure = self._attempt(output)
        if failure is not None and failure.step == _CLONE and self._filtered and not may_trace(self._settings):
            self._filtered = False
            pid, failure = self._attempt(output)
        if failure is not None:
            raise LaunchError(failure.message)
        return pid

    def _attempt(self, output: int) -> tuple[int, StartFault | None]:
        """The program's process, or why there is none. Raises LaunchError."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._number.value = 0
        try:
            child = os.fork()
        except OSError as error:
            os.close(reader)
            os.close(writer)
            raise LaunchError(f"fork: {(error.strerror or '').lower()}") from error
        if not child:
            self._become((self._null, output, output), writer)
        os.close(writer)
        try:
            failure = report.receive(reader)
        finally:
            os.close(reader)
        status = os.waitpid(child, 0)[1]
        pid = self._number.value
        if failure is None and not pid:
            how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
            failure = StartError(_CLONE, 0, f"its process ended with {how} before the program began")
        if failure is not None and pid:
            os.kill(pid, _KILL)
            os.waitpid(pid, 0)
        return pid, failure

    def _become(self, stdio: tuple[int, int, int], report_fd: int) -> NoReturn:
        inside = _Inside(self._settings, self, stdio, report_fd)
        inside.cross_by(self._page, self._number, self._pid_namespace, filtered=self._filtered)
        inside.run()


class _Inside(Program):
    """A child that is in the container already but for its pid namespace, into which it sends a sibling at the end."""

    def cross_by(self, page: mmap, number: c_int, pid_namespace: int, *, filtered: bool) -> None:
        """How to do that: ``filtered`` says whether the sibling is born with filter and capabilities."""
        self._page = page
        self._number = number
        self._pid_namespace = pid_namespace
        self._filtered = filtered

    def _enter(self) -> None:
        # Nobody but the kernel is to say which process it is, as the sibling may be traced.
        self._page.madvise(MADV_DONTFORK)
        if self._pid_namespace >= 0:
            self._step = "namespaces"
            namespaces.setns(self._pid_namespace, namespaces.CLONE_NEWPID)

    def _cross(self, env: dict[str, str], *, filtered: bool) -> None:
        if filtered != self._filtered:
            return
        self._step = _CLONE
        if clone_sibling(self._number):
            os._exit(0)
        # It is to be killed with all that it starts.
        self._step = "session"
        os.setsid()


def drain(fd: int, kept: bytearray, limit: int, null: int) -> bool:
    """Read what is in the pipe ``fd``, of which ``kept`` holds no more than ``limit`` + 1 bytes; False at its end.

    What is more than that is thrown away within the kernel.
    """
    try:
        if len(kept) <= limit:
            chunk = os.read(fd, limit + 1 - len(kept))
            kept += chunk
            return bool(chunk)
        with suppress(NotImplementedError):
            return os.splice(fd, null, 1 << 20) > 0
        return bool(os.read(fd, limit))
    except BlockingIOError:
        return True
