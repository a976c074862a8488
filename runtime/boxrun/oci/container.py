"""Making a container by another OCI runtime, and clearing up after it.

Root, cgroup, limits, logs and streams are ours as for every container; the runtime gets a bundle whose root is mounted in a
mount namespace that ends with the call, so that the host never sees it. Its first process becomes the shim's child, as the
shim is the nearest subreaper, and from then on is looked after like any other.
"""

from __future__ import annotations

import os
import stat
from _socket import AF_UNIX, CMSG_SPACE, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from struct import unpack
from typing import Final, NamedTuple

from boxrun.container import console, devices, neighbours, rootfs, trees, users
from boxrun.container.cgroups import tree
from boxrun.container.prepare import Joinable, Prepared
from boxrun.container.spec import ForeignRuntime, Spec
from boxrun.errors import SetupError, StartFault
from boxrun.linux import mounts as kernel_mounts
from boxrun.linux import process
from boxrun.oci.bundle import Bundle
from boxrun.oci.command import Program
from boxrun.oci.config import Facts, configuration

_ANCILLARY: Final = CMSG_SPACE(4)


class Made(NamedTuple):
    """A container whose program runs; the descriptors are the caller's, ``console`` -1 without a terminal."""

    pid: int
    pidfd: int
    console: int
    warnings: list[str]


def make(
    runtime: ForeignRuntime,
    spec: Spec,
    joins: Mapping[str, int],
    group: Joinable,
    *,
    seccomp: bytes,
    stdio: tuple[int, int, int] | None,
    hybrid: bool,
) -> Made:
    """Have ``runtime`` make the container and start its program.

    Args:
        runtime: the other runtime.
        spec: the container.
        joins: a pid descriptor or an open namespace file for each kind of namespace that is joined.
        group: the container's cgroup.
        seccomp: ``linux.seccomp`` in JSON, empty for none.
        stdio: the program's standard streams; None with a terminal.
        hybrid: v1 controllers stand beside cgroup2.

    Raises:
        StartFault: it couldn't be made; what is left of it is in the cgroup, and in the bundle.
    """
    prepared = Prepared(spec, joins, group, b"")
    bundle = Bundle(spec.state_dir)
    program = Program(runtime, spec.id, bundle, hybrid=hybrid)
    opened: list[int] = []
    try:
        bundle.make()
        enter = _assemble(prepared, joins, bundle, seccomp, opened)
        listener, path = _listen(bundle, opened) if spec.process.terminal else (None, "")
        pid = program.create(stdio, path, group.fd if hybrid else None, enter)
        pidfd = process.pidfd_open(pid)
        if group.fd is not None:
            # Whatever the runtime made of the group's path, this is what limits, stops and kills the container.
            tree.write(group.fd, "cgroup.procs", str(pid))
        console_fd = -1
        try:
            if listener is not None:
                console_fd = _receive(listener)
                if spec.process.console_height or spec.process.console_width:
                    console.set_size(console_fd, spec.process.console_height, spec.process.console_width)
            program.start()
        except BaseException:
            os.close(pidfd)
            if console_fd >= 0:
                os.close(console_fd)
            raise
    except BaseException as error:
        clear(runtime, spec.state_dir, spec.id, hybrid=hybrid)
        if isinstance(error, OSError):
            raise SetupError("runtime", error.errno or 0, f"{error.filename}: {(error.strerror or '').lower()}") from error
        raise
    finally:
        prepared.close()
        for fd in opened:
            os.close(fd)
    return Made(pid, pidfd, console_fd, prepared.warnings)


def clear(runtime: ForeignRuntime, state_dir: str, container: str, *, hybrid: bool) -> None:
    """Have the runtime forget the container where it still can, and remove the bundle."""
    bundle = Bundle(state_dir)
    if os.path.exists(f"{bundle.state}/{container}"):
        with suppress(StartFault, OSError):
            Program(runtime, container, bundle, hybrid=hybrid).delete()
    bundle.remove()


