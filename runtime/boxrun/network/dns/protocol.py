"""What supervisor and name server say to each other: a message in each datagram of a seqpacket socket."""

from __future__ import annotations

from collections.abc import Sequence
from socket import CMSG_LEN, CMSG_SPACE, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET, socket
from struct import pack, unpack

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from boxrun.network.contract import NamesChange, Resolver

LARGEST = 128 << 10
"""Bytes of a message."""


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

encode = Encoder().encode
decode_order = Decoder(Order).decode
decode_kept = Decoder(Kept).decode

_FDS = 2
_ANCILLARY = CMSG_SPACE(4 * _FDS)


def send(sock: socket, message: Struct, fds: Sequence[int] = ()) -> None:
    """Send a message with copies of ``fds``. Raises OSError."""
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([encode(message)], ancillary)


def receive(sock: socket) -> tuple[bytes, list[int]] | None:
    """A message and its descriptors; None at the end. Raises OSError, BlockingIOError."""
    data, ancillary, _, _ = sock.recvmsg(LARGEST, _ANCILLARY, MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            fds.extend(unpack(f"{len(content) // 4}i", content[: len(content) // 4 * 4]))
    return (data, fds) if data else None


__all__ = ["CMSG_LEN", "Change", "Drop", "End", "Keep", "Kept", "Moved", "Network", "Order", "Serve"]
