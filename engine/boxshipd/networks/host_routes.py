"""What the host is connected to, so that no network of ours is made on top of it.

Source: moby libnetwork/netutils (InferReservedNetworks); proc(5), the kernel's net/ipv4/fib_trie.c and net/ipv6/route.c.
"""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from boxshipd.networks.model import AnyNetwork

_UP = 0x0001
_GATEWAY = 0x0002


def connected_networks(proc: str = "/proc/net") -> list[AnyNetwork]:
    """The networks that the host reaches without a gateway, and those of its routes that aren't the default one's."""
    return [*_of_ipv4(f"{proc}/route"), *_of_ipv6(f"{proc}/ipv6_route")]


def _of_ipv4(path: str) -> list[AnyNetwork]:
    found: list[AnyNetwork] = []
    for line in _lines(path)[1:]:
        words = line.split()
        if len(words) < 8 or not int(words[3], 16) & _UP:
            continue
        prefix = int(words[7], 16).bit_count()
        if prefix:
            # The kernel prints the network's order of bytes as if it were the processor's.
            address = IPv4Address(int(words[1], 16).to_bytes(4, sys.byteorder))
            found.append(IPv4Network((address, prefix), strict=False))
    return found


def _of_ipv6(path: str) -> list[AnyNetwork]:
    found: list[AnyNetwork] = []
    for line in _lines(path):
        words = line.split()
        if len(words) < 10 or words[9] == "lo" or int(words[8], 16) & _GATEWAY:
            continue
        network = IPv6Network((IPv6Address(bytes.fromhex(words[0])), int(words[1], 16)), strict=False)
        # Link-local and multicast addresses are on every interface.
        if 0 < network.prefixlen < 128 and not network.is_link_local and not network.is_multicast:
            found.append(network)
    return found


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().splitlines()
    except OSError:
        return []
