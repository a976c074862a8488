"""From a container's configuration to what the runtime is told.

Source: moby daemon/oci_linux.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from boxrun.container.defaults import MASKED_PATHS, READONLY_PATHS, default_mounts
from boxrun.container.spec import Cgroup, Mount, Namespace, Process, Root, Seccomp, Spec, Stdio
from boxship.types.containers import ContainerConfig
from boxship.types.host import HostConfig
from msgspec.structs import replace

from boxshipd.containers.directories import mount_points
from boxshipd.containers.host_files import TARGETS
from boxshipd.containers.model import Container
from boxshipd.containers.settings import Settings
from boxshipd.containers.spec.cdi import NOTHING, inject
from boxshipd.containers.spec.mount_options import in_order, parse_mounts
from boxshipd.containers.spec.remapping import mapped
from boxshipd.containers.spec.resources import build_resources, build_rlimits, host_devices, named_devices
from boxshipd.containers.spec.runtimes import foreign_runtime
from boxshipd.containers.spec.security_options import (
    capabilities,
    parse_security_options,
    sysctls,
    wants_writable_cgroups,
)
from boxshipd.errors import Conflict

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"

Find = Callable[[str], Container]
"""Finds a container by reference; raises NotFound."""


def build_spec(container: Container, settings: Settings, find: Find) -> Spec:
    """The spec of a container, made anew for each start: what it joins and the host's devices may have changed.

    Args:
        container: what is to be started.
        settings: the daemon's.
        find: looks up the containers whose namespaces it joins.

    Raises:
        Conflict: it joins a container that doesn't run.
        InvalidParameter, NotFound, NotImplementedHere: as its configuration has them.
        InternalError: a device, or the program of the runtime that is asked for, isn't there.
    """
    config, host = container.config.config, container.config.host_config
    program, seccomp = program_of(container, settings)
    devices, rules = host_devices(host) if host.privileged else named_devices(host)
    donor = _joined(host.network_mode, "network", find)
    runtime = foreign_runtime(host, settings)
    remapping = container.config.remapping
    injected = inject(host.device_requests, settings.cdi_spec_dirs) if host.device_requests else NOTHING
    if injected is not NOTHING:
        program = replace(program, env=(*program.env, *injected.env), groups=(*program.groups, *injected.groups))
    mounts = (*_mounts(container, settings, find, donor or container), *injected.mounts)
    return Spec(
        id=container.id,
        state_dir=container.runtime_dir,
        process=program,
        root=replace(root_of(container, settings), propagation=_root_propagation(mounts)),
        cgroup=Cgroup(parent="/" + (host.cgroup_parent or settings.cgroup_parent).strip("/"), name=container.id),
        namespaces=(*_namespaces(host, find, donor, settings), *((Namespace(kind="user"),) if remapping else ())),
        uid_mappings=remapping.uids,
        gid_mappings=remapping.gids,
        mounts=mounts,
        devices=(*devices, *injected.devices),
        resources=build_resources(host, (*rules, *injected.rules)),
        hostname="" if host.uts_mode == "host" else (donor.config.config.hostname if donor else config.hostname),
        domainname="" if host.uts_mode == "host" else config.domainname,
        sysctls=sysctls(host, remapped=bool(remapping)),
        masked_paths=_paths(host.masked_paths, MASKED_PATHS, host.privileged),
        readonly_paths=_paths(host.readonly_paths, READONLY_PATHS, host.privileged),
        seccomp=seccomp,
        stdio=Stdio(open_stdin=config.open_stdin, stdin_once=config.stdin_once, detach_keys=DEFAULT_DETACH_KEYS),
        log=container.config.log,
        init=host.init if isinstance(host.init, bool) else settings.init and runtime is None,
        runtime=runtime,
        annotations=host.annotations or {},
    )


def program_of(container: Container, settings: Settings) -> tuple[Process, Seccomp]:
    """A container's program and its filter, from which its execs differ in a few things only.

    Raises:
        InvalidParameter, NotImplementedHere: as its configuration has them.
    """
    config, host = container.config.config, container.config.host_config
    security = parse_security_options(host, profile=settings.seccomp_profile, no_new_privileges=settings.no_new_privileges)
    process = Process(
        args=(container.config.path, *container.config.args),
        env=environment(config),
        cwd=config.working_dir or "/",
        user=config.user,
        groups=tuple(host.group_add or ()),
        capabilities=capabilities(host),
        no_new_privileges=security.no_new_privileges,
        rlimits=build_rlimits(host, settings.default_ulimits),
        oom_score_adj=host.oom_score_adj,
        terminal=config.tty,
        console_height=host.console_size[0] if host.console_size else 0,
        console_width=host.console_size[1] if host.console_size else 0,
    )
    return process, security.seccomp


def environment(config: ContainerConfig, more: Iterable[str] = (), *, tty: bool | None = None) -> tuple[str, ...]:
    """A container's variables: Docker's own, replaced or added to by the configured ones; one without ``=`` is taken away.

    Args:
        config: the container's.
        more: an exec's own variables.
        tty: whether there is a terminal, where that isn't the container's.
    """
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": config.hostname}
    if config.tty if tty is None else tty:
        variables["TERM"] = "xterm"
    for entry in (*(config.env or ()), *more):
        name, sep, value = entry.partition("=")
        if sep:
            variables[name] = value
        else:
            variables.pop(name, None)
    return tuple(f"{name}={value}" for name, value in variables.items())


def _paths(given: list[str] | None, default: tuple[str, ...], privileged: bool) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    return () if privileged else default


def _joined(mode: str, what: str, find: Find) -> Container | None:
    """The running container that a ``container:`` mode joins."""
    if not mode.startswith("container:"):
        return None
    other = find(mode.removeprefix("container:"))
    if not other.state.running or other.state.restarting:
        raise Conflict(f"cannot join {what} namespace of a non running container: {other.id}")
    return other


def _namespaces(host: HostConfig, find: Find, donor: Container | None, settings: Settings) -> tuple[Namespace, ...]:
    namespaces = [Namespace(kind="mnt")]
    if donor is not None:
        namespaces.append(Namespace(kind="net", container=donor.id))
    elif host.network_mode != "host":
        namespaces.append(Namespace(kind="net"))
    pid = _joined(host.pid_mode, "PID", find)
    if pid is not None:
        namespaces.append(Namespace(kind="pid", container=pid.id))
    elif host.pid_mode != "host":
        namespaces.append(Namespace(kind="pid"))
    ipc = _joined(host.ipc_mode, "IPC", find)
    if ipc is not None:
        namespaces.append(Namespace(kind="ipc", container=ipc.id))
    elif host.ipc_mode != "host":
        namespaces.append(Namespace(kind="ipc"))
    if host.uts_mode != "host":
        namespaces.append(Namespace(kind="uts"))
    if (host.cgroupns_mode or settings.default_cgroupns_mode) != "host":
        namespaces.append(Namespace(kind="cgroup"))
    return tuple(namespaces)


def _mounts(container: Container, settings: Settings, find: Find, files_of: Container) -> tuple[Mount, ...]:
    """Docker's own mounts, those of /etc, and the container's; a container's mount replaces one of ours at its target."""
    host = container.config.host_config
    own = own_mounts(container)
    targets = {mount.target for mount in own}
    ipc = host.ipc_mode.partition(":")[0] or "private"
    shm_size = host.shm_size or settings.default_shm_size
    default = default_mounts(
        privileged=host.privileged, shm_size=shm_size, ipc=ipc, cgroup_writable=wants_writable_cgroups(host)
    )
    mounts = [mount for mount in default if mount.target not in targets]
    if "/dev/shm" not in targets:
        mounts = _shared_memory(mounts, ipc, host.ipc_mode, find)
    mounts += file_mounts(container, files_of, own)
    # One of ours may lie inside one of the container's, as /etc/hosts does in a volume on /etc.
    return in_order([*mounts, *own]) if own else tuple(mounts)


