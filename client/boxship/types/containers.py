"""Containers: what a client asks for, and what the engine says of one.

Source: Docker Engine API v1.51, definitions ContainerConfig, HealthConfig, ContainerState, ContainerInspectResponse,
ContainerSummary and the bodies of the Container operations.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from boxship.types.host import HostConfig, MountType
from boxship.types.networks import EndpointSettings, NetworkingConfig, NetworkSettings, Port


class HealthConfig(Struct, rename="pascal", frozen=True):
    """A health probe. Times are in nanoseconds; 0 means the default."""

    test: list[str] | UnsetType | None = UNSET
    interval: int | UnsetType = UNSET
    timeout: int | UnsetType = UNSET
    retries: int | UnsetType = UNSET
    start_period: int | UnsetType = UNSET
    start_interval: int | UnsetType = UNSET


class ContainerConfig(Struct, rename="pascal", frozen=True):
    """The portable part of a container's configuration (also the ``config`` of an image)."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Any] | UnsetType | None = UNSET
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    healthcheck: HealthConfig | UnsetType | None = UNSET
    args_escaped: bool | UnsetType | None = UNSET
    image: str = ""
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    network_disabled: bool | UnsetType | None = UNSET
    mac_address: str | UnsetType | None = UNSET
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | UnsetType | None = UNSET
    stop_timeout: int | UnsetType | None = UNSET
    shell: list[str] | UnsetType | None = UNSET


class CreateRequest(ContainerConfig, rename="pascal", frozen=True):
    """The body of ``ContainerCreate``: a ContainerConfig with host and network configuration beside it."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


class CreateResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``ContainerCreate``."""

    id: str
    warnings: list[str]


class HealthcheckResult(Struct, rename="pascal", frozen=True):
    """One probe's outcome; times are RFC 3339 with nanoseconds."""

    start: str
    end: str
    exit_code: int
    output: str


class Health(Struct, rename="pascal", frozen=True):
    """A container's health as ``inspect`` shows it."""

    status: str
    failing_streak: int
    log: list[HealthcheckResult]


class ContainerState(Struct, rename="pascal", frozen=True):
    """A container's state. ``status``: created, running, paused, restarting, removing, exited or dead."""

    status: str
    running: bool
    paused: bool
    restarting: bool
    oom_killed: bool = field(name="OOMKilled")
    dead: bool
    pid: int
    exit_code: int
    error: str
    started_at: str
    finished_at: str
    health: Health | UnsetType = UNSET
    log_dropped: int | UnsetType = UNSET
    """Boxship's own: messages that the log has given up since the container's last start; where it may give up any."""


class MountPoint(Struct, rename="pascal", frozen=True):
    """A mount as ``inspect`` and ``ps`` show it."""

    type: MountType
    source: str
    destination: str
    mode: str
    rw: bool = field(name="RW")
    propagation: str
    name: str | UnsetType = UNSET
    driver: str | UnsetType = UNSET


class DriverData(Struct, rename="pascal", frozen=True):
    """The storage driver's view of a container or image."""

    name: str
    data: dict[str, str] | None


class ContainerInspect(Struct, rename="pascal", frozen=True):
    """The answer to ``ContainerInspect``."""

    id: str
    created: str
    path: str
    args: list[str]
    state: ContainerState
    image: str
    resolv_conf_path: str
    hostname_path: str
    hosts_path: str
    log_path: str
    name: str
    restart_count: int
    driver: str
    platform: str
    mount_label: str
    process_label: str
    app_armor_profile: str
    exec_ids: list[str] | None = field(name="ExecIDs")
    host_config: HostConfig
    graph_driver: DriverData
    mounts: list[MountPoint]
    config: ContainerConfig
    network_settings: NetworkSettings
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET


class SummaryHostConfig(Struct, rename="pascal", frozen=True):
    """The two host settings ``ContainerList`` shows."""

    network_mode: str
    annotations: dict[str, str] | UnsetType | None = UNSET


class SummaryNetworkSettings(Struct, rename="pascal", frozen=True):
    """The endpoints ``ContainerList`` shows."""

    networks: dict[str, EndpointSettings]


class ContainerSummary(Struct, rename="pascal", frozen=True):
    """One row of ``ContainerList``. ``created`` is in seconds since the epoch."""

    id: str
    names: list[str]
    image: str
    image_id: str = field(name="ImageID")
    command: str
    created: int
    ports: list[Port]
    labels: dict[str, str]
    state: str
    status: str
    host_config: SummaryHostConfig
    network_settings: SummaryNetworkSettings
    mounts: list[MountPoint]
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET


class WaitError(Struct, rename="pascal", frozen=True):
    """Why waiting ended without a true exit status."""

    message: str


class WaitResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``ContainerWait``."""

    status_code: int
    error: WaitError | UnsetType | None = UNSET


class PruneResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``ContainerPrune``; space in bytes."""

    containers_deleted: list[str] | None
    space_reclaimed: int


class UpdateResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``ContainerUpdate``."""

    warnings: list[str] | None


class TopResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``ContainerTop``: what ps(1) shows, one list of words for each process."""

    titles: list[str]
    processes: list[list[str]] | None


class Change(Struct, rename="pascal", frozen=True):
    """One path that a container has changed; ``kind`` is 0 where it was modified, 1 added, 2 deleted."""

    path: str
    kind: int
