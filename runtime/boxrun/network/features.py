"""What this machine's kernel can do for networks."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from errno import EOPNOTSUPP

from boxrun.network import namespaces, rtnetlink
from boxrun.network.contract import Driver, NetworkFeatures
from boxrun.network.errors import KernelRefusalError
from boxrun.network.netlink import NetlinkSocket


def detect(why_no_bridge: str) -> NetworkFeatures:
    """Try it out, in a namespace that is thrown away; for a thread. ``why_no_bridge`` is what is known already."""
    refusals = {driver: why for driver in ("bridge", "ipvlan", "macvlan") if (why := why_not(driver))}
    if why_no_bridge:
        refusals["bridge"] = why_no_bridge
    return NetworkFeatures(refusals=refusals, ipv6=os.path.exists("/proc/sys/net/ipv6"), sctp=_sctp())


def why_not(driver: Driver) -> str:
    """Why this kernel can't have such interfaces; empty where it can. For a thread."""
    home = namespaces.own()
    try:
        with namespaces.new(home) as scratch:
            found = _there(driver)
        os.close(scratch)
    finally:
        os.close(home)
    return "" if found else f"this kernel has no {driver} driver"


def _there(driver: Driver) -> bool:
    with NetlinkSocket() as route:
        try:
            route.run([rtnetlink.add_kind("try", driver, 0 if driver == "bridge" else _LOOPBACK)])
        except KernelRefusalError as error:
            # The loopback interface is no parent; a kernel without the driver says something else.
            return error.errno != EOPNOTSUPP
    return True


_LOOPBACK = 1


def _sctp() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132):
        return True
    return False
