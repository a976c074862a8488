"""What supervisor and relay say to each other (``companion.wire``)."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct
from msgspec.msgpack import Decoder

QUEUE: Final = 1024
"""Connections that wait to be relayed, at each port."""


class Relay(Struct, frozen=True, kw_only=True):
    """What arrives at a socket of the host goes to an address and port of a container's.

    ``host_address`` and ``host_port`` are the socket's own, which comes along.
    """

    container: str
    protocol: Literal["tcp", "udp"]
    host_address: str
    host_port: int
    address: str
    port: int


class Listen(Struct, frozen=True, tag="listen"):
    """Relay these as well; the socket of each comes along, in order."""

    relays: tuple[Relay, ...]


class Close(Struct, frozen=True, kw_only=True, tag="close"):
    """Of a container's relay only ``keep`` from now on; ``gone``: its connections end as well. Answered by ``Closed``."""

    number: int
    container: str
    keep: tuple[Relay, ...] = ()
    gone: bool = False


class Closed(Struct, frozen=True, tag="closed"):
    """The sockets are closed: their ports are free once nobody else has them."""

    number: int


class Tell(Struct, frozen=True, tag="tell"):
    """Say what is relayed; the first thing that a supervisor says. Answered by ``Told``."""


class Told(Struct, frozen=True, kw_only=True, tag="told"):
    """What is relayed, with the sockets; in pieces, of which the last is ``last``. ``pid`` is the relay's."""

    pid: int
    relays: tuple[Relay, ...]
    last: bool = True


class End(Struct, frozen=True, tag="end"):
    """Nobody needs a relay any more."""


Order = Listen | Close | Tell | End
Answer = Closed | Told

decode_order = Decoder(Order).decode
decode_answer = Decoder(Answer).decode
