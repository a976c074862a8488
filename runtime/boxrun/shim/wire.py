"""Messages on seqpacket sockets, with descriptors beside them: between supervisor, zygote, shims and probers.

A datagram's first byte says where the message is: in the datagram (``INLINE``), or, where it would be too big for one, in a
memfd that is the first of the descriptors beside it (``MEMFD``). Messages are msgpack maps.
"""

from __future__ import annotations

import os
from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_TRUNC, SCM_RIGHTS, SOL_SOCKET, socket
from collections.abc import Sequence
from fcntl import fcntl
from stat import S_ISREG
from struct import pack, unpack

from msgspec import Struct
from msgspec.msgpack import Encoder

INLINE_LIMIT = 16384
"""Bytes of a message that travel in the datagram itself."""

MESSAGE_LIMIT = 64 << 20
"""Bytes of an order to a shim: whatever a supervisor would send, and far less than what would take the machine's memory."""

REPORT_LIMIT = 1 << 20
"""Bytes of what a shim says."""

MAX_FDS = 253
"""Descriptors the kernel passes in one message. Source: unix(7), SCM_MAX_FD."""

_INLINE = b"\0"
_MEMFD = b"\1"
# Only anonymous files and those of a tmpfs have seals to tell of. Source: linux/fcntl.h.
_F_GET_SEALS = 1034
_ANCILLARY = CMSG_SPACE(4 * MAX_FDS)

_encoder = Encoder()


def encode(message: Struct) -> bytes:
    """``message`` as it goes on the wire."""
    return _encoder.encode(message)


def memfd(name: str, content: bytes) -> int:
    """A descriptor of an anonymous file that holds ``content``; closed on exec."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_memfd(fd: int) -> bytes:
    """All that is in the file ``fd``, from its beginning."""
    chunks = []
    offset = 0
    while chunk := os.pread(fd, 1 << 20, offset):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)


def send(sock: socket, message: bytes, fds: Sequence[int] = ()) -> None:
    """Send an encoded message with copies of ``fds``, without waiting.

    Raises:
        BlockingIOError: the peer's queue is full.
        OSError: the peer is gone, or there are more than ``MAX_FDS`` descriptors.
    """
    if len(message) <= INLINE_LIMIT:
        _send(sock, _INLINE, message, fds)
        return
    carrier = memfd("boxrun-message", message)
    try:
        _send(sock, _MEMFD, b"", (carrier, *fds))
    finally:
        os.close(carrier)


def _send(sock: socket, kind: bytes, message: bytes, fds: Sequence[int]) -> None:
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([kind, message], ancillary, MSG_DONTWAIT)


def send_inline(sock: socket, message: bytes) -> None:
    """Send an encoded message in a datagram, however big that is, without waiting; for ``receive_inline``.

    Raises:
        BlockingIOError: the peer's queue is full.
        OSError: the peer is gone.
    """
    _send(sock, _INLINE, message, ())


def receive(sock: socket, limit: int = MESSAGE_LIMIT) -> tuple[bytes, list[int]] | None:
    """The next message and the descriptors beside it, which the caller owns; None at the end of the connection.

    Args:
        sock: the connection.
        limit: bytes that a message beside the datagram may have.

    Raises:
        BlockingIOError: nothing is there, on a non-blocking socket.
        OSError: the connection broke.
        ValueError: a datagram without its head, or what it refers to isn't a message.
    """
    data, ancillary, _, _ = sock.recvmsg(INLINE_LIMIT + 1, _ANCILLARY, MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            count = len(content) // 4
            fds.extend(unpack(f"{count}i", content[: 4 * count]))
    if not data:
        close_all(fds)
        return None
    if data[:1] == _INLINE:
        return data[1:], fds
    if data[:1] != _MEMFD or not fds:
        close_all(fds)
        raise ValueError(f"datagram of unknown kind {data[0]} with {len(fds)} descriptors")
    carrier = fds.pop(0)
    try:
        return _carried(carrier, limit), fds
    except (OSError, ValueError):
        close_all(fds)
        raise
    finally:
        os.close(carrier)


def _carried(carrier: int, limit: int) -> bytes:
    """What the file ``carrier`` holds, once it is sure that reading it neither waits for anybody nor goes on for ever.

    Raises:
        ValueError: it isn't in memory, or longer than ``limit``.
    """
    found = os.fstat(carrier)
    if not S_ISREG(found.st_mode) or found.st_size > limit:
        raise ValueError(f"a message of {found.st_size} bytes in a file of mode {found.st_mode:o}")
    try:
        fcntl(carrier, _F_GET_SEALS)
    except OSError as error:
        raise ValueError("a message in a file that is not in memory") from error
    # Whoever sent it may still make it longer: no more is read than it had.
    return os.pread(carrier, found.st_size, 0)


def receive_inline(sock: socket, limit: int) -> bytes | None:
    """The next message of somebody who isn't trusted: in the datagram, and nothing else; None at the end of the connection.

    Descriptors that come along are dropped by the kernel. They never become this process's own, as even closing one may mean
    to wait for its sender (a FUSE file system's flush).

    Raises:
        BlockingIOError: nothing is there, on a non-blocking socket.
        OSError: the connection broke.
        ValueError: the datagram has more than ``limit`` bytes, or isn't a message.
    """
    data, _, flags, _ = sock.recvmsg(limit + 1, 0)
    if not data:
        return None
    if data[:1] != _INLINE or flags & MSG_TRUNC:
        raise ValueError(f"datagram of kind {data[0]} and {'more than ' if flags & MSG_TRUNC else ''}{len(data)} bytes")
    return data[1:]


def close_all(fds: Sequence[int]) -> None:
    """Close every one of ``fds``."""
    for fd in fds:
        os.close(fd)
