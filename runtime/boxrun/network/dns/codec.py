"""DNS messages: just what a forwarder and a small authority need. Source: RFC 1035, 6891 (EDNS), 2308 (negative answers).

Whatever comes in is hostile: nothing is followed for ever, and what isn't a message raises ``MalformedError``, nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from random import randrange
from typing import Final, NamedTuple

A, PTR, SOA, AAAA, OPT, ANY = 1, 12, 6, 28, 41, 255
IN: Final = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

HEADER: Final = struct.Struct("!HHHHHH")
_RECORD: Final = struct.Struct("!HHIH")
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION, _CHECKING_DISABLED = (
    0x8000,
    0x400,
    0x200,
    0x100,
    0x80,
    0x10,
)
_OPCODE: Final = 0x7800
LARGEST_UDP: Final = 1232
"""What is sent in a datagram at most, whatever a client says it takes: no fragment is needed anywhere."""

LARGEST_TTL: Final = 3600
_NAME_BYTES: Final = 255
_POINTERS: Final = 64
_RECORDS: Final = 2048

Address = IPv4Address | IPv6Address


class MalformedError(ValueError):
    """The bytes aren't a message that anybody could answer."""


class Query(NamedTuple):
    """A query.

    Args:
        id: its number.
        flags: its flags.
        name: in lower case, without the last dot.
        kind: the type asked for.
        klass: the class asked for.
        question: the question's bytes as they came, case and all.
        size: what its sender takes in a datagram.
        edns: it has an OPT record; ``dnssec`` is its DO bit.
        plain: nothing beside the question and an OPT record without options, so that an answer serves everybody.
    """

    id: int
    flags: int
    name: str
    kind: int
    klass: int
    question: bytes
    size: int = 512
    edns: bool = False
    dnssec: bool = False
    plain: bool = True

    @property
    def standard(self) -> bool:
        """Whether it is a standard query."""
        return not self.flags & _OPCODE

    @property
    def checking_disabled(self) -> bool:
        """The CD bit."""
        return bool(self.flags & _CHECKING_DISABLED)


def parse_query(data: bytes) -> Query:
    """A query. Raises MalformedError."""
    if len(data) < HEADER.size:
        raise MalformedError("shorter than a header")
    identity, flags, questions, answers, authorities, additionals = HEADER.unpack_from(data)
    if flags & _RESPONSE or questions != 1:
        raise MalformedError("not one question")
    name, offset = read_name(data, HEADER.size, compressed=False)
    if offset + 4 > len(data):
        raise MalformedError("the question is cut off")
    kind, klass = struct.unpack_from("!HH", data, offset)
    query = Query(identity, flags, name, kind, klass, data[HEADER.size : offset + 4])
    if not (answers or authorities or additionals):
        return query
    return _with_edns(query, data, offset + 4, answers + authorities + additionals)


def _with_edns(query: Query, data: bytes, offset: int, records: int) -> Query:
    plain = records == 1
    for _ in range(min(records, 16)):
        _, offset = read_name(data, offset)
        if offset + _RECORD.size > len(data):
            raise MalformedError("a record is cut off")
        kind, size, ttl, length = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size + length
        if offset > len(data):
            raise MalformedError("a record is cut off")
        if kind == OPT:
            query = query._replace(edns=True, size=max(512, size), dnssec=bool(ttl & 0x8000))
            plain = plain and not length
    return query._replace(plain=plain and query.edns)


def read_name(data: bytes, offset: int, *, compressed: bool = True) -> tuple[str, int]:
    """A name in lower case, without its last dot, and the offset behind it. Raises MalformedError."""
    labels: list[bytes] = []
    end, total, pointers = -1, 0, 0
    while True:
        if offset >= len(data):
            raise MalformedError("a name is cut off")
        length = data[offset]
        if length & 0xC0 == 0xC0:
            pointers += 1
            if not compressed or offset + 1 >= len(data) or pointers > _POINTERS:
                raise MalformedError("a name points nowhere")
            if end < 0:
                end = offset + 2
            offset = (length & 0x3F) << 8 | data[offset + 1]
            continue
        if length & 0xC0:
            raise MalformedError("a label of an unknown kind")
        offset += 1
        if not length:
            break
        total += length + 1
        label = data[offset : offset + length]
        if len(label) < length or total >= _NAME_BYTES:
            raise MalformedError("a name is too long")
        labels.append(label)
        offset += length
    # A dot inside a label isn't one that separates two: such a name is nobody's here.
    text = b".".join(label.replace(b".", b"\\.") for label in labels).decode("latin-1").lower()
    return text, offset if end < 0 else end


