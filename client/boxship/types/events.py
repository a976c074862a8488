"""Events, and the error body every failing operation answers with.

Source: Docker Engine API v1.51, definitions EventMessage, EventActor, ErrorResponse.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field


class EventActor(Struct, rename="pascal", frozen=True):
    """What the event happened to."""

    id: str = field(name="ID")
    attributes: dict[str, str]


class EventMessage(Struct, frozen=True, kw_only=True):
    """One event; ``time`` in seconds, ``time_nano`` in nanoseconds since the epoch."""

    type: str = field(name="Type")
    action: str = field(name="Action")
    actor: EventActor = field(name="Actor")
    scope: str = "local"
    time: int
    time_nano: int = field(name="timeNano")
    # What clients older than API 1.22 read; dockerd still sends them at 1.51.
    status: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    from_: str | UnsetType = field(name="from", default=UNSET)


class ErrorResponse(Struct, frozen=True):
    """The JSON body of every error."""

    message: str
