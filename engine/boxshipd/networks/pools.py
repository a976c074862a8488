"""Subnets: those that networks get which ask for none, out of the daemon's pools.

Source: moby libnetwork/ipams/defaultipam and ipamutils: the pools, their order and the messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import IPv6Network, ip_network

from msgspec import Struct

from boxshipd.errors import Forbidden, InvalidParameter
from boxshipd.networks.model import AnyNetwork


class AddressPool(Struct, frozen=True):
    """A range out of which subnets of a size (a prefix length) are given."""

    base: str
    size: int


DEFAULT_POOLS: tuple[AddressPool, ...] = (
    AddressPool("172.17.0.0/16", 16),
    AddressPool("172.18.0.0/16", 16),
    AddressPool("172.19.0.0/16", 16),
    AddressPool("172.20.0.0/14", 16),
    AddressPool("172.24.0.0/14", 16),
    AddressPool("172.28.0.0/14", 16),
    AddressPool("192.168.0.0/16", 20),
)
"""Docker's."""


def local_pool(identity: str) -> AddressPool:
    """The pool of IPv6 subnets of a daemon that is configured with none: a /48 of its own (RFC 4193).

    Args:
        identity: the daemon's, from which the same pool follows each time.
    """
    number = hashlib.sha256(identity.encode()).digest()[:5]
    base = IPv6Network((bytes([0xFD, *number]) + bytes(10), 48))
    return AddressPool(str(base), 64)


def validate_pools(pools: Iterable[AddressPool]) -> None:
    """Check configured pools.

    Raises:
        InvalidParameter: one can't be, or two overlap.
    """
    seen: list[AnyNetwork] = []
    for pool in pools:
        try:
            base = ip_network(pool.base)
        except ValueError:
            raise InvalidParameter(f"invalid base pool {pool.base!r}: invalid CIDR block notation") from None
        if not base.prefixlen <= pool.size <= base.max_prefixlen:
            raise InvalidParameter(
                f"the size of pool {pool.base} is {pool.size}: it must lie between its prefix length and {base.max_prefixlen}"
            )
        if clash := next((other for other in seen if _overlap(base, other)), None):
            raise InvalidParameter(f"default address pools {clash} and {base} overlap")
        seen.append(base)


def free_subnet(pools: Iterable[AddressPool], version: int, taken: Iterable[AnyNetwork]) -> AnyNetwork:
    """The first subnet of the pools that overlaps with nothing that is taken.

    Args:
        pools: in the order in which they are used up.
        version: 4 or 6.
        taken: other networks' subnets, and what the host is connected to.

    Raises:
        InvalidParameter: all are taken.
    """
    occupied = sorted((int(n.network_address), int(n.broadcast_address)) for n in taken if n.version == version)
    for pool in pools:
        base = ip_network(pool.base)
        if base.version != version:
            continue
        step = 1 << (base.max_prefixlen - pool.size)
        start, end = int(base.network_address), int(base.broadcast_address)
        for first, last in occupied:
            if start + step - 1 < first:
                break
            if last >= start:
                # On to the first subnet behind this one.
                start = max(start, (last // step + 1) * step)
        if start + step - 1 <= end:
            return ip_network((start, pool.size)) if version == 4 else IPv6Network((start, pool.size))
    raise InvalidParameter("all predefined address pools have been fully subnetted")


def check_overlap(wanted: AnyNetwork, taken: Iterable[AnyNetwork]) -> None:
    """Refuse a subnet that another network's overlaps.

    Raises:
        Forbidden: with Docker's message.
    """
    if any(_overlap(wanted, other) for other in taken):
        raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")


def _overlap(one: AnyNetwork, other: AnyNetwork) -> bool:
    return (
        one.version == other.version
        and int(one.network_address) <= int(other.broadcast_address)
        and int(other.network_address) <= int(one.broadcast_address)
    )
