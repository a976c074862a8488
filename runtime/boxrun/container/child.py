"""The container's first process from the clone to its program, step by step.

Nothing is imported here once the process runs, nothing is read through a path of the container but by way of
``openat2``, and whatever goes wrong is reported to the parent with the step it went wrong in.
"""

from __future__ import annotations

import os
from errno import EACCES, ENODEV, ENOSYS, EPERM

from boxrun.container import cgroupfs, console, devices, masks, mounts, namespaces, paths, rootfs, sysctls
from boxrun.container.prepare import Prepared
from boxrun.container.program import Program, set_oom_score_adj
from boxrun.errors import StartError
from boxrun.linux import mounts as kernel_mounts
from boxrun.linux import namespaces as kernel_namespaces
from boxrun.linux import process


class Child(Program):
    """The container's first process: makes the container around itself and becomes its program."""

    def __init__(
        self,
        prepared: Prepared,
        stdio: tuple[int, int, int] | None,
        report_fd: int,
        gate: int = -1,
        go: tuple[int, int] = (-1, -1),
    ) -> None:
        """``gate``: what to wait at for the network; ``go``: the ends of the pipe by which it is let go on once its ids are
        mapped, where it has a user namespace of its own.
        """
        super().__init__(prepared.spec.process, prepared, stdio, report_fd, init=prepared.spec.init)
        self._prepared = prepared
        self._spec = prepared.spec
        self._gate = gate
        self._go_fd, self._go_end = go

    def _enter(self) -> None:
        self._step = "cgroup"
        member = self._join_cgroup()
        self._step = "namespaces"
        self._settle_namespaces()
        self._step = "rootfs"
        if not self._prepared.staged:
            self._prepared.stage()
        self._build_root(member)
        self._wait_for_network()

    def _detach(self) -> None:
        """Be nobody's terminal's, take no signals' settings along, wait for the id mappings."""
        super()._detach()
        adjustment = self._settings.oom_score_adj
        if self._go_fd >= 0:
            # With an end of its own it would wait for ever for one that has died.
            os.close(self._go_end)
            if os.read(self._go_fd, 1) != b"g":
                raise StartError("namespaces", 0, "nobody was there any more to let the container go on")
            process.set_ids(0, 0)
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
            self._wait_for_network()  # whose interfaces they may be for
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
        rootfs.propagate(root_fd, spec.root)

    def _wait_for_network(self) -> None:
        if self._gate >= 0:
            if not os.read(self._gate, 1):
                raise StartError("network", 0, "nobody was there any more to plug the container in")
            self._gate = -1

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
