"""From root inside the container to its program: what its first process and every further one have in common.

Nothing is imported here once the process runs. The order matters: descriptors go before the working directory, so that none
can lead out of the root; the filter comes before the capabilities that loading it takes are given up.
"""

from __future__ import annotations

# The C module itself: the public one turns every number into an enumeration's member and back.
import _signal  # type: ignore[import-not-found]
import os
import signal
import stat
from errno import EACCES, EPERM
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import Final, NoReturn, Protocol

from boxrun.container import capabilities, console, devices, paths, reaper, report, rlimits, users
from boxrun.container.exec import environment, execute
from boxrun.container.seccomp.load import load_program
from boxrun.container.spec import Process
from boxrun.errors import BoxrunError, SetupError, StartError, StartFault
from boxrun.linux import files, process

_REPORT_FD: Final = 3
_UMASK: Final = 0o022
_OUTSIDE: Final = (
    "current working directory is outside of container mount namespace root -- possible container breakout detected"
)
_SIGNALS: Final = tuple(int(signum) for signum in signal.valid_signals())


class Ready(Protocol):
    """What must have been opened and worked out for a process that becomes a program."""

    root_fd: int
    """The container's root, for looking up users and the null device."""
    rlimits: list[tuple[int, tuple[int, int]]]
    """The limits to set, as numbers for setrlimit(2)."""
    seccomp_program: bytes
    """The filter; empty for none."""


