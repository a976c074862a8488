"""The firewall: the table in the kernel kept as the networks and published ports ask for.

All of it is known here, so the table can be made anew at any time in one transaction: at the start of a supervisor, and after
somebody has flushed it. Connections that are under way don't notice.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Sequence

from boxrun.network import firewall_rules as rules
from boxrun.network import gate, nftables
from boxrun.network.contract import NetworkSpec, Policy
from boxrun.network.errors import KernelRefusalError
from boxrun.network.firewall_rules import Element
from boxrun.network.netlink import NETFILTER, attributes, messages
from boxrun.network.nftables import Batch

log = logging.getLogger(__name__)

_MONITOR_GROUP = 7
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1


class Firewall:
    """The tables of one instance, in the namespace of the thread that makes this and calls it."""

    def __init__(self, table: str) -> None:
        """``table`` is the tables' name. Raises OSError: the kernel has no nf_tables."""
        self.table = table
        self._socket = nftables.socket_here()
        self.port = self._socket.port
        self._networks: dict[str, NetworkSpec] = {}
        self._elements: Counter[Element] = Counter()
        self._policy = Policy()
        self._forward_drop: tuple[str, ...] = ()
        self._gate: gate.Gate | None = None
        self._loopback_relayed = False
        self._built = False

    def close(self) -> None:
        """Let go of the socket; the tables stay."""
        self._socket.close()

    def restore(self, networks: Iterable[NetworkSpec], elements: Iterable[Element]) -> None:
        """Begin with these, whatever an earlier supervisor has left. Raises KernelRefusalError."""
        self._networks = {network.id: network for network in networks if network.driver == "bridge"}
        self._elements = Counter(elements)
        if self._networks:
            self.rebuild()
        elif nftables.has_table(self._socket, "inet", self.table):
            self.remove()

    def put_network(self, network: NetworkSpec) -> None:
        """Have a network's rules. Raises KernelRefusalError."""
        known = self._networks.get(network.id)
        self._networks[network.id] = network
        if not self._built or (known is not None and known.interface != network.interface):
            self.rebuild()
            return
        batch = self._batch()
        rules.add_network(batch, network)
        rules.add_elements(batch, rules.network_elements(network))
        self._commit(batch)

    def drop_network(self, identity: str) -> None:
        """Remove a network's rules; an unknown one is fine. Raises KernelRefusalError."""
        network = self._networks.pop(identity, None)
        if network is None or not self._built:
            return
        batch = self._batch()
        rules.delete_elements(batch, rules.network_elements(network))
        for chain in rules.chains_of(network):
            batch.flush_chain(chain)
            batch.delete_chain(chain)
        self._commit(batch)

    def change(self, added: Sequence[Element] = (), removed: Sequence[Element] = ()) -> None:
        """Add and remove elements, all or nothing. One that several have asked for stays until all have let go of it.

        Raises:
            KernelRefusalError: and nothing has changed.
        """
        if not added and not removed:
            return
        difference = Counter(added)
        difference.subtract(Counter(removed))
        new = [e for e, count in difference.items() if count > 0 and not self._elements[e]]
        gone = [e for e, count in difference.items() if count < 0 and self._elements[e] <= -count]
        self._count(difference, 1)
        try:
            if not self._built:
                if new:
                    self.rebuild()
                return
            batch = self._batch()
            rules.delete_elements(batch, gone)
            rules.add_elements(batch, new)
            gate_batches = self._gate.changes(new, gone) if self._gate is not None else []
            self._commit(batch, *gate_batches)
        except BaseException:
            self._count(difference, -1)
            raise

    def _count(self, difference: Counter[Element], sign: int) -> None:
        for element, count in difference.items():
            self._elements[element] += sign * count
            if self._elements[element] <= 0:
                del self._elements[element]

    def policy(self, policy: Policy, forward_drop: Sequence[str]) -> None:
        """Have this policy. ``forward_drop``: interfaces between which nothing is forwarded."""
        forward_drop = tuple(forward_drop)
        if (policy, forward_drop) == (self._policy, self._forward_drop) and self._built:
            return
        self._policy, self._forward_drop = policy, forward_drop
        if policy.respect_input and self._gate is None:
            self._gate = gate.Gate(self.table)
        elif not policy.respect_input and self._gate is not None:
            self._gate.remove(self._socket)
            self._gate = None
        if self._built or self._networks:
            self.rebuild()

    def relay_loopback(self, relayed: bool) -> None:
        """Leave what the host sends to ``::1`` to the relay, or translate it. Raises KernelRefusalError."""
        if relayed != self._loopback_relayed:
            self._loopback_relayed = relayed
            if self._built:
                self.rebuild()

    def rebuild(self) -> None:
        """Make the tables anew, in one transaction. Raises KernelRefusalError."""
        old = Batch("inet", self.table)
        old.add_table()
        old.delete_table()
        batch = rules.skeleton(
            self.table,
            gate=self._gate is not None,
            forward_drop=bool(self._forward_drop),
            relayed_loopback=self._loopback_relayed,
        )
        for network in self._networks.values():
            rules.add_network(batch, network)
            rules.add_elements(batch, rules.network_elements(network))
        rules.add_elements(batch, self._elements)
        rules.add_elements(batch, map(rules.guarded, dict.fromkeys(self._policy.guarded)))
        rules.add_elements(batch, [("before", rules.interface(name), b"") for name in self._forward_drop])
        batches = [old, batch]
        if self._gate is not None:
            batches += self._gate.tables([network.interface for network in self._networks.values()], list(self._elements))
            rules.add_elements(batch, [("inside", rules.interface(name), b"") for name in self._gate.inside])
        nftables.commit(self._socket, *batches)
        self._built = True

    def remove(self) -> None:
        """Remove the tables."""
        if self._gate is not None:
            self._gate.remove(self._socket)
        batch = self._batch()
        batch.add_table()
        batch.delete_table()
        nftables.commit(self._socket, batch)
        self._built = False

    def _batch(self) -> Batch:
        return Batch("inet", self.table)

    def _commit(self, *batches: Batch) -> None:
        try:
            nftables.commit(self._socket, *batches)
        except KernelRefusalError as error:
            # What isn't as it should be is made so: somebody may have flushed the table a moment ago.
            log.warning("the firewall is made anew: %s", error)
            self.rebuild()


class Monitor:
    """Says when somebody else has removed something of the tables."""

    def __init__(self, table: str) -> None:
        """Raises OSError."""
        self._table = table.encode() + b"\0"
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETFILTER)
        try:
            self.socket.bind((0, 0))
            self.socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _MONITOR_GROUP)
        except BaseException:
            self.socket.close()
            raise

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()

    def tampered(self, ours: Sequence[int]) -> bool:
        """Read what has come: whether something of ours was removed by another socket than ``ours``."""
        found = False
        while True:
            try:
                data = self.socket.recv(1 << 17)
            except BlockingIOError:
                return found
            except OSError:
                return True  # more than there was room for
            found = found or any(
                kind & 0xFF in _REMOVALS and port not in ours and self._about_us(body)
                for kind, _, _, port, body in messages(data)
            )

    def _about_us(self, body: memoryview) -> bool:
        return next((value == self._table for kind, value in attributes(body[struct.calcsize("BBH") :]) if kind == 1), False)


_REMOVALS = frozenset({nftables.DELTABLE, nftables.DELCHAIN, nftables.DELRULE, nftables.DELSET, nftables.DELSETELEM})
