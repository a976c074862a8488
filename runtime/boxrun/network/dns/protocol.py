"""What supervisor and name server say to each other (``companion.wire``)."""

from __future__ import annotations

from msgspec import Struct
from msgspec.msgpack import Decoder

from boxrun.network.contract import NamesChange, Resolver


class Serve(Struct, frozen=True, kw_only=True, tag="serve"):
    """Serve a container on the two sockets that come along: UDP, TCP. ``answer``: say when that is so."""

    container: str
    networks: tuple[str, ...]
    resolver: Resolver


class Moved(Struct, frozen=True, kw_only=True, tag="moved"):
    """A container is on other networks now."""

    container: str
    networks: tuple[str, ...]
    resolver: Resolver


class Drop(Struct, frozen=True, kw_only=True, tag="drop"):
    """A container is gone."""

    container: str


class Change(Struct, frozen=True, kw_only=True, tag="change"):
    """Names have changed."""

    change: NamesChange


class Network(Struct, frozen=True, kw_only=True, tag="network"):
    """What a network is called; empty: it is gone."""

    id: str
    name: str = ""


class Keep(Struct, frozen=True, kw_only=True, tag="keep"):
    """Of the containers that are served keep these; answered by ``Kept``. The first thing a supervisor says.

    It comes in pieces, of which the last is ``last``.
    """

    containers: tuple[str, ...]
    last: bool = True


class Kept(Struct, frozen=True, kw_only=True, tag="kept"):
    """Those that are still served; in pieces."""

    containers: tuple[str, ...]
    last: bool = True


class End(Struct, frozen=True, tag="end"):
    """Nobody needs a name server any more."""


Order = Serve | Moved | Drop | Change | Network | Keep | End

decode_order = Decoder(Order).decode
decode_kept = Decoder(Kept).decode