def own_mounts(container: Container) -> list[Mount]:
    """What the container itself was given: binds, tmpfs, volumes and the like, in the order in which they are mounted."""
    own = parse_mounts(container.config.host_config).specs
    if container.config.attached:
        kept = mapped((attached.spec for attached in container.config.attached), container.config.remapping)
        own = in_order([*own, *kept])
    return list(own)


def file_mounts(container: Container, files_of: Container, own: Iterable[Mount]) -> list[Mount]:
    """The files of /etc that come from a container's directory, but for those that one of its ``own`` mounts replaces."""
    targets = {mount.target for mount in own}
    readonly = container.config.host_config.readonly_rootfs
    files = [
        Mount(kind="bind", source=f"{files_of.directory}/{name}", target=target, readonly=readonly, recursive_readonly="no")
        for name, target in TARGETS.items()
        if target not in targets
    ]
    return mapped(files, container.config.remapping)


def root_of(container: Container, settings: Settings) -> Root:
    """The layers that a container's root file system is made of."""
    return Root(
        lower=(*container.config.layers, mount_points(settings.data_root)),
        upper=f"{container.directory}/upper",
        work=f"{container.directory}/work",
        readonly=container.config.host_config.readonly_rootfs,
        uid_mappings=container.config.uid_mappings,
        gid_mappings=container.config.gid_mappings,
    )


def _shared_memory(mounts: list[Mount], ipc: str, mode: str, find: Find) -> list[Mount]:
    """Where ``/dev/shm`` is another's it is the host's, or the tmpfs of the container whose ipc namespace is joined."""
    if ipc == "host":
        return [*mounts, Mount(kind="bind", source="/dev/shm", target="/dev/shm")]
    if ipc != "container":
        return mounts
    other = find(mode.removeprefix("container:"))
    if other.config.host_config.ipc_mode != "shareable":
        raise Conflict(
            f"cannot join IPC of container {other.id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        )
    return [*mounts, Mount(kind="bind", source="/dev/shm", target="/dev/shm", container=other.id)]


def _root_propagation(mounts: tuple[Mount, ...]) -> str:
    """A mount that is to be shared or a slave needs a root that isn't private."""
    found = {mount.propagation.removeprefix("r") for mount in mounts if mount.kind == "bind"}
    if "shared" in found:
        return "rshared"
    return "rslave" if "slave" in found else "rprivate"
