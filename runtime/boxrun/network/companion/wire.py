"""A message in each datagram of a seqpacket socket, with descriptors beside it."""

from __future__ import annotations

from collections.abc import Sequence
from socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET, socket
from struct import pack, unpack
from typing import Final

from msgspec import Struct
from msgspec.msgpack import Encoder

LARGEST: Final = 128 << 10
"""Bytes of a message."""

MOST_FDS: Final = 64
"""Descriptors beside a message."""

_encode = Encoder().encode
_ANCILLARY: Final = CMSG_SPACE(4 * MOST_FDS)


def send(sock: socket, message: Struct, fds: Sequence[int] = ()) -> None:
    """Send a message with copies of ``fds``. Raises OSError."""
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([_encode(message)], ancillary)


def receive(sock: socket) -> tuple[bytes, list[int]] | None:
    """A message and its descriptors; None at the end. Raises OSError, BlockingIOError."""
    data, ancillary, _, _ = sock.recvmsg(LARGEST, _ANCILLARY, MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            fds.extend(unpack(f"{len(content) // 4}i", content[: len(content) // 4 * 4]))
    return (data, fds) if data else None
