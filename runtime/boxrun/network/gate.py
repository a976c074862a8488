"""Published ports that obey the host's own input rules.

Translated packets are forwarded and never meet the rules for the host's programs, so ``ufw deny 8080`` does nothing for a
published port. With the gate a connection from outside isn't translated when it arrives. Its first packet meets the host's
input chains as if a program listened. What they let pass comes to a chain behind all others, which sends a copy into one end of
a veth pair; it comes in again at the other end, as a packet that conntrack doesn't know, and is translated there. Everything
after the first packet belongs to a known connection and takes the short way: at the kernel's speed, with the real source.

``dup`` is not in the inet family, so there are two more tables, ``ip`` and ``ip6``, with sets of their own.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_interface
from typing import Final

from boxrun.network import firewall_rules as rules
from boxrun.network import nftables as nft
from boxrun.network import rtnetlink
from boxrun.network.firewall_rules import Element
from boxrun.network.netlink import NetlinkSocket
from boxrun.network.nftables import Batch, Family

BEHIND_ALL: Final = 300
"""The chain's priority: behind the input chains of ufw, firewalld and whoever filters."""

_MAC: Final = "02:62:78:67:61:74"
"""Of both ends: what one sends is for the other, with no neighbour to be found."""

_NEXT: Final = {4: ip_address("198.18.0.1"), 6: ip_address("fe80::1")}


class Gate:
    """The pair of interfaces and the tables, in the calling thread's namespace."""

    def __init__(self, table: str) -> None:
        """Raises OSError or KernelRefusalError."""
        self._table = f"{table}-gate"
        self._out, self._in = f"bxo{table[-8:]}", f"bxi{table[-8:]}"
        self.inside = [self._in]
        if not _exists(self._out):
            with NetlinkSocket() as route:
                route.run(rtnetlink.add_gate(self._out, self._in, _MAC))
        for name in (self._out, self._in):
            _write(f"/proc/sys/net/ipv6/conf/{name}/accept_dad", "0")
            _write(f"/proc/sys/net/ipv6/conf/{name}/accept_ra", "0")
        # What comes in has addresses that lead elsewhere.
        _write(f"/proc/sys/net/ipv4/conf/{self._in}/rp_filter", "2")
        with NetlinkSocket() as route:
            route.run([rtnetlink.link_up(0, self._out), rtnetlink.link_up(0, self._in)])
            index = socket.if_nametoindex(self._out)
            # Without an address of its own an interface has its packets' sources checked strictly, whatever it is told.
            back = socket.if_nametoindex(self._in)
            route.run([rtnetlink.add_address(back, ip_interface("198.18.0.2/32"))])
        self._index = index

    def tables(self, networks: Sequence[str], elements: Sequence[Element]) -> list[Batch]:
        """The tables anew."""
        batches = []
        for version in (4, 6):
            old = self._batch(version)
            old.add_table()
            old.delete_table()
            batches += [old, self._build(version, networks, elements)]
        return batches

    def _batch(self, version: int) -> Batch:
        family: Family = "ip" if version == 4 else "ip6"
        return Batch(family, self._table)

    def _build(self, version: int, networks: Sequence[str], elements: Sequence[Element]) -> Batch:
        batch = self._batch(version)
        batch.add_table()
        size, address = (4, "address4") if version == 4 else (16, "address6")
        batch.add_set(f"ports{version}", size + 8, nft.concatenated("protocol", address, "port"))
        batch.add_set(f"any{version}", 8, nft.concatenated("protocol", "port"))
        batch.add_base_chain("admitted", "filter", "input", BEHIND_ALL)
        for name in ("lo", self._in, *networks):
            batch.rule("admitted", nft.comes_from(name), nft.verdict("return"))
        new = nft.conntrack("state", rules.NEW)
        exact, anywhere = rules.port_lookups(version)
        copy = nft.duplicate(_NEXT[version], self._index)
        batch.rule("admitted", new, exact, nft.lookup(f"ports{version}"), copy, nft.verdict("drop"))
        batch.rule("admitted", new, anywhere, nft.lookup(f"any{version}"), copy, nft.verdict("drop"))
        rules.add_elements(batch, _ports(elements, version))
        return batch

    def changes(self, added: Sequence[Element], removed: Sequence[Element]) -> list[Batch]:
        """What changes in the tables."""
        batches = []
        for version in (4, 6):
            batch = self._batch(version)
            rules.delete_elements(batch, _ports(removed, version))
            rules.add_elements(batch, _ports(added, version))
            batches.append(batch)
        return batches

    def remove(self, sock: NetlinkSocket) -> None:
        """Remove tables and interfaces."""
        for version in (4, 6):
            batch = self._batch(version)
            batch.add_table()
            batch.delete_table()
            nft.commit(sock, batch)
        with NetlinkSocket() as route:
            route.run([rtnetlink.delete_link(0, self._out)])


def _ports(elements: Sequence[Element], version: int) -> list[Element]:
    return [(name, key, b"") for name, key, _ in elements if name in (f"ports{version}", f"any{version}")]


def _exists(name: str) -> bool:
    with suppress(OSError):
        return socket.if_nametoindex(name) > 0
    return False


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)
