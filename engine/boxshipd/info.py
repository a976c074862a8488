"""What ``docker info`` shows: the engine's counts, the machine, and what can't be done on it.

Source: Docker Engine API v1.51, SystemInfo; the warnings are dockerd's where it has the same.
"""

from __future__ import annotations

import os
import platform
import socket
from datetime import UTC, datetime
from pathlib import Path

from boxrun.supervisor.contract import Features
from boxship.types.system import Commit, IndexInfo, Info, Plugins, RegistryConfig, RuntimeInfo, SwarmInfo

from boxshipd import __version__, file_systems, host
from boxshipd.config import Config, known_runtimes
from boxshipd.containers.log.config import DRIVERS

NETWORK_DRIVERS = ["bridge", "host", "ipvlan", "macvlan", "null"]


def engine_id(data_root: str) -> str:
    """This engine's id, made on its first start and kept in the data root."""
    path = Path(data_root, "engine-id")
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        import uuid

        path.write_text(str(uuid.uuid4()), encoding="ascii")
        return path.read_text(encoding="ascii")


def engine_info(
    *,
    config: Config,
    identity: str,
    features: Features | None,
    counts: tuple[int, int, int],
    images: int,
    followers: int,
    insecure: tuple[str, ...],
) -> Info:
    """Put ``info`` together.

    Args:
        config: the configuration in effect.
        identity: the engine's id.
        features: what the runtime found on this machine; None while it can't be reached.
        counts: how many containers run, are paused, are stopped.
        images: how many images there are.
        followers: how many clients follow events.
        insecure: the addresses served to clients that nobody knows.
    """
    running, paused, stopped = counts
    controllers = frozenset(features.cgroup_controllers if features else ())
    proxies = config.registry_client.proxies.over().masked()
    file_system = file_systems.of_path(config.data_root)
    cpu, unified = "cpu" in controllers, features is not None and features.cgroup_version == "2"
    return Info(
        id=identity,
        containers=running + paused + stopped,
        containers_running=running,
        containers_paused=paused,
        containers_stopped=stopped,
        images=images,
        driver="overlay2",
        driver_status=[["Backing Filesystem", file_system.kind if file_system else "<unknown>"], ["Supports d_type", "true"]],
        docker_root_dir=config.data_root,
        plugins=Plugins(volume=["local"], network=NETWORK_DRIVERS, authorization=None, log=list(DRIVERS)),
        memory_limit="memory" in controllers,
        swap_limit="memory" in controllers and _swap_accounting(unified),
        cpu_cfs_period=cpu,
        cpu_cfs_quota=cpu,
        cpu_shares=cpu,
        cpu_set="cpuset" in controllers,
        pids_limit="pids" in controllers,
        oom_kill_disable="memory" in controllers and not unified,
        ipv4_forwarding=host.ipv4_forwarding(),
        debug=config.debug,
        n_fd=host.open_descriptors(),
        n_goroutines=0,
        system_time=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        logging_driver=config.log_driver,
        cgroup_driver="cgroupfs",
        cgroup_version=features.cgroup_version if features else "",
        n_events_listener=followers,
        kernel_version=platform.release(),
        operating_system=host.distribution().name,
        os_version=host.distribution().version,
        os_type="linux",
        architecture=platform.machine(),
        ncpu=len(os.sched_getaffinity(0)),
        mem_total=host.memory_total(),
        index_server_address="https://index.docker.io/v1/",
        registry_config=_registries(config),
        http_proxy=proxies.http_proxy,
        https_proxy=proxies.https_proxy,
        no_proxy=proxies.no_proxy,
        name=socket.gethostname(),
        labels=list(config.labels),
        experimental_build=False,
        server_version=__version__,
        runtimes={"boxrun": RuntimeInfo(path="boxrun")}
        | {name: RuntimeInfo(path=runtime.path) for name, runtime in known_runtimes(config.runtimes).items()},
        default_runtime=config.default_runtime,
        cdi_spec_dirs=list(config.cdi_spec_dirs),
        swarm=SwarmInfo(),
        live_restore_enabled=config.live_restore,
        isolation="",
        init_binary="boxrun",
        containerd_commit=Commit(id=""),
        runc_commit=Commit(id=""),
        init_commit=Commit(id=""),
        security_options=_security_options(config, features),
        warnings=_warnings(features, controllers, unified, insecure),
    )


def _registries(config: Config) -> RegistryConfig:
    """Docker Hub's settings, and those of registries that needn't use TLS."""
    hub = IndexInfo(name="docker.io", mirrors=list(config.registry_mirrors), secure=True, official=True)
    insecure = {
        host: IndexInfo(name=host, mirrors=[], secure=False, official=False)
        for host in config.insecure_registries
        if "/" not in host
    }
    networks = [entry for entry in config.insecure_registries if "/" in entry]
    return RegistryConfig(
        insecure_registry_cidrs=[*networks, "::1/128", "127.0.0.0/8"],
        index_configs={"docker.io": hub, **insecure},
        mirrors=list(config.registry_mirrors),
    )


def _security_options(config: Config, features: Features | None) -> list[str]:
    options = []
    if features and features.seccomp:
        options.append(f"name=seccomp,profile={config.seccomp_profile or 'builtin'}")
    if features and features.apparmor:
        options.append("name=apparmor")
    if features and features.cgroup_version == "2":
        options.append("name=cgroupns")
    if config.userns_remap:
        options.append("name=userns")
    if config.no_new_privileges:
        options.append("name=no-new-privileges")
    return options


def _warnings(
    features: Features | None, controllers: frozenset[str], unified: bool, insecure: tuple[str, ...]
) -> list[str] | None:
    warnings = [
        f"WARNING: API is accessible on {address} without client certificates: access to it is root access to this machine."
        for address in insecure
    ]
    if features is None:
        return [*warnings, "WARNING: The runtime's supervisor can't be reached"]
    if not features.seccomp:
        warnings.append(f"WARNING: No seccomp: {features.seccomp_error or 'not available'}")
    for controller, meaning in (("memory", "memory limit"), ("cpu", "cpu cfs"), ("cpuset", "cpuset"), ("pids", "pids limit")):
        if controller not in controllers:
            warnings.append(f"WARNING: No {meaning} support")
    if "memory" in controllers and not _swap_accounting(unified):
        warnings.append("WARNING: No swap limit support")
    return [*warnings, *(f"WARNING: {text}" for text in features.warnings)] or None


def _swap_accounting(unified: bool) -> bool:
    return unified or os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
