"""nf_tables' messages: tables, chains, rules, sets and their elements, packed for the kernel.

Not libnftables: that waits with select(2), which ends the whole process at descriptor 1024, and a supervisor has several for
each container. Not pyroute2: its nftables is a prototype. What is needed is a small part: each expression below is one of nft's
own language, named as there. Source: linux/netfilter/nf_tables.h, and what nft(8) sends.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from errno import EEXIST, ENOENT
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from boxrun.network.netlink import APPEND, CREATE, NETFILTER, NetlinkSocket, Request, attribute, nested, text

Family = Literal["inet", "ip", "ip6"]
FAMILIES: Final[dict[Family, int]] = {"inet": 1, "ip": 2, "ip6": 10}
HOOKS: Final = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
Address = IPv4Address | IPv6Address

_SUBSYSTEM: Final = 10 << 8
NEWTABLE, DELTABLE, NEWCHAIN, DELCHAIN, NEWRULE, DELRULE = 0, 2, 3, 5, 6, 8
NEWSET, DELSET, NEWSETELEM, GETSETELEM, DELSETELEM, GETTABLE, GETRULE = 9, 11, 12, 13, 14, 1, 7
_VERDICT_DATA: Final = 0xFFFFFF00
_MAP: Final = 8

REGISTER: Final = 8
"""The first of sixteen registers of 32 bits; 0 is the verdict's."""

Expression = bytes


def be32(kind: int, value: int) -> bytes:
    """A number of 32 bits in network order."""
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def _expression(name: str, *fields: bytes) -> Expression:
    return nested(1, text(1, name), nested(2, *fields))


# Expressions: what is looked at.


def meta(key: Literal["iifname", "oifname", "nfproto", "l4proto"], register: int = REGISTER) -> Expression:
    """Load what the kernel knows of the packet."""
    return _expression("meta", be32(1, register), be32(2, {"iifname": 6, "oifname": 7, "nfproto": 15, "l4proto": 16}[key]))


def payload(base: Literal["network", "transport"], offset: int, length: int, register: int = REGISTER) -> Expression:
    """Load bytes of the packet's network or transport header."""
    fields = be32(1, register), be32(2, {"network": 1, "transport": 2}[base]), be32(3, offset), be32(4, length)
    return _expression("payload", *fields)


def compare(value: bytes, register: int = REGISTER, *, differs: bool = False) -> Expression:
    """Go on only if the register has this value (or any other)."""
    return _expression("cmp", be32(1, register), be32(2, int(differs)), nested(3, attribute(1, value)))


def mask(bits: bytes, register: int = REGISTER) -> Expression:
    """Leave only these bits of a register."""
    fields = be32(1, register), be32(2, register), be32(3, len(bits)), nested(4, attribute(1, bits))
    return _expression("bitwise", *fields, nested(5, attribute(1, bytes(len(bits)))))


def lookup(name: str, register: int = REGISTER, *, to: int | None = None, absent: bool = False) -> Expression:
    """Go on only if what is in the registers is in the set (or isn't); of a map, load the value into registers from ``to``."""
    fields = [text(1, name), be32(2, register)]
    if to is not None:
        fields.append(be32(3, to))
    if absent:
        fields.append(be32(5, 1))
    return _expression("lookup", *fields)


def verdict_map(name: str, register: int = REGISTER) -> Expression:
    """Do what the map says."""
    return lookup(name, register, to=0)


def conntrack(key: Literal["state", "status"], bits: int) -> list[Expression]:
    """Go on only if the connection has one of these bits."""
    word = struct.pack("=I", bits)
    load = _expression("ct", be32(1, REGISTER), be32(2, {"state": 0, "status": 2}[key]))
    return [load, mask(word), compare(bytes(4), differs=True)]


def local_destination() -> list[Expression]:
    """Go on only if the destination is an address of the host's."""
    return [_expression("fib", be32(1, REGISTER), be32(2, 3), be32(3, 2)), compare(struct.pack("=I", 2))]


# Expressions: what is done.


def immediate(value: bytes, register: int = REGISTER) -> Expression:
    """Load a value."""
    return _expression("immediate", be32(1, register), nested(2, attribute(1, value)))


def verdict(what: Literal["accept", "drop", "return"]) -> Expression:
    """End the chain."""
    return _expression("immediate", be32(1, 0), nested(2, nested(2, be32(1, {"accept": 1, "drop": 0, "return": -5}[what]))))


