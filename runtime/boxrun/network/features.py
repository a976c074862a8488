"""What this machine's kernel can do for networks."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from boxrun.network import namespaces, rtnetlink
from boxrun.network.contract import NetworkFeatures
from boxrun.network.errors import NetworkError
from boxrun.network.netlink import NetlinkSocket


def detect(why_no_bridge: str) -> NetworkFeatures:
    """Try it out, in a namespace that is thrown away; for a thread. ``why_no_bridge`` is what is known already."""
    refusals = {"ipvlan": "this kernel has no ipvlan driver"}
    if why_no_bridge:
        refusals["bridge"] = why_no_bridge
    home = namespaces.own()
    try:
        with namespaces.new(home) as scratch, NetlinkSocket() as route:
            for driver in ("bridge", "ipvlan", "macvlan"):
                parent = 1 if driver != "bridge" else 0
                try:
                    route.run([rtnetlink.add_kind(f"try-{driver}", driver, parent)])
                except NetworkError as error:
                    # The loopback interface is no parent; a kernel without the driver says something else.
                    if getattr(error, "errno", 0) == _NOT_SUPPORTED:
                        refusals[driver] = f"this kernel has no {driver} driver"
                else:
                    refusals.pop(driver, None)
        os.close(scratch)
    finally:
        os.close(home)
    return NetworkFeatures(refusals=refusals, ipv6=os.path.exists("/proc/sys/net/ipv6"), sctp=_sctp())


_NOT_SUPPORTED = 95


def _sctp() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132):
        return True
    return False
