"""Calling another OCI runtime's program, in a process that ends with this one.

Its interface is runc's: ``create``, ``start``, ``delete`` with ``--root``, ``--log`` and ``--log-format json``. What it
inherits is a clean environment, default signals, and three descriptors.
"""

from __future__ import annotations

# The C module itself: the public one turns every number into an enumeration's member and back.
import _signal  # type: ignore[import-not-found]
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from select import POLLIN, poll
from typing import Final, NoReturn

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from boxrun.container import report
from boxrun.container.exec import DEFAULT_PATH
from boxrun.container.spec import ForeignRuntime
from boxrun.errors import SetupError, StartError
from boxrun.linux import files, mounts, process
from boxrun.linux.namespaces import CLONE_NEWNS
from boxrun.oci.bundle import Bundle

CALL_SECONDS: Final = 60.0
"""How long the program may take."""

_CGROUP2_BESIDE_V1: Final = "/sys/fs/cgroup/unified"
_KILL: Final = 9
_SIGNALS: Final = tuple(int(signum) for signum in signal.valid_signals())
_NOT_FOUND: Final = ("executable file not found", "no such file or directory", "executable file `")
_NOT_EXECUTABLE: Final = ("permission denied", "not a directory", "is a directory", "exec format error")


class _Line(Struct):
    """A line of the runtime's log."""

    level: str = ""
    msg: str = ""


_decode_line = Decoder(_Line).decode


class Program:
    """Another runtime's program, for one container.

    Args:
        runtime: the program and its arguments.
        container: the container's id.
        bundle: where it keeps its state and writes its log.
        hybrid: v1 controllers stand beside cgroup2. Processes are in their cgroup2 group before the program runs, so cgroup2
            is hidden from it: not every runtime knows such a machine.
    """

    def __init__(self, runtime: ForeignRuntime, container: str, bundle: Bundle, *, hybrid: bool) -> None:
        self._runtime = runtime
        self._hybrid = hybrid
        self._id = container
        self._bundle = bundle

    def create(self, stdio: tuple[int, int, int] | None, console: str, cgroup_fd: int | None, enter: Callable[[], None]) -> int:
        """Make the container, which then waits to be started; returns its first process's number.

        Args:
            stdio: the program's standard streams; None with a terminal.
            console: the path of the socket to which the terminal's master is sent; empty without one.
            cgroup_fd: the cgroup2 directory to run in, so that whatever ends the container ends this too.
            enter: called in a mount namespace of the program's own before it is executed.

        Raises:
            StartError: the program's own reason.
        """
        arguments = ["create", "--bundle", self._bundle.path, "--pid-file", self._bundle.pid_file]
        if console:
            arguments += ["--console-socket", console]
        self._call([*arguments, self._id], stdio, cgroup_fd, enter)
        with open(self._bundle.pid_file, "rb") as file:
            return int(file.read())

    def start(self) -> None:
        """Have the program executed. Raises StartError."""
        self._call(["start", self._id])

    def delete(self) -> None:
        """Have the runtime forget the container, killing it where it still runs. Raises StartError."""
        self._call(["delete", "--force", self._id])

    def _call(
        self,
        arguments: Sequence[str],
        stdio: tuple[int, int, int] | None = None,
        cgroup_fd: int | None = None,
        enter: Callable[[], None] | None = None,
    ) -> None:
        what = f"{os.path.basename(self._runtime.path)} {arguments[0]}"
        report_fd, report_end = os.pipe2(os.O_CLOEXEC)
        try:
            pid, pidfd = process.clone3(CLONE_NEWNS, cgroup_fd)
            if pid == 0:
                self._become(arguments, stdio, report_end, enter)
        except OSError as error:
            os.close(report_fd)
            raise SetupError("runtime", error.errno or 0, f"run {what}: {error}") from error
        finally:
            os.close(report_end)
        try:
            status = _wait(pid, pidfd, what)
            failure = report.receive(report_fd)
        finally:
            os.close(pidfd)
            os.close(report_fd)
        if failure is not None:
            raise failure
        if status:
            raise self._refused(what, os.waitstatus_to_exitcode(status))

    def _become(
        self,
        arguments: Sequence[str],
        stdio: tuple[int, int, int] | None,
        report_fd: int,
        enter: Callable[[], None] | None,
    ) -> NoReturn:
        runtime, bundle = self._runtime, self._bundle
        try:
            process.set_parent_death_signal(_KILL)
            for signum in _SIGNALS:
                if _signal.getsignal(signum) == _signal.SIG_IGN:
                    _signal.signal(signum, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            os.setsid()
            mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_SLAVE)
            if self._hybrid:
                with suppress(OSError):
                    mounts.unmount(_CGROUP2_BESIDE_V1, mounts.MNT_DETACH)
            if enter is not None:
                enter()
            null_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            for target, source in enumerate([os.dup(fd) for fd in stdio or (null_fd, null_fd, null_fd)]):
                os.dup2(source, target)
            files.cloexec_from(3)
            options = ["--root", bundle.state, "--log", bundle.log, "--log-format", "json"]
            os.chdir(bundle.path)
            os.execve(runtime.path, [runtime.path, *runtime.args, *options, *arguments], {"PATH": DEFAULT_PATH})
        except OSError as error:
            message = f"run {runtime.path}: {error.filename}: {(error.strerror or '').lower()}"
            report.send(report_fd, SetupError("runtime", error.errno or 0, message))
        except BaseException as error:  # noqa: BLE001 - nothing of the caller's may run in its child
            report.send(report_fd, SetupError("runtime", 0, f"run {runtime.path}: {error}"))
        finally:
            os._exit(1)

    def _refused(self, what: str, code: int) -> StartError:
        """The error that the runtime logged last, with the exit code that Docker gives it (moby daemon/errors.go)."""
        message = ""
        try:
            with open(self._bundle.log, "rb") as file:
                lines = file.read(1 << 20).splitlines()
        except OSError:
            lines = []
        for line in lines:
            try:
                entry = _decode_line(line)
            except DecodeError:
                continue
            if entry.level == "error":
                message = entry.msg
        # Clients take the exit code out of these words, which runc has in lower case.
        message = message.replace("No such file or directory", "no such file or directory")
        lower = message.lower()
        exit_code = 127 if any(words in lower for words in _NOT_FOUND) else 128
        if any(words in lower for words in _NOT_EXECUTABLE):
            exit_code = 126
        if message.startswith(what):
            return StartError("runtime", 0, message, exit_code)
        return StartError("runtime", 0, f"{what} failed: {message or f'exit status {code}'}", exit_code)


def _wait(pid: int, pidfd: int, what: str) -> int:
    """The wait status, once the process has ended, at the latest by being killed."""
    poller = poll()
    poller.register(pidfd, POLLIN)
    late = not poller.poll(CALL_SECONDS * 1000)
    if late:
        process.pidfd_send_signal(pidfd, _KILL)
    status = os.waitpid(pid, 0)[1]
    if late:
        raise StartError("runtime", 0, f"{what} did not end within {CALL_SECONDS:.0f} s")
    return status