def jump_data(chain: str) -> bytes:
    """The value of a map's element: jump to a chain."""
    return nested(2, nested(2, be32(1, -3), text(2, chain)))


def store(offset: int, value: bytes) -> list[Expression]:
    """Overwrite bytes of the transport header. For tcp and udp sums that the kernel has still to make."""
    fields = be32(2, 2), be32(3, offset), be32(4, len(value)), be32(5, REGISTER), be32(6, 0), be32(7, 0), be32(8, 0)
    return [immediate(value), _expression("payload", *fields)]


def destination_nat(version: int, address: int, port: int) -> Expression:
    """Translate the destination to the address and port in these registers."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    registers = be32(3, address), be32(4, address), be32(5, port), be32(6, port)
    return _expression("nat", be32(1, 1), be32(2, family), *registers)


def source_nat(address: Address) -> list[Expression]:
    """Translate the source to an address."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return [immediate(address.packed), _expression("nat", be32(1, 0), be32(2, family), be32(3, REGISTER), be32(4, REGISTER))]


def masquerade() -> Expression:
    """Translate the source to the outgoing interface's address."""
    return _expression("masq")


def reset() -> Expression:
    """Refuse a TCP connection."""
    return _expression("reject", be32(1, 1), attribute(2, b"\0"))


def duplicate(address: Address, index: int) -> list[Expression]:
    """Send a copy of the packet to an address by an interface."""
    registers = REGISTER, REGISTER + 4
    values = [immediate(address.packed, registers[0]), immediate(struct.pack("=I", index), registers[1])]
    return [*values, _expression("dup", be32(1, registers[0]), be32(2, registers[1]))]


# Short words for frequent comparisons.


def interface_name(name: str) -> bytes:
    """An interface's name as it is compared."""
    return name.encode().ljust(16, b"\0")


def comes_from(name: str, *, differs: bool = False) -> list[Expression]:
    """Go on only if the packet came in by this interface."""
    return [meta("iifname"), compare(interface_name(name), differs=differs)]


def goes_to(name: str, *, differs: bool = False) -> list[Expression]:
    """Go on only if the packet leaves by this interface."""
    return [meta("oifname"), compare(interface_name(name), differs=differs)]


def version(number: int) -> list[Expression]:
    """Go on only for IPv4 or for IPv6."""
    return [meta("nfproto"), compare(bytes([2 if number == 4 else 10]))]


def protocol(number: int) -> list[Expression]:
    """Go on only for this transport protocol."""
    return [meta("l4proto"), compare(bytes([number]))]


def address_field(number: int, which: Literal["source", "destination"], register: int = REGISTER) -> Expression:
    """Load the packet's address of this IP version."""
    if number == 4:
        return payload("network", 12 if which == "source" else 16, 4, register)
    return payload("network", 8 if which == "source" else 24, 16, register)


def port_field(which: Literal["source", "destination"], register: int = REGISTER) -> Expression:
    """Load the packet's port."""
    return payload("transport", 0 if which == "source" else 2, 2, register)


