"""How a call ends: gRPC's status codes, and the errors of the bus.

    BusError            a call or a connection failed; ``code`` says how
    ProtocolError       the peer broke the rules of the wire; the connection ends, its calls fail with UNAVAILABLE

Only BusError reaches callers and handlers. Source of the codes: gRPC's ``doc/statuscodes.md``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, TypeVar

import msgspec
from msgspec.msgpack import Decoder, Encoder

_D = TypeVar("_D")
_encoder: Final = Encoder()

MALFORMED: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""What decoding bytes of a peer can raise."""


class Code(IntEnum):
    """gRPC's 17 status codes, with its numbers."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ProtocolError(Exception):
    """The peer broke the rules of the wire."""


class BusError(Exception):
    """A call failed.

    A handler raises it to answer with ``code``; a caller gets an equal one. ``detail`` is a message of the method's own choice,
    which the caller reads back with :meth:`detail`. The text of the exception is ``message``.

    Raises ValueError for ``Code.OK``, which isn't a failure.
    """

    def __init__(self, code: Code, message: str, *, detail: msgspec.Struct | None = None) -> None:
        if code is Code.OK:
            raise ValueError(f"a BusError can't have the code OK: {message}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail_type = type(detail).__name__ if detail is not None else ""
        self.detail_bytes = _encoder.encode(detail) if detail is not None else b""

    def detail(self, message_type: type[_D]) -> _D | None:
        """The detail, if there is one of this type (by its class's name) that decodes as such; else None."""
        if self.detail_type != message_type.__name__:
            return None
        try:
            return Decoder(message_type).decode(self.detail_bytes)
        except MALFORMED:
            return None

    def copy(self) -> BusError:
        """An equal error without this one's traceback, for failing several calls with it."""
        other = BusError(self.code, self.message)
        other.detail_type, other.detail_bytes = self.detail_type, self.detail_bytes
        return other

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (int(self.code), self.message, self.detail_type, self.detail_bytes)


def _restored(code: int, message: str, detail_type: str, detail_bytes: bytes) -> BusError:
    """The error as it was taken apart. A code of a newer version than ours is UNKNOWN; so is OK, which can't be a failure."""
    try:
        error = BusError(Code(code), message)
    except ValueError:
        error = BusError(Code.UNKNOWN, message)
    error.detail_type, error.detail_bytes = detail_type, detail_bytes
    return error


_Wire = tuple[int, str, str, bytes]
_decoder: Final = Decoder(_Wire)


def encode_error(error: BusError, limit: int) -> bytes:
    """The error as a STATUS frame's payload of at most ``limit`` bytes: a longer one loses its detail and its message's end."""
    payload = _encoder.encode((int(error.code), error.message, error.detail_type, error.detail_bytes))
    if len(payload) <= limit:
        return payload
    # A character takes at most 4 bytes of UTF-8, and 32 bytes are ample for the rest.
    return _encoder.encode((int(error.code), error.message[: max(limit - 32, 0) // 4], "", b""))


def decode_error(payload: memoryview) -> BusError:
    """The error in a STATUS frame's payload. Raises ProtocolError."""
    try:
        return _restored(*_decoder.decode(payload))
    except MALFORMED as error:
        raise ProtocolError(f"malformed status: {error}") from error
