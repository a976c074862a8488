"""What the rest of the daemon asks of containers."""

from __future__ import annotations

import builtins
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from boxrun.supervisor.contract import Framing
from boxship.types.containers import (
    ContainerInspect,
    ContainerSummary,
    CreateRequest,
    CreateResponse,
    PruneResponse,
    WaitResponse,
)
from msgspec import Struct

from boxshipd.filters import Filters
from boxshipd.logs.options import LogSource

if TYPE_CHECKING:
    from boxshipd.containers.settings import Settings
    from boxshipd.events import Events
    from boxshipd.images.service import Images
    from boxshipd.runtime_link import RuntimeLink
    from boxshipd.scheduler.jobs import Scheduler
    from boxshipd.state.store import Store


class AttachOptions(Struct, frozen=True, kw_only=True):
    """The query of an attach request. ``detach_keys`` is Docker's notation, None for the default ``ctrl-p,ctrl-q``."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    stream: bool = False
    logs: bool = False
    detach_keys: str | None = None


class AttachSlot(Protocol):
    """A place at a container's streams; ``tty`` tells which framing Docker's clients expect."""

    tty: bool

    async def hand_over(self, fd: int, received: bytes = b"") -> None:
        """Give the client's socket away: ``fd`` belongs to the container from here on, whatever happens.

        Args:
            fd: the client's connected socket.
            received: what the HTTP parser had already read past the request's head.
        """

    def abandon(self) -> None:
        """Give the place up without a socket."""


class Containers:
    """Every operation on containers. ``ref`` is a full id, a unique beginning of one, or a name (with or without ``/``)."""

    def __init__(
        self, *, store: Store, events: Events, images: Images, runtime: RuntimeLink, scheduler: Scheduler, settings: Settings
    ) -> None:
        raise NotImplementedError

    async def open(self) -> None:
        """Load the records and reconcile them with the runtime. Called once, after ``RuntimeLink.open``."""
        raise NotImplementedError

    async def close(self) -> None:
        """Drain: end jobs and timers; containers go on (or stop, where live-restore is off)."""
        raise NotImplementedError

    async def shutdown_everything(self) -> None:
        """Stop every container, then the supervisor and its zygote (``boxship system shutdown``)."""
        raise NotImplementedError

    async def create(self, name: str, request: CreateRequest, platform: str = "") -> CreateResponse:
        """Create a container; an empty ``name`` gets one made up."""
        raise NotImplementedError

    async def start(self, ref: str, detach_keys: str | None = None) -> bool:
        """Start it; False if it runs already."""
        raise NotImplementedError

    async def stop(self, ref: str, signal: str | None = None, timeout: int | None = None) -> bool:
        """Stop it, with SIGKILL after ``timeout`` seconds (-1: never); False if it doesn't run."""
        raise NotImplementedError

    async def restart(self, ref: str, signal: str | None = None, timeout: int | None = None) -> None:
        """Stop and start it."""
        raise NotImplementedError

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Send a signal, by name or number."""
        raise NotImplementedError

    async def wait(self, ref: str, condition: str = "not-running") -> Awaitable[WaitResponse]:
        """Register a waiter (``not-running``, ``next-exit`` or ``removed``) and return it: awaiting that gives the result."""
        raise NotImplementedError

    async def inspect(self, ref: str, size: bool = False) -> ContainerInspect:
        """Everything about one container; ``size`` adds the bytes it has written."""
        raise NotImplementedError

    async def remove(self, ref: str, volumes: bool = False, force: bool = False, link: bool = False) -> None:
        """Remove it, killing it first where ``force``."""
        raise NotImplementedError

    async def rename(self, ref: str, name: str) -> None:
        """Give it another name."""
        raise NotImplementedError

    async def prune(self, filters: Filters) -> PruneResponse:
        """Remove every container that doesn't run."""
        raise NotImplementedError

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set its terminal's size in characters."""
        raise NotImplementedError

    async def attachable(self, ref: str, options: AttachOptions, framing: Framing = "multiplexed") -> AttachSlot:
        """Take a place at its streams, running or not yet; errors are raised here, before any 101 head is sent."""
        raise NotImplementedError

    async def log_source(self, ref: str) -> LogSource:
        """What reading its log takes."""
        raise NotImplementedError

    def counts(self) -> tuple[int, int, int]:
        """How many containers are running, paused and stopped."""
        raise NotImplementedError

    async def list(
        self, all: bool = False, limit: int = 0, size: bool = False, filters: Filters | None = None
    ) -> builtins.list[ContainerSummary]:
        """Containers as ``ps`` shows them, newest first."""
        raise NotImplementedError
