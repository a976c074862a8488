"""Containers: their start, their end, and what is sent to them and attached to them while they run."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from boxrun.container.spec import Spec
from boxrun.network.contract import PlugReply, PlugRequest
from boxrun.shim.logs.writer import Position

Framing = Literal["raw", "multiplexed", "websocket", "websocket-multiplexed"]
Phase = Literal["starting", "running", "exited"]


class Attachment(Struct, frozen=True, kw_only=True):
    """A client's socket, whose file descriptor travels beside the message, and what it is attached to.

    ``framing``: ``raw`` bytes; Docker's 8-byte headers (``multiplexed``); or either of them in binary websocket messages
    (RFC 6455, server side, after the handshake). Over ``websocket-multiplexed`` a client ends its input, and goes on
    listening, with an empty binary message. ``received`` are bytes that the HTTP parser had already read past
    the request's head.
    ``detach_keys`` is Docker's notation, empty for none.
    """

    framing: Framing
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    detach_keys: str = ""
    received: bytes = b""


class StartRequest(Struct, frozen=True, kw_only=True):
    """Start ``spec``. One file descriptor travels along for each of ``attachments``, in order.

    ``sandbox`` is plugged on the way (``Networks.plug``), where the spec has a network namespace of its own; one that was
    plugged before is taken where it is None. A sandbox goes with its container's end. Where it can't be
    plugged the start fails as ``plug`` does, with a ``NetworkFailure`` as its detail.
    """

    spec: Spec
    attachments: tuple[Attachment, ...] = ()
    sandbox: PlugRequest | None = None


class StartReply(Struct, frozen=True, kw_only=True):
    """The container runs: its first process in the host's numbers, and the time in ns since the epoch."""

    pid: int
    started_at: int
    warnings: tuple[str, ...] = ()
    sandbox: PlugReply | None = None


class StartFailure(Struct, frozen=True, kw_only=True):
    """The detail of a FAILED_PRECONDITION answer to ``start``: which step failed, and the exit code Docker gives it.

    ``exit_code`` is 127 where the program was not found, 126 where it couldn't be run, 128 for everything else.
    """

    step: str
    errno: int
    message: str
    exit_code: int


class ContainerRef(Struct, frozen=True, kw_only=True):
    """A container by its id."""

    id: str


class SignalRequest(Struct, frozen=True, kw_only=True):
    """Send ``signal`` (its number) to process 1, or to every process where ``everyone``."""

    id: str
    signal: int
    everyone: bool = False


class ResizeRequest(Struct, frozen=True, kw_only=True):
    """Set the terminal's size in characters."""

    id: str
    height: int
    width: int


class AttachRequest(Struct, frozen=True, kw_only=True):
    """Hand a client's socket to a running container; one file descriptor travels along."""

    id: str
    attachment: Attachment


class AttachReply(Struct, frozen=True, kw_only=True):
    """How far the container's log was written when the client was attached."""

    log: Position = Position()


class ContainerStatus(Struct, frozen=True, kw_only=True):
    """What the runtime knows of a container.

    Times are ns since the epoch, 0 for not yet. ``lost``: the shim died or the machine went down, so that ``exit_code``
    is 255 for want of the true one. ``signal`` is non-zero where a signal ended process 1 (``exit_code`` is then 128 + signal).
    """

    id: str
    phase: Phase
    pid: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    signal: int = 0
    oom_killed: bool = False
    lost: bool = False
    error: str = ""
    log_dropped: int = 0
    paused: bool = False


class ContainerList(Struct, frozen=True, kw_only=True):
    """Every container the runtime has, exited ones until they are released."""

    containers: tuple[ContainerStatus, ...]
