"""HostConfig: the part of a container's configuration that depends on the host.

Sizes are in bytes, times in nanoseconds unless a docstring says otherwise.
Source: Docker Engine API v1.51, definitions HostConfig, Resources, Mount, RestartPolicy, DeviceMapping.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

from boxship.types.networks import PortMap

MountType = Literal["bind", "cluster", "image", "npipe", "tmpfs", "volume"]


class LogConfig(Struct, rename="pascal", frozen=True):
    """The log driver and its options; an empty type means the daemon's default."""

    type: str = ""
    config: dict[str, str] | None = None


class RestartPolicy(Struct, rename="pascal", frozen=True):
    """``name``: empty or no, always, unless-stopped, on-failure."""

    name: str = ""
    maximum_retry_count: int = 0


class WeightDevice(Struct, rename="pascal", frozen=True):
    """A block device and its share of I/O, 10 to 1000."""

    path: str
    weight: int


class ThrottleDevice(Struct, rename="pascal", frozen=True):
    """A block device and its limit, in bytes or operations per second."""

    path: str
    rate: int


class DeviceMapping(Struct, rename="pascal", frozen=True):
    """A host device given to the container; permissions are a subset of ``rwm``."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Struct, rename="pascal", frozen=True):
    """Devices asked for by what they can do (GPUs, CDI)."""

    driver: str = ""
    count: int = 0
    device_ids: list[str] | None = field(name="DeviceIDs", default=None)
    capabilities: list[list[str]] | None = None
    options: dict[str, str] | None = None


class Ulimit(Struct, rename="pascal", frozen=True):
    """A resource limit by its name without ``RLIMIT_`` in lower case; -1 means unlimited."""

    name: str
    soft: int
    hard: int


class BindOptions(Struct, rename="pascal", frozen=True):
    """How a bind mount is made."""

    propagation: str | UnsetType = UNSET
    non_recursive: bool | UnsetType = UNSET
    create_mountpoint: bool | UnsetType = UNSET
    read_only_non_recursive: bool | UnsetType = UNSET
    read_only_force_recursive: bool | UnsetType = UNSET


class VolumeDriverConfig(Struct, rename="pascal", frozen=True):
    """The driver of a volume that is made on the way."""

    name: str | UnsetType = UNSET
    options: dict[str, str] | UnsetType | None = UNSET


class VolumeOptions(Struct, rename="pascal", frozen=True):
    """How a volume is mounted."""

    no_copy: bool | UnsetType = UNSET
    labels: dict[str, str] | UnsetType | None = UNSET
    driver_config: VolumeDriverConfig | UnsetType | None = UNSET
    subpath: str | UnsetType = UNSET


class ImageOptions(Struct, rename="pascal", frozen=True):
    """How an image is mounted."""

    subpath: str | UnsetType = UNSET


class TmpfsOptions(Struct, rename="pascal", frozen=True):
    """A tmpfs' size in bytes, mode, and further mount options as one or two words each."""

    size_bytes: int | UnsetType = UNSET
    mode: int | UnsetType = UNSET
    options: list[list[str]] | UnsetType | None = UNSET


class Mount(Struct, rename="pascal", frozen=True):
    """A mount in the ``--mount`` form; ``type`` is one of ``MountType``, which the engine judges."""

    target: str = ""
    source: str | UnsetType = UNSET
    type: str = "volume"
    read_only: bool | UnsetType = UNSET
    consistency: str | UnsetType = UNSET
    bind_options: BindOptions | UnsetType | None = UNSET
    volume_options: VolumeOptions | UnsetType | None = UNSET
    image_options: ImageOptions | UnsetType | None = UNSET
    tmpfs_options: TmpfsOptions | UnsetType | None = UNSET


class HostConfig(Struct, rename="pascal", frozen=True):
    """Everything about a container that its host decides."""

    cpu_shares: int = 0
    memory: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = field(name="BlkioDeviceReadIOps", default=None)
    blkio_device_write_iops: list[ThrottleDevice] | None = field(name="BlkioDeviceWriteIOps", default=None)
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    kernel_memory: int | UnsetType = UNSET
    kernel_memory_tcp: int | UnsetType = field(name="KernelMemoryTCP", default=UNSET)
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    nano_cpus: int = 0
    oom_kill_disable: bool | None = None
    init: bool | UnsetType | None = UNSET
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = field(name="IOMaximumIOps", default=0)
    io_maximum_bandwidth: int = field(name="IOMaximumBandwidth", default=0)
    binds: list[str] | None = None
    container_id_file: str = field(name="ContainerIDFile", default="")
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: PortMap | None = None
    restart_policy: RestartPolicy | None = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    mounts: list[Mount] | UnsetType | None = UNSET
    console_size: list[int] | None = None
    annotations: dict[str, str] | UnsetType | None = UNSET
    cap_add: list[str] | str | None = None
    cap_drop: list[str] | str | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | UnsetType | None = UNSET
    tmpfs: dict[str, str] | UnsetType | None = UNSET
    uts_mode: str = field(name="UTSMode", default="")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | UnsetType | None = UNSET
    runtime: str | None = None
    isolation: str = ""
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
