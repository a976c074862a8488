"""A container: the record of it in the database, and the live object around that record."""

from __future__ import annotations

import asyncio

import msgspec
from boxrun.container.spec import IDMapping, Log, Mount, Spec
from boxrun.prober.protocol import Health
from boxrun.supervisor.contract import ContainerStatus
from boxship.types.containers import ContainerConfig, MountPoint
from boxship.types.host import HostConfig
from boxship.types.networks import NetworkingConfig
from msgspec import Struct

from boxshipd.containers.pending import Pending
from boxshipd.containers.spec.remapping import Remapping
from boxshipd.containers.wait import Waiters
from boxshipd.networks.model import Lease, Published
from boxshipd.scheduler.restart import Backoff


class Attached(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A mount that isn't in the host configuration as it is: a volume, an image, or one of another container's.

    Args:
        spec: what the runtime is told.
        point: what ``inspect`` shows; its name is the volume's.
        anonymous: the volume goes with the container where its removal takes volumes along.
        image: the id of the image that is mounted.
        exclusive: a volume whose content lives and dies with its mount, so that only one container at a time can have it.
    """

    spec: Mount
    point: MountPoint
    anonymous: bool = False
    image: str = ""
    exclusive: bool = False

    @property
    def volume(self) -> str:
        """The volume's name; empty where it is none."""
        return self.point.name if self.point.type == "volume" and isinstance(self.point.name, str) else ""


class Config(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a container is to be, as it was validated and merged at its creation; ``update`` alone changes it.

    Args:
        id: 64 hex digits.
        created: ns since the epoch.
        image_id: the image's ``sha256:`` digest.
        layers: the image's snapshot directories, topmost first.
        config: the request's configuration merged with the image's.
        host_config: the request's, with Docker's defaults filled in.
        networking: what the request says of networks.
        path, args: the program and its arguments.
        mounts: all mounts for ``inspect``.
        attached: volumes, images and other containers' mounts.
        log: where output goes.
        platform: the image's operating system.
        uid_mappings, gid_mappings: its user namespace; empty where it is the host's.
    """

    id: str
    created: int
    image_id: str
    layers: tuple[str, ...]
    config: ContainerConfig
    host_config: HostConfig
    path: str
    args: list[str]
    log: Log
    networking: NetworkingConfig | None = None
    mounts: tuple[MountPoint, ...] = ()
    attached: tuple[Attached, ...] = ()
    platform: str = "linux"
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()

    @property
    def remapping(self) -> Remapping:
        """Its ids inside and outside."""
        return Remapping(self.uid_mappings, self.gid_mappings)


class State(Struct, kw_only=True, omit_defaults=True):
    """What changes. Times are ns since the epoch, 0 for never.

    ``starting`` is recorded before the runtime is asked: after a crash the runtime knows whether it came to anything.
    A container that waits to be restarted is ``running`` and ``restarting``, as in Docker.
    ``committing``: it was paused for a commit, and is to be woken whatever becomes of that.
    """

    starting: bool = False
    running: bool = False
    restarting: bool = False
    removing: bool = False
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: int = 0
    finished_at: int = 0
    restart_count: int = 0
    manually_stopped: bool = False
    log_dropped: int = 0
    committing: bool = False
    paused: bool = False
    health: Health | None = None
    """What its probes have found; None where it has none."""
    restart_wanted: bool = False
    """It is being ended only to be started again, whatever its restart policy is."""
    leases: tuple[Lease, ...] = ()
    """Its places on networks, from its start to its end, and through a restart."""
    published: tuple[Published, ...] = ()
    """The host's ports that lead to it, for as long."""
    last_leases: tuple[Lease, ...] = ()
    """What it had the last time, and gets again where nobody else has it by then."""
    limits_pending: bool = False
    """Limits that are on record and perhaps not yet in force: the running container is to get them again."""

    @property
    def status(self) -> str:
        """Docker's word for it: created, running, paused, restarting, removing, exited or dead."""
        if self.running:
            return "paused" if self.paused else "restarting" if self.restarting else "running"
        if self.removing:
            return "removing"
        if self.dead:
            return "dead"
        return "exited" if self.started_at else "created"


class Container:
    """A container in memory: record, waiters, clients that wait for its start. Touched by the event loop alone."""

    __slots__ = (
        "attachments",
        "auto_remove",
        "backoff",
        "config",
        "directory",
        "early_exit",
        "ended",
        "execs",
        "goes_on",
        "name",
        "no_restart",
        "releasing",
        "removed",
        "spec",
        "state",
        "waiters",
    )

    def __init__(self, name: str, config: Config, state: State, directory: str) -> None:
        self.name = name
        self.config = config
        self.state = state
        self.directory = directory
        self.auto_remove = config.host_config.auto_remove
        self.backoff = Backoff()
        self.no_restart = False
        self.removed = False
        self.spec: Spec | None = None
        self.attachments: list[Pending] = []
        self.execs: dict[str, None] = {}
        """Ids of its execs that haven't ended, in order."""
        self.waiters = Waiters()
        self.early_exit: ContainerStatus | None = None
        """An exit that was told before the start's answer had been taken in."""
        self.releasing: asyncio.Task[None] | None = None
        """The runtime is being told to forget the last run; the next start waits for that."""
        self.ended = asyncio.Event()
        """Set while it doesn't run and isn't about to run again, once it has: what follows its log stops then."""
        self.goes_on = False
        """It is being restarted."""
        if state.started_at and not state.running:
            self.ended.set()

    @property
    def id(self) -> str:
        """Its 64 hex digits."""
        return self.config.id

    def log_ended(self) -> None:
        """It has ended, or won't be restarted after all: unless it is going to run again, nothing is added to its log."""
        if not (self.goes_on or self.state.running or self.state.starting):
            self.ended.set()

    @property
    def runtime_dir(self) -> str:
        """Where the runtime keeps its exit record."""
        return f"{self.directory}/runtime"

    def attributes(self, extra: dict[str, str] | None = None) -> dict[str, str]:
        """The attributes of its events: image, name and labels, and what the event adds."""
        attributes = {"image": self.config.config.image, "name": self.name}
        if extra:
            attributes.update(extra)
        if self.config.config.labels:
            for key, value in self.config.config.labels.items():
                attributes.setdefault(key, value)
        return attributes

    def hang_up(self) -> None:
        """Let go of every client that waits for its start."""
        for pending in self.attachments:
            pending.close()
        self.attachments.clear()


_config_decoder = msgspec.json.Decoder(Config)
_state_decoder = msgspec.json.Decoder(State)
encode = msgspec.json.encode


def decode_config(data: bytes) -> Config:
    """A configuration out of the database."""
    return _config_decoder.decode(data)


def decode_state(data: bytes) -> State:
    """A state out of the database."""
    return _state_decoder.decode(data)