def write_name(name: str) -> bytes:
    """A name's bytes, uncompressed. Raises MalformedError."""
    parts = []
    for label in name.rstrip(".").encode("latin-1", "replace").split(b"."):
        if not 0 < len(label) < 64:
            raise MalformedError(f"{name!r} has a label of {len(label)} bytes")
        parts.append(bytes([len(label)]) + label)
    packed = b"".join(parts) + b"\0"
    if len(packed) > _NAME_BYTES:
        raise MalformedError(f"{name!r} is too long")
    return packed


class Answer:
    """An answer from here, for whoever asks with the same bytes: all but its number, with another record first each time."""

    __slots__ = ("_fitting", "_head", "_records", "_tail", "_turn")

    def __init__(self, query: Query, records: Sequence[bytes], limit: int) -> None:
        """What doesn't fit into ``limit`` bytes is cut off."""
        self._records = tuple(records)
        self._tail = _opt(NOERROR) if query.edns else b""
        self._turn = randrange(len(records)) if len(records) > 1 else 0
        room = limit - HEADER.size - len(query.question) - len(self._tail)
        self._fitting = min(len(records), max(0, room) // max(map(len, records), default=1))
        flags = _RESPONSE | _AUTHORITATIVE | _RECURSION | query.flags & (_RECURSION_DESIRED | _CHECKING_DISABLED)
        if self.truncated:
            flags |= _TRUNCATED
        self._head = HEADER.pack(0, flags, 1, self._fitting, 0, int(query.edns))[2:] + query.question

    @property
    def truncated(self) -> bool:
        """Whether not all of it fits."""
        return self._fitting < len(self._records)

    def to(self, identity: bytes) -> bytes:
        """The answer to the query that begins with these two bytes."""
        records = self._records
        if len(records) > 1:
            turn = self._turn = (self._turn + 1) % len(records)
            records = records[turn:] + records[:turn]
        return b"".join((identity, self._head, *records[: self._fitting], self._tail))


def address_answer(query: Query, addresses: Sequence[Address], ttl: int, limit: int) -> Answer:
    """The addresses of the kind that was asked for, or their absence."""
    version = {A: 4, AAAA: 6}.get(query.kind)
    records = [
        b"\xc0\x0c" + _RECORD.pack(query.kind, IN, ttl, len(address.packed)) + address.packed
        for address in addresses
        if address.version == version
    ]
    return Answer(query, records, limit)


def name_answer(query: Query, names: Sequence[str], ttl: int, limit: int) -> Answer:
    """The names of an address, but those that are too long for a message."""
    packed = []
    for name in names:
        with suppress(MalformedError):
            packed.append(write_name(name))
    return Answer(query, [b"\xc0\x0c" + _RECORD.pack(PTR, IN, ttl, len(name)) + name for name in packed], limit)


def _opt(extended: int) -> bytes:
    return b"\0" + _RECORD.pack(OPT, LARGEST_UDP, extended << 24, 0)


def failure(query: Query, code: int) -> bytes:
    """An answer that says no."""
    flags = _RESPONSE | _RECURSION | query.flags & (_OPCODE | _RECURSION_DESIRED | _CHECKING_DISABLED) | code
    head = HEADER.pack(query.id, flags, 1, 0, 0, int(query.edns))
    return head + query.question + (_opt(NOERROR) if query.edns else b"")


def malformed_failure(data: bytes) -> bytes | None:
    """The answer to what isn't a query; None where it isn't worth one."""
    if len(data) < HEADER.size or data[2] & 0x80:
        return None
    return HEADER.pack(int.from_bytes(data[:2], "big"), _RESPONSE | FORMERR, 0, 0, 0, 0)


def truncated(query: Query, response: bytes) -> bytes:
    """The answer that says: too long for a datagram, ask over TCP."""
    flags = int.from_bytes(response[2:4], "big") | _TRUNCATED
    head = HEADER.pack(query.id, flags, 1, 0, 0, int(query.edns))
    return head + query.question + (_opt(NOERROR) if query.edns else b"")


class Response(NamedTuple):
    """An answer from a server.

    Args:
        data: its bytes.
        code: NOERROR, NXDOMAIN ...
        records: in the answer section.
        truncated: the TC bit.
        ttl: how long it may be kept, 0: not at all.
        ttls: where in ``data`` its records' times to live are.
    """

    data: bytes
    code: int
    records: int
    truncated: bool
    ttl: int
    ttls: tuple[int, ...]

    @property
    def good(self) -> bool:
        """The server knew: it is so, or there is no such name."""
        return self.code in (NOERROR, NXDOMAIN)

    @property
    def positive(self) -> bool:
        """There is what was asked for."""
        return self.code == NOERROR and (self.records > 0 or self.truncated)


def parse_response(data: bytes, query: Query, identity: int) -> Response:
    """The answer to ``query`` that was asked as number ``identity``. Raises MalformedError: it is something else."""
    if len(data) < HEADER.size:
        raise MalformedError("shorter than a header")
    found, flags, questions, answers, authorities, additionals = HEADER.unpack_from(data)
    if found != identity or not flags & _RESPONSE or flags & _OPCODE:
        raise MalformedError("not the answer")
    code = flags & 0xF
    if questions != 1:
        if questions or code in (NOERROR, NXDOMAIN):
            raise MalformedError("an answer without its question")
        return Response(data, code, 0, bool(flags & _TRUNCATED), 0, ())
    end = HEADER.size + len(query.question)
    if data[HEADER.size : end - 4].lower() != query.question[:-4].lower() or data[end - 4 : end] != query.question[-4:]:
        raise MalformedError("the answer to another question")
    if answers + authorities + additionals > _RECORDS:
        raise MalformedError("more records than anybody needs")
    kept = bool(flags & _TRUNCATED) or code not in (NOERROR, NXDOMAIN)
    ttl, ttls = (0, ()) if kept else _times(data, end, answers, authorities, additionals)
    return Response(data, code, answers, bool(flags & _TRUNCATED), ttl, ttls)


def _times(data: bytes, offset: int, answers: int, authorities: int, additionals: int) -> tuple[int, tuple[int, ...]]:
    places = []
    lifetimes: list[int] = []
    for number in range(answers + authorities + additionals):
        _, offset = read_name(data, offset)
        if offset + _RECORD.size > len(data):
            raise MalformedError("a record is cut off")
        kind, _, ttl, length = _RECORD.unpack_from(data, offset)
        if kind != OPT:
            places.append(offset + 4)
            if number < answers:
                lifetimes.append(ttl)
            elif kind == SOA and not answers and length >= 20:
                lifetimes.append(min(ttl, int.from_bytes(data[offset + 6 + length : offset + 10 + length], "big")))
        offset += _RECORD.size + length
        if offset > len(data):
            raise MalformedError("a record is cut off")
    return min([LARGEST_TTL, *lifetimes]) if lifetimes else 0, tuple(places)


def for_client(query: Query, response: Response, age: int, limit: int) -> bytes:
    """An answer as this client gets it: its number, its question's spelling, the times to live that are left."""
    data = bytearray(response.data)
    data[0:2] = query.id.to_bytes(2, "big")
    if len(data) >= HEADER.size + len(query.question) and data[4:6] == b"\0\1":
        data[HEADER.size : HEADER.size + len(query.question)] = query.question
    if age:
        for place in response.ttls:
            left = max(0, int.from_bytes(data[place : place + 4], "big") - age)
            data[place : place + 4] = left.to_bytes(4, "big")
    return truncated(query, bytes(data)) if len(data) > limit else bytes(data)


def reverse_address(name: str) -> Address | None:
    """The address that a name in in-addr.arpa or ip6.arpa stands for. Source: RFC 1035 3.5, RFC 3596 2.5."""
    try:
        if name.endswith(".in-addr.arpa"):
            return IPv4Address(".".join(reversed(name[: -len(".in-addr.arpa")].split("."))))
        if name.endswith(".ip6.arpa"):
            nibbles = name[: -len(".ip6.arpa")].split(".")
            if len(nibbles) == 32 and all(len(nibble) == 1 for nibble in nibbles):
                return IPv6Address(int("".join(reversed(nibbles)), 16))
    except ValueError:
        pass
    return None
