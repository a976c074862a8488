"""The container's first process from the clone to its program, step by step.

Nothing is imported here once the process runs, nothing is read through a path of the container but by way of
``openat2``, and whatever goes wrong is reported to the parent with the step it went wrong in.
"""

from __future__ import annotations

# The C module itself: the public one turns every number into an enumeration's member and back.
import _signal  # type: ignore[import-not-found]
import os
import signal
import stat
from errno import EACCES, ENODEV, ENOSYS, EPERM
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import Final, NoReturn

from boxrun.container import (
    capabilities,
    cgroupfs,
    console,
    devices,
    masks,
    mounts,
    namespaces,
    paths,
    reaper,
    report,
    rlimits,
    rootfs,
    sysctls,
    users,
)
from boxrun.container.exec import environment, execute
from boxrun.container.prepare import Prepared
from boxrun.container.seccomp.load import load_program
from boxrun.errors import BoxrunError, SetupError, StartError, StartFault
from boxrun.linux import files, process
from boxrun.linux import mounts as kernel_mounts
from boxrun.linux import namespaces as kernel_namespaces

_REPORT_FD: Final = 3
_UMASK: Final = 0o022
_OUTSIDE: Final = (
    "current working directory is outside of container mount namespace root -- possible container breakout detected"
)
_SIGNALS: Final = tuple(int(signum) for signum in signal.valid_signals())


