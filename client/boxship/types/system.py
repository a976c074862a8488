"""The daemon about itself: ``version``, ``info`` and ``system df``.

Source: Docker Engine API v1.51, definitions SystemVersion, SystemInfo and what they refer to, and SystemDataUsageResponse.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from boxship.types.build_cache import BuildCache
from boxship.types.containers import ContainerSummary
from boxship.types.images import ImageSummary
from boxship.types.volumes import Volume


class VersionPlatform(Struct, rename="pascal", frozen=True):
    """The product's name."""

    name: str


class VersionComponent(Struct, rename="pascal", frozen=True):
    """A part of the product with its version."""

    name: str
    version: str
    details: dict[str, str] | None = None


class Version(Struct, rename="pascal", frozen=True, kw_only=True):
    """The answer to ``SystemVersion``."""

    platform: VersionPlatform
    components: list[VersionComponent]
    version: str
    api_version: str
    min_api_version: str = field(name="MinAPIVersion")
    git_commit: str
    go_version: str
    os: str
    arch: str
    kernel_version: str
    experimental: bool | UnsetType = UNSET
    build_time: str


class Plugins(Struct, rename="pascal", frozen=True):
    """The drivers the daemon has, by kind."""

    volume: list[str] | None
    network: list[str] | None
    authorization: list[str] | None
    log: list[str] | None


class IndexInfo(Struct, rename="pascal", frozen=True):
    """A registry as the daemon is set up to use it."""

    name: str
    mirrors: list[str]
    secure: bool
    official: bool


class RegistryConfig(Struct, rename="pascal", frozen=True):
    """The daemon's registry settings."""

    insecure_registry_cidrs: list[str] = field(name="InsecureRegistryCIDRs")
    index_configs: dict[str, IndexInfo]
    mirrors: list[str]


class RuntimeInfo(Struct, frozen=True):
    """An OCI runtime the daemon knows."""

    path: str
    runtime_args: list[str] | UnsetType | None = field(name="runtimeArgs", default=UNSET)


class Commit(Struct, rename="pascal", frozen=True):
    """The commit of an external tool; ours has none."""

    id: str = field(name="ID")


class SwarmInfo(Struct, rename="pascal", frozen=True):
    """Swarm's state; always inactive here."""

    node_id: str = field(name="NodeID", default="")
    node_addr: str = ""
    local_node_state: str = "inactive"
    control_available: bool = False
    error: str = ""
    remote_managers: list[Any] | None = None


class Info(Struct, rename="pascal", frozen=True, kw_only=True):
    """The answer to ``SystemInfo``."""

    id: str = field(name="ID")
    containers: int
    containers_running: int
    containers_paused: int
    containers_stopped: int
    images: int
    driver: str
    driver_status: list[list[str]]
    docker_root_dir: str
    plugins: Plugins
    memory_limit: bool
    swap_limit: bool
    cpu_cfs_period: bool
    cpu_cfs_quota: bool
    cpu_shares: bool = field(name="CPUShares")
    cpu_set: bool = field(name="CPUSet")
    pids_limit: bool
    oom_kill_disable: bool
    ipv4_forwarding: bool = field(name="IPv4Forwarding")
    debug: bool
    n_fd: int = field(name="NFd")
    n_goroutines: int = field(name="NGoroutines")
    system_time: str
    logging_driver: str
    cgroup_driver: str
    cgroup_version: str
    n_events_listener: int = field(name="NEventsListener")
    kernel_version: str
    operating_system: str
    os_version: str = field(name="OSVersion")
    os_type: str = field(name="OSType")
    architecture: str
    ncpu: int = field(name="NCPU")
    mem_total: int
    index_server_address: str
    registry_config: RegistryConfig
    generic_resources: list[Any] | None = None
    http_proxy: str
    https_proxy: str
    no_proxy: str
    name: str
    labels: list[str]
    experimental_build: bool
    server_version: str
    runtimes: dict[str, RuntimeInfo]
    default_runtime: str
    swarm: SwarmInfo
    live_restore_enabled: bool
    isolation: str
    init_binary: str
    containerd_commit: Commit
    runc_commit: Commit
    init_commit: Commit
    security_options: list[str]
    warnings: list[str] | None
    cdi_spec_dirs: list[str] | None = field(name="CDISpecDirs", default=None)


class DiskUsage(Struct, rename="pascal", frozen=True):
    """The answer to ``SystemDataUsage``; sizes in bytes. What wasn't asked for is None, or 0.

    ``builder_size`` is what clients before API 1.42 read of the build cache.
    """

    layers_size: int
    images: list[ImageSummary] | None
    containers: list[ContainerSummary] | None
    volumes: list[Volume] | None
    build_cache: list[BuildCache] | None
    builder_size: int | UnsetType = UNSET