def _assemble(
    prepared: Prepared, joins: Mapping[str, int], bundle: Bundle, seccomp: bytes, opened: list[int]
) -> Callable[[], None]:
    """Write the configuration; returns what mounts root and borrowed trees in the runtime's mount namespace."""
    spec = prepared.spec
    try:
        root_fd = rootfs.detached_overlay(spec.root)
    except OSError as error:
        message = f"mount the root file system: {error.filename}: {(error.strerror or '').lower()}"
        raise SetupError("rootfs", error.errno or 0, message) from error
    opened.append(root_fd)
    attached = {bundle.rootfs: root_fd}
    made = {}
    for number, (target, tree_fd) in enumerate(_trees(spec, joins, opened).items()):
        made[target] = f"{bundle.trees}/{number}"
        if stat.S_ISDIR(os.fstat(tree_fd).st_mode):
            os.mkdir(made[target], 0o700)
        else:
            os.close(os.open(made[target], os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        attached[made[target]] = tree_fd
    paths = {}
    for kind, fd in joins.items():
        opened.append(_namespace(kind, fd))
        paths[kind] = f"/proc/{os.getpid()}/fd/{opened[-1]}"
    facts = Facts(
        rootfs=bundle.rootfs,
        identity=users.resolve(root_fd, spec.process.user, spec.process.groups),
        nodes=devices.inspect(spec.devices),
        joins=paths,
        trees=made,
        rlimits=prepared.rlimits,
        oom_score_adj=prepared.oom_score_adj,
        seccomp=seccomp,
    )
    bundle.write(configuration(spec, facts))

    def enter() -> None:
        for path, tree_fd in attached.items():
            target_fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            kernel_mounts.move_mount(tree_fd, target_fd)
            os.close(target_fd)

    return enter


def _trees(spec: Spec, joins: Mapping[str, int], opened: list[int]) -> dict[str, int]:
    """The mounts that another runtime couldn't make from a path, as detached trees by their targets."""
    found = neighbours.borrow(spec.mounts, joins)
    opened += found.values()
    for mount in spec.mounts:
        if mount.kind in ("overlay", "filesystem") or mount.subpath:
            found[mount.target] = trees.detached(mount)
            opened.append(found[mount.target])
    return found


def _namespace(kind: str, fd: int) -> int:
    """The namespace file of what is joined, whose path a runtime can be told while this process has it open."""
    if os.readlink(f"/proc/self/fd/{fd}") != "anon_inode:[pidfd]":
        return os.dup(fd)
    with open(f"/proc/self/fdinfo/{fd}") as file:
        pid = next(int(line.split()[1]) for line in file if line.startswith("Pid:"))
    if pid < 0:
        raise SetupError("join", 0, f"cannot join the {kind} namespace of a container that isn't running")
    found = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    # The number was still that process's when the file was opened, or somebody else's by now.
    process.pidfd_send_signal(fd, 0)
    return found


def _listen(bundle: Bundle, opened: list[int]) -> tuple[socket, str]:
    """A socket in the bundle, and its path by way of a descriptor: sun_path has 108 bytes, whatever the bundle's path has."""
    directory = os.open(bundle.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.append(directory)
    path = f"/proc/{os.getpid()}/fd/{directory}/console"
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK)
    listener.bind(path)
    listener.listen(1)
    return listener, path


def _receive(listener: socket) -> int:
    """The terminal's master, which the runtime has sent by the time it ends."""
    try:
        fd, _ = listener._accept()  # type: ignore[attr-defined]
        connection = socket(fileno=fd)
        try:
            _, ancillary, _, _ = connection.recvmsg(4096, _ANCILLARY, MSG_CMSG_CLOEXEC)
        finally:
            connection.close()
    except BlockingIOError as error:
        raise SetupError("console", 0, "the runtime sent no terminal") from error
    finally:
        listener.close()
    for level, kind, content in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            (master,) = unpack("i", content[:4])
            return int(master)
    raise SetupError("console", 0, "the runtime sent no terminal")