class Child:
    """The process that becomes the container's program."""

    def __init__(self, prepared: Prepared, stdio: tuple[int, int, int] | None, report_fd: int, go_fd: int) -> None:
        self._prepared = prepared
        self._spec = prepared.spec
        self._stdio = stdio
        self._report_fd = report_fd
        self._go_fd = go_fd
        self._step = "start"
        self._slave_fd = -1

    def run(self) -> NoReturn:
        """Take every step; ends in the program, or in a report and an exit."""
        try:
            self._detach()
            self._step = "cgroup"
            member = self._join_cgroup()
            self._step = "namespaces"
            self._settle_namespaces()
            self._step = "rootfs"
            if not self._prepared.staged:
                self._prepared.stage()
            self._build_root(member)
            self._step = "process"
            identity = users.resolve(self._prepared.root_fd, self._spec.process.user, self._spec.process.groups)
            self._become(identity)
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

    def _detach(self) -> None:
        """Be nobody's terminal's, take no signals' settings along, wait for the id mappings."""
        for signum in _SIGNALS:
            if _signal.getsignal(signum) == _signal.SIG_IGN:
                _signal.signal(signum, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        os.umask(0)
        os.setsid()
        adjustment = self._spec.process.oom_score_adj
        if self._go_fd >= 0:
            if os.read(self._go_fd, 1) != b"g":
                raise StartError("namespaces", 0, "the parent ended before it wrote the id mappings")
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        elif adjustment is not None:
            self._step = "oom_score_adj"
            set_oom_score_adj("self", adjustment)

    def _join_cgroup(self) -> cgroupfs.Membership | None:
        for fd in self._prepared.group.join_fds:
            os.write(fd, b"0")
        wanted = any(mount.kind == "cgroup" for mount in self._spec.mounts)
        member = cgroupfs.membership() if wanted else None
        if "cgroup" in self._prepared.namespaces.new:
            kernel_namespaces.unshare(kernel_namespaces.CLONE_NEWCGROUP)
        return member

    def _settle_namespaces(self) -> None:
        planned = self._prepared.namespaces
        namespaces.enter(planned)
        if "net" in planned.new:
            kernel_namespaces.loopback_up()
        if self._spec.hostname:
            kernel_namespaces.sethostname(self._spec.hostname)
        if self._spec.domainname:
            kernel_namespaces.setdomainname(self._spec.domainname)
        try:
            process.join_session_keyring(f"_ses.{self._spec.id}")
        except OSError as error:
            # A kernel without keyrings has none to keep apart; an outer container's filter may refuse them.
            if error.errno not in (ENOSYS, EPERM, EACCES):
                raise

    def _build_root(self, member: cgroupfs.Membership | None) -> None:
        prepared, spec = self._prepared, self._spec
        root_fd = prepared.root_fd
        rootfs.attach(root_fd)
        proc_fd = mounts.attach(root_fd, prepared.mounts, member)
        for node in prepared.nodes:
            devices.make_below(root_fd, paths.normalise(node.target)[1:], node, None)
        if prepared.master_fd >= 0:
            self._mount_console()
        if spec.sysctls:
            self._step = "sysctls"
            planned = sysctls.plan(spec.sysctls, prepared.namespaces.own)
            sysctls.apply(proc_fd if proc_fd >= 0 else kernel_mounts.new_mount("proc"), planned)
            self._step = "rootfs"
        masks.make_readonly(root_fd, spec.readonly_paths)
        if spec.masked_paths:
            if prepared.null_fd < 0:
                prepared.null_fd = masks.null_cover(prepared.dev_fd)
            masks.mask(root_fd, spec.masked_paths, prepared.null_fd, prepared.empty_fd)
        # Docker makes a working directory that the image lacks, which a read-only root would refuse.
        if spec.process.cwd != "/":
            self._make_cwd()
        rootfs.finish(root_fd, spec.root)
        rootfs.enter(root_fd)

    def _make_cwd(self) -> None:
        cwd = self._spec.process.cwd
        if not cwd.startswith("/"):
            raise StartError("cwd", 0, f'the working directory "{cwd}" is invalid, it needs to be an absolute path')
        try:
            os.close(paths.make_directory(self._prepared.root_fd, paths.normalise(cwd)))
        except OSError:
            # Where it can't be made, or leads through a magic link, chdir has the last word.
            return

    def _mount_console(self) -> None:
        self._slave_fd = console.open_slave(self._prepared.master_fd)
        dev_fd = self._prepared.dev_fd
        if dev_fd >= 0:
            console.mount_console(self._slave_fd, dev_fd)
            return
        dev_fd = paths.open_path(self._prepared.root_fd, "/dev", follow=False)
        try:
            console.mount_console(self._slave_fd, dev_fd)
        except OSError as error:
            if error.errno != ENODEV:
                raise
        finally:
            os.close(dev_fd)

    def _become(self, identity: users.Identity) -> NoReturn:
        """From root of the container to the program."""
        prepared, settings = self._prepared, self._spec.process
        self._take_stdio(identity)
        if prepared.rlimits:
            self._step = "rlimits"
            rlimits.apply(prepared.rlimits)
        env = environment(settings.env)
        keep = self._capabilities()
        if not env.get("HOME"):
            env["HOME"] = identity.home or "/"
        # From here on there is the report pipe and nothing else, so that no working directory can lead out by a descriptor.
        if self._report_fd != _REPORT_FD:
            os.dup2(self._report_fd, _REPORT_FD, inheritable=False)
            self._report_fd = _REPORT_FD
        files.close_from(_REPORT_FD + 1)
        self._step = "user"
        capabilities.drop_bounding(keep)
        if identity.uid:
            capabilities.keep_across_setuid()
        entered = self._change_directory(last=False)
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
        if identity.uid or identity.gid:
            # A change of ids makes the process as dumpable as fs.suid_dumpable has it.
            process.prctl(process.PR_SET_DUMPABLE, 0)
        if not entered:
            self._change_directory(last=True)
        os.umask(_UMASK)
        if prepared.seccomp_program or settings.no_new_privileges:
            self._step = "seccomp"
            if identity.uid and not settings.no_new_privileges:
                capabilities.raise_for_seccomp()
            load_program(prepared.seccomp_program, settings.no_new_privileges)
        self._step = "capabilities"
        capabilities.apply(keep, effective=identity.uid == 0)
        self._step = "exec"
        if self._spec.init:
            self._leave_reaper()
        execute(settings.args, env)

    def _capabilities(self) -> int:
        try:
            return capabilities.mask_of(self._spec.process.capabilities) & capabilities.inherited_bounding_set()
        except ValueError as error:
            raise SetupError("capabilities", 0, str(error)) from error

    def _take_stdio(self, identity: users.Identity) -> None:
        """Put the streams where the program expects them, and make them the user's, as runc does (fixStdioPermissions)."""
        if self._slave_fd >= 0:
            console.take(self._slave_fd)
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
            null_fd = files.openat2(self._prepared.root_fd, "/dev/null", os.O_RDWR, resolve=paths.RESOLVE)
        except OSError:
            return
        if devices.is_null(null_fd):
            os.dup2(null_fd, fd)
        os.close(null_fd)

    def _change_directory(self, *, last: bool) -> bool:
        """Enter the working directory and make sure it is inside the root; False where only the user may try."""
        cwd = self._spec.process.cwd
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
