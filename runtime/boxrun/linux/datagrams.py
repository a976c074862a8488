"""Many datagrams with one system call: recvmmsg(2) and sendmmsg(2)."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Sequence
from typing import Final

from boxrun.linux.syscalls import failed, libc

MSG_DONTWAIT: Final = 0x40


class _Address(ctypes.Structure):
    """``struct sockaddr_in``; port and address as they are on the wire."""

    _fields_ = (
        ("family", ctypes.c_ushort),
        ("port", ctypes.c_ubyte * 2),
        ("address", ctypes.c_ubyte * 4),
        ("zero", ctypes.c_ubyte * 8),
    )


class _Piece(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.POINTER(_Address)),
        ("name_length", ctypes.c_uint),
        ("pieces", ctypes.POINTER(_Piece)),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct mmsghdr``; ``length`` is that of what was received."""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


_recvmmsg: Final = libc.recvmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_sendmmsg: Final = libc.sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class Datagrams:
    """Room for datagrams over IPv4 that are received together and answered together, whichever socket they come from."""

    def __init__(self, count: int, size: int) -> None:
        """At most ``count`` at a time. Of one that is longer than ``size`` the rest is lost; no answer is longer."""
        self._count, self._size = count, size
        memory = (ctypes.c_ubyte * (count * size))()
        self._memory = memoryview(memory).cast("B")
        start = ctypes.addressof(memory)
        pieces, addresses, messages = (_Piece * count)(), (_Address * count)(), (_Message * count)()
        # An element that is taken out of an array is a new object each time: these stay.
        self._pieces, self._addresses, self._messages = list(pieces), list(addresses), list(messages)
        for number, message in enumerate(self._messages):
            self._pieces[number].base, self._pieces[number].length = start + number * size, size
            header = message.header
            header.name, header.name_length = ctypes.pointer(self._addresses[number]), ctypes.sizeof(_Address)
            header.pieces, header.piece_count = ctypes.pointer(self._pieces[number]), 1
        self._first = ctypes.addressof(messages)

    def receive(self, fd: int) -> list[bytes]:
        """What waits at a socket; nothing where nothing does. Raises OSError."""
        count: int = _recvmmsg(fd, self._first, self._count, MSG_DONTWAIT, None)
        if count < 0:
            if ctypes.get_errno() == errno.EAGAIN:
                return []
            failed("receive datagrams")
        memory, starts = self._memory, range(0, count * self._size, self._size)
        return [
            memory[start : start + message.length].tobytes() for start, message in zip(starts, self._messages, strict=False)
        ]

    def sender(self, number: int) -> tuple[str, int]:
        """Who has sent one of those that were received last."""
        found = self._addresses[number]
        return ".".join(map(str, found.address)), int.from_bytes(bytes(found.port), "big")

    def answer(self, fd: int, answers: Sequence[bytes | None]) -> None:
        """Answer those that were received last, each with its own or with nothing. What a full queue refuses is lost."""
        memory, size, pieces = self._memory, self._size, self._pieces
        first = 0
        for number, answer in enumerate(answers):
            if answer is None:
                self._send(fd, first, number)
                first = number + 1
                continue
            length = pieces[number].length = len(answer)
            start = number * size
            memory[start : start + length] = answer
        self._send(fd, first, len(answers))

    def _send(self, fd: int, first: int, end: int) -> None:
        sending = first
        while sending < end:
            sent: int = _sendmmsg(fd, self._first + sending * ctypes.sizeof(_Message), end - sending, MSG_DONTWAIT)
            sending += max(1, sent)
        for piece in self._pieces[first:end]:
            piece.length = self._size