class Batch:
    """A transaction, all or nothing, on one table."""

    def __init__(self, family: Family, table: str) -> None:
        self.family: Family = family
        self.table = table
        self.requests: list[Request] = []

    def _add(self, kind: int, flags: int, body: bytes, operation: str, tolerated: Iterable[int] = ()) -> None:
        head = struct.pack("!BBH", FAMILIES[self.family], 0, 0)
        what = f"nftables table {self.table}: {operation}"
        self.requests.append(Request(_SUBSYSTEM | kind, flags, head + body, what, frozenset(tolerated)))

    def add_table(self) -> None:
        """Have the table."""
        self._add(NEWTABLE, CREATE, text(1, self.table), "add the table")

    def delete_table(self) -> None:
        """Remove the table, which there must be, with all that is in it."""
        self._add(DELTABLE, 0, text(1, self.table), "remove the table")

    def add_base_chain(self, name: str, kind: Literal["filter", "nat"], hook: str, priority: int) -> None:
        """A chain at a hook, which accepts what no rule of it drops."""
        at = nested(4, be32(1, HOOKS[hook]), be32(2, priority))
        self._add(NEWCHAIN, CREATE, text(1, self.table) + text(3, name) + at + be32(5, 1) + text(7, kind), f"add chain {name}")

    def add_chain(self, name: str) -> None:
        """A chain to jump to."""
        self._add(NEWCHAIN, CREATE, text(1, self.table) + text(3, name), f"add chain {name}")

    def flush_chain(self, name: str) -> None:
        """Remove a chain's rules."""
        self._add(DELRULE, 0, text(1, self.table) + text(2, name), f"flush chain {name}", {ENOENT})

    def delete_chain(self, name: str) -> None:
        """Remove a chain."""
        self._add(DELCHAIN, 0, text(1, self.table) + text(3, name), f"remove chain {name}")

    def rule(self, chain: str, *expressions: Expression | Sequence[Expression]) -> None:
        """A rule at a chain's end."""
        flat = b"".join(e if isinstance(e, bytes) else b"".join(e) for e in expressions)
        self._add(NEWRULE, CREATE | APPEND, text(1, self.table) + text(2, chain) + nested(4, flat), f"add a rule to {chain}")

    def add_set(self, name: str, key: int, key_type: int, data: int = 0, data_type: int = 0, *, verdicts: bool = False) -> None:
        """A set or, with data or verdicts, a map.

        Args:
            name: its name.
            key: the key's bytes.
            key_type: what it is made of (``concatenated``), only for whoever lists it.
            data: bytes of a value.
            data_type: what that is made of.
            verdicts: the values are verdicts.
        """
        fields = (
            text(1, self.table) + text(2, name) + be32(3, _MAP if data or verdicts else 0) + be32(4, key_type) + be32(5, key)
        )
        if verdicts:
            fields += be32(6, _VERDICT_DATA) + be32(7, 16)
        elif data:
            fields += be32(6, data_type) + be32(7, data)
        if key_type == TYPES["interface"]:
            fields += attribute(13, b"\0\4" + struct.pack("=I", 1))  # for whoever lists it: the key is in the host's order
        self._add(NEWSET, CREATE, fields + be32(10, len(self.requests) + 1), f"add set {name}")

    def add_elements(self, name: str, elements: Iterable[tuple[bytes, bytes]]) -> None:
        """Elements: a key, and the value's attribute (``value_data``, ``jump_data``), empty in a set."""
        self._elements(NEWSETELEM, CREATE, name, elements, ())

    def delete_elements(self, name: str, keys: Iterable[bytes]) -> None:
        """Remove elements, which there must be."""
        self._elements(DELSETELEM, 0, name, ((key, b"") for key in keys), ())

    def _elements(
        self, kind: int, flags: int, name: str, elements: Iterable[tuple[bytes, bytes]], tolerated: Iterable[int]
    ) -> None:
        packed = [nested(1, nested(1, attribute(1, key)), data) for key, data in elements]
        # An attribute has at most 64 KiB.
        for start in range(0, len(packed), 400):
            body = text(1, self.table) + text(2, name) + nested(3, *packed[start : start + 400])
            self._add(kind, flags, body, f"{'add to' if kind == NEWSETELEM else 'remove from'} set {name}", tolerated)


def value_data(value: bytes) -> bytes:
    """The value of a map's element."""
    return nested(2, attribute(1, value))


TYPES: Final = {"address4": 7, "address6": 8, "protocol": 12, "port": 13, "interface": 41}


def concatenated(*kinds: str) -> int:
    """The number of a type made of others, as nft(8) reads it."""
    number = 0
    for kind in kinds:
        number = number << 6 | TYPES[kind]
    return number


def socket_here() -> NetlinkSocket:
    """A socket for transactions in the calling thread's namespace. Raises OSError."""
    return NetlinkSocket(NETFILTER)


def commit(sock: NetlinkSocket, *batches: Batch) -> None:
    """Do what the batches say, all or nothing.

    Raises:
        KernelRefusalError: the kernel refused.
    """
    requests = [request for batch in batches for request in batch.requests]
    if not requests:
        return
    head = struct.pack("!BBH", 0, 0, 10)
    sock.transact(requests, Request(0x10, 0, head, "begin"), Request(0x11, 0, head, "end"))


def has_table(sock: NetlinkSocket, family: Family, table: str) -> bool:
    """Whether there is such a table."""
    head = struct.pack("!BBH", FAMILIES[family], 0, 0)
    found = sock.dump(_SUBSYSTEM | GETTABLE, head, "list nftables tables")
    return any(body[4:].startswith(text(1, table)) for _, body in found)


__all__ = ["EEXIST", "Batch", "commit", "concatenated", "has_table", "socket_here", "value_data"]
