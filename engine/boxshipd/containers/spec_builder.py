"""From a container's configuration to what the runtime is told.

Source: moby daemon/oci_linux.go.
"""

from __future__ import annotations

from collections.abc import Callable

from boxrun.container.defaults import MASKED_PATHS, READONLY_PATHS, default_mounts
from boxrun.container.spec import Cgroup, Mount, Namespace, Process, Root, Spec, Stdio
from boxship.types.containers import ContainerConfig
from boxship.types.host import HostConfig

from boxshipd.containers.directories import mount_points
from boxshipd.containers.host_files import TARGETS
from boxshipd.containers.model import Container
from boxshipd.containers.mount_options import parse_mounts
from boxshipd.containers.resources import build_resources, build_rlimits, host_devices, named_devices
from boxshipd.containers.security_options import capabilities, parse_security_options, validate_sysctls
from boxshipd.containers.settings import Settings
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
    """
    config, host = container.config.config, container.config.host_config
    security = parse_security_options(host, profile=settings.seccomp_profile, no_new_privileges=settings.no_new_privileges)
    devices, rules = host_devices() if host.privileged else named_devices(host)
    donor = _joined(host.network_mode, "network", find)
    mounts = _mounts(container, settings, find, donor or container)
    return Spec(
        id=container.id,
        state_dir=container.runtime_dir,
        process=Process(
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
        ),
        root=Root(
            lower=(*container.config.layers, mount_points(settings.data_root)),
            upper=f"{container.directory}/upper",
            work=f"{container.directory}/work",
            readonly=host.readonly_rootfs,
            propagation=_root_propagation(mounts),
        ),
        cgroup=Cgroup(parent="/" + (host.cgroup_parent or settings.cgroup_parent).strip("/"), name=container.id),
        namespaces=_namespaces(host, find, donor, settings),
        mounts=mounts,
        devices=devices,
        resources=build_resources(host, rules),
        hostname="" if host.uts_mode == "host" else (donor.config.config.hostname if donor else config.hostname),
        domainname="" if host.uts_mode == "host" else config.domainname,
        sysctls=validate_sysctls(host),
        masked_paths=_paths(host.masked_paths, MASKED_PATHS, host.privileged),
        readonly_paths=_paths(host.readonly_paths, READONLY_PATHS, host.privileged),
        seccomp=security.seccomp,
        stdio=Stdio(open_stdin=config.open_stdin, stdin_once=config.stdin_once, detach_keys=DEFAULT_DETACH_KEYS),
        log=container.config.log,
        init=host.init if isinstance(host.init, bool) else settings.init,
    )


def environment(config: ContainerConfig) -> tuple[str, ...]:
    """A container's variables: Docker's own, replaced or added to by the configured ones; one without ``=`` is taken away."""
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": config.hostname}
    if config.tty:
        variables["TERM"] = "xterm"
    for entry in config.env or ():
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
    own = parse_mounts(host).specs
    targets = {mount.target for mount in own}
    ipc = host.ipc_mode.partition(":")[0] or "private"
    shm_size = host.shm_size or settings.default_shm_size
    mounts = [m for m in default_mounts(privileged=host.privileged, shm_size=shm_size, ipc=ipc) if m.target not in targets]
    if "/dev/shm" not in targets:
        mounts = _shared_memory(mounts, container, ipc, find)
    for name, target in TARGETS.items():
        if target not in targets:
            source = f"{files_of.directory}/{name}"
            mounts.append(
                Mount(kind="bind", source=source, target=target, readonly=host.readonly_rootfs, recursive_readonly="no")
            )
    return (*mounts, *own)


def _shared_memory(mounts: list[Mount], container: Container, ipc: str, find: Find) -> list[Mount]:
    """Where ``/dev/shm`` is shared it is the host's, or a directory of the container that made its own shareable."""
    if ipc == "host":
        return [*mounts, Mount(kind="bind", source="/dev/shm", target="/dev/shm")]
    source = container
    if ipc == "container":
        source = find(container.config.host_config.ipc_mode.removeprefix("container:"))
        if source.config.host_config.ipc_mode != "shareable":
            raise Conflict(
                f"cannot join IPC of container {source.id}: non-shareable IPC "
                "(hint: use IpcMode:shareable for the donor container)"
            )
    elif ipc != "shareable":
        return mounts
    shared = Mount(kind="bind", source=f"{source.directory}/shm", target="/dev/shm", options=("nosuid", "nodev", "noexec"))
    return [*(mount for mount in mounts if mount.target != "/dev/shm"), shared]


def _root_propagation(mounts: tuple[Mount, ...]) -> str:
    """A mount that is to be shared or a slave needs a root that isn't private."""
    found = {mount.propagation.removeprefix("r") for mount in mounts if mount.kind == "bind"}
    if "shared" in found:
        return "rshared"
    return "rslave" if "slave" in found else "rprivate"