class Program:
    """A process that becomes the program of ``settings``.

    Args:
        settings: the program.
        ready: what was opened for it.
        stdio: descriptors for standard input, output and error; None for a terminal, or to keep those there are.
        report_fd: where a failure is reported.
        init: whether this process stays behind as the program's init.
    """

    def __init__(
        self, settings: Process, ready: Ready, stdio: tuple[int, int, int] | None, report_fd: int, *, init: bool = False
    ) -> None:
        self._settings = settings
        self._ready = ready
        self._stdio = stdio
        self._report_fd = report_fd
        self._init = init
        self._step = "start"
        self._slave_fd = -1

    def run(self) -> NoReturn:
        """Take every step; ends in the program, or in a report and an exit."""
        try:
            self._detach()
            self._enter()
            self._step = "process"
            self._become(users.resolve(self._ready.root_fd, self._settings.user, self._settings.groups))
        except StartFault as error:
            report.send(self._report_fd, error)
        except OSError as error:
            message = f"{error.filename}: {(error.strerror or '').lower()}" if error.filename else str(error)
            report.send(self._report_fd, StartError(self._step, error.errno or 0, message))
        except BoxrunError as error:
            report.send(self._report_fd, StartError(self._step, 0, str(error)))
        except BaseException as error:  # noqa: BLE001 - the parent must learn of anything at all
            report.send(self._report_fd, StartError(self._step, 0, f"{type(error).__name__}: {error}"))
        finally:
            os._exit(1)

    def _enter(self) -> None:
        """Get into the container."""
        raise NotImplementedError

    def _detach(self) -> None:
        """Be nobody's terminal's and take no signals' settings along."""
        for signum in _SIGNALS:
            if _signal.getsignal(signum) == _signal.SIG_IGN:
                process.reset_signal(signum)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        os.umask(0)
        os.setsid()

    def _become(self, identity: users.Identity) -> NoReturn:
        """From root of the container to the program."""
        ready, settings = self._ready, self._settings
        self._take_stdio(identity)
        if ready.rlimits:
            self._step = "rlimits"
            rlimits.apply(ready.rlimits)
        env = environment(settings.env)
        keep = self._capabilities()
        if not env.get("HOME"):
            env["HOME"] = identity.home or "/"
        self._close_rest()
        self._step = "user"
        capabilities.drop_bounding(keep)
        if identity.uid:
            capabilities.keep_across_setuid()
        entered = self._change_directory(last=False)
        process.set_ids(identity.uid, identity.gid, identity.groups)
        if identity.uid or identity.gid:
            # A change of ids makes the process as dumpable as fs.suid_dumpable has it.
            process.prctl(process.PR_SET_DUMPABLE, 0)
        if not entered:
            self._change_directory(last=True)
        os.umask(_UMASK)
        self._cross(env, filtered=False)
        if ready.seccomp_program or settings.no_new_privileges:
            self._step = "seccomp"
            if identity.uid and not settings.no_new_privileges:
                capabilities.raise_for_seccomp()
            load_program(ready.seccomp_program, settings.no_new_privileges)
        self._step = "capabilities"
        capabilities.apply(keep, effective=identity.uid == 0)
        self._cross(env, filtered=True)
        self._step = "exec"
        if self._init:
            self._leave_reaper()
        execute(settings.args, env)

    def _close_rest(self) -> None:
        """Have the report pipe and nothing else from here on, so that no working directory can lead out by a descriptor."""
        self._move_report()
        files.close_from(_REPORT_FD + 1)

    def _move_report(self) -> None:
        if self._report_fd != _REPORT_FD:
            os.dup2(self._report_fd, _REPORT_FD, inheritable=False)
            self._report_fd = _REPORT_FD

    def _cross(self, env: dict[str, str], *, filtered: bool) -> None:
        """Where another process may go on in this one's place.

        Args:
            env: the program's environment.
            filtered: whether filter and capabilities are set.
        """

    def _take_terminal(self) -> None:
        """Have the terminal for the standard streams and for one's own."""
        console.take(self._slave_fd)

    def _capabilities(self) -> int:
        try:
            return capabilities.mask_of(self._settings.capabilities) & capabilities.inherited_bounding_set()
        except ValueError as error:
            raise SetupError("capabilities", 0, str(error)) from error

    def _take_stdio(self, identity: users.Identity) -> None:
        """Put the streams where the program expects them, and make them the user's, as runc does (fixStdioPermissions)."""
        if self._slave_fd >= 0:
            self._take_terminal()
        elif self._stdio is not None:
            # A stream that is where another one has to go moves out of the way first.
            sources = [fcntl(fd, F_DUPFD_CLOEXEC, 10) if fd < 3 else fd for fd in self._stdio]
            for target, source in enumerate(sources):
                os.dup2(source, target)
        for fd in (0, 1, 2):
            found = os.fstat(fd)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == devices.NULL_DEVICE:
                self._own_null(fd)
            elif found.st_uid != identity.uid:
                try:
                    os.fchown(fd, identity.uid, -1 if self._slave_fd >= 0 else identity.gid)
                except OSError as error:
                    # Files of read-only or foreign file systems keep their owner.
                    if error.errno not in (EPERM, EACCES, 30, 22):
                        raise

    def _own_null(self, fd: int) -> None:
        """Replace the host's null device by the container's, where it has a real one."""
        try:
            null_fd = files.openat2(self._ready.root_fd, "/dev/null", os.O_RDWR, resolve=paths.RESOLVE)
        except OSError:
            return
        if devices.is_null(null_fd):
            os.dup2(null_fd, fd)
        os.close(null_fd)

    def _change_directory(self, *, last: bool) -> bool:
        """Enter the working directory and make sure it is inside the root; False where only the user may try."""
        cwd = self._settings.cwd
        self._step = "cwd"
        try:
            os.chdir(cwd)
        except OSError as error:
            if error.errno == EACCES and not last:
                return False
            reason = (error.strerror or "").lower()
            code = 126 if error.errno == EACCES else 127
            raise StartError(
                "cwd", error.errno or 0, f'chdir to cwd ("{cwd}") set in config.json failed: {reason}', code
            ) from error
        try:
            inside = os.getcwd().startswith("/")
        except OSError:
            inside = False
        if not inside:
            raise StartError(
                "cwd",
                0,
                _OUTSIDE,
            )
        self._step = "user"
        return True

    def _leave_reaper(self) -> None:
        program = reaper.split()
        if program:
            os.close(_REPORT_FD)
            reaper.serve(program)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def set_oom_score_adj(process_directory: str, value: int) -> None:
    """Write ``value`` for a process of the host's /proc; lowering it needs CAP_SYS_RESOURCE, without which it stays.

    Source: proc_pid_oom_score_adj(5).
    """
    fd = os.open(f"/proc/{process_directory}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    except PermissionError:
        # prepare() has warned about this already.
        pass
    finally:
        os.close(fd)
