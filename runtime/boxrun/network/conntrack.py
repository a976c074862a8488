"""Forgetting connections of an address that nobody has any more, so that the next to have it gets none of them.

Source: linux/netfilter/nfnetlink_conntrack.h; deleting by a filter is Linux 5.8.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable
from errno import ENOENT
from typing import Final

from boxrun.network.errors import KernelRefusalError
from boxrun.network.firewall_rules import Address
from boxrun.network.netlink import NETFILTER, NetlinkSocket, Request, nested, u32
from boxrun.network.netlink import attribute as _attribute
from boxrun.network.nftables import be32

log = logging.getLogger(__name__)

_DELETE: Final = 1 << 8 | 2
_ORIGINAL, _REPLY, _FILTER = 1, 2, 25
_BY_SOURCE: Final = 1
_STATUS, _STATUS_MASK, _SEEN_REPLY = 3, 26, 2


def forget(addresses: Iterable[Address]) -> None:
    """Delete what goes to or comes from ``addresses``, in the calling thread's namespace. Failing is no more than logged."""
    wanted = list(addresses)
    if not wanted:
        return
    try:
        with NetlinkSocket(NETFILTER) as sock:
            for address in wanted:
                sock.run([_request(address, tuple_) for tuple_ in (_ORIGINAL, _REPLY)])
    except (KernelRefusalError, OSError) as error:
        log.warning("%s", error)


def forget_unanswered() -> None:
    """Delete connections that nobody has answered yet: their next packet finds the rules as they are now."""
    body = struct.pack("!BBH", 0, 0, 0) + be32(_STATUS, 0) + be32(_STATUS_MASK, _SEEN_REPLY)
    try:
        with NetlinkSocket(NETFILTER) as sock:
            sock.run([Request(_DELETE, 0, body, "forget unanswered connections", frozenset({ENOENT}))])
    except (KernelRefusalError, OSError) as error:
        log.warning("%s", error)


def _request(address: Address, which: int) -> Request:
    family, source = (2, 1) if address.version == 4 else (10, 3)
    flags = nested(_FILTER, u32(1, _BY_SOURCE if which == _ORIGINAL else 0), u32(2, _BY_SOURCE if which == _REPLY else 0))
    body = struct.pack("!BBH", family, 0, 0) + nested(which, nested(1, _attribute(source, address.packed))) + flags
    return Request(_DELETE, 0, body, f"forget connections of {address}", frozenset({ENOENT}))
