"""Addresses: which of a subnet's are given out, and to whom the next one goes.

Kept in memory; on record they are with the containers that hold them, so that there is no second record to disagree with.
Source: moby libnetwork/ipams/defaultipam, whose order and messages these are.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address, ip_network

from boxshipd.errors import Forbidden, InvalidParameter, Unavailable
from boxshipd.networks.model import Network, Subnet

AnyAddress = IPv4Address | IPv6Address


class _Pool:
    """One subnet's addresses, as numbers."""

    __slots__ = ("_cursor", "_first", "_last", "network", "used")

    def __init__(self, subnet: Subnet) -> None:
        self.network = subnet.network
        whole_first, whole_last = int(self.network.network_address), int(self.network.broadcast_address)
        reserved = set()
        hosts = self.network.max_prefixlen - self.network.prefixlen
        if hosts > 1:
            # The network's own address (of IPv6 the routers' anycast), and of IPv4 the broadcast.
            reserved.add(whole_first)
            if self.network.version == 4:
                reserved.add(whole_last)
        self.used = reserved
        given = ip_network(subnet.range) if subnet.range else self.network
        self._first, self._last = int(given.network_address), int(given.broadcast_address)
        self._cursor = self._first

    def lowest(self) -> int | None:
        """The lowest free one of the range, taken; None where there is none."""
        number = self._cursor
        while number in self.used:
            number += 1
        if number > self._last:
            return None
        self.used.add(number)
        self._cursor = number + 1
        return number

    def take(self, number: int) -> bool:
        """Take one of the pool; whether it was free."""
        if number in self.used:
            return False
        self.used.add(number)
        return True

    def give_back(self, number: int) -> None:
        """Free one."""
        self.used.discard(number)
        if self._first <= number < self._cursor:
            self._cursor = number

    def shown(self, number: int) -> str:
        """An address with the pool's prefix length."""
        address: AnyAddress = IPv4Address(number) if self.network.version == 4 else IPv6Address(number)
        return f"{address}/{self.network.prefixlen}"


class Addresses:
    """The addresses of one network.

    Its gateways and auxiliary addresses are taken from the beginning.
    """

    def __init__(self, network: Network) -> None:
        self._name = network.name
        self._id = network.id
        self._pools = [_Pool(subnet) for subnet in network.subnets]
        for subnet, pool in zip(network.subnets, self._pools, strict=True):
            for reserved in (subnet.gateway, *subnet.aux.values()):
                if reserved:
                    pool.take(int(ip_address(reserved)))

    def allocate(self, version: int, wanted: str = "", hint: str = "") -> str:
        """Give out an address of a family (4 or 6), with its prefix length; empty where the network hasn't the family.

        Args:
            version: 4 or 6.
            wanted: this one and no other.
            hint: this one if it is free: what the container had the last time.

        Raises:
            Forbidden: ``wanted`` is in use.
            InvalidParameter: ``wanted`` is in none of the subnets.
            Unavailable: all are in use.
        """
        pools = [pool for pool in self._pools if pool.network.version == version]
        if wanted:
            return self._exactly(pools, wanted)
        if not pools:
            return ""
        if hint:
            number = int(ip_address(hint))
            for pool in pools:
                if ip_address(hint) in pool.network and pool.take(number):
                    return pool.shown(number)
        for pool in pools:
            lowest = pool.lowest()
            if lowest is not None:
                return pool.shown(lowest)
        raise Unavailable(f"no available IPv{version} addresses on this network's address pools: {self._name} ({self._id})")

    def hold(self, address: str) -> bool:
        """Take an address that somebody is known to have; whether it was free."""
        bare = ip_address(address.partition("/")[0])
        return any(bare in pool.network and pool.take(int(bare)) for pool in self._pools)

    def release(self, address: str) -> None:
        """Take an address back."""
        bare = ip_address(address.partition("/")[0])
        for pool in self._pools:
            if bare in pool.network:
                pool.give_back(int(bare))

    @staticmethod
    def _exactly(pools: Iterable[_Pool], wanted: str) -> str:
        address = ip_address(wanted)
        for pool in pools:
            if address in pool.network:
                if not pool.take(int(address)):
                    raise Forbidden("Address already in use")
                return pool.shown(int(address))
        raise InvalidParameter(f"invalid address {wanted}: It does not belong to any of this network's subnets")


def first_address(subnet: Subnet) -> str:
    """The lowest address that a subnet can give out: its gateway's, where nobody says which that is.

    Raises:
        InvalidParameter: there is none.
    """
    pool = _Pool(subnet)
    for reserved in subnet.aux.values():
        pool.take(int(ip_address(reserved)))
    number = pool.lowest()
    if number is None:
        raise InvalidParameter(f"failed to allocate gateway (): no available addresses on this pool {subnet.pool}")
    return pool.shown(number).partition("/")[0]


def parse_address(text: str, version: int) -> AnyAddress | None:
    """An address of a family; None where ``text`` is none."""
    try:
        return IPv4Address(text) if version == 4 else IPv6Address(text)
    except AddressValueError:
        return None
