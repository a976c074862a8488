"""Ways between containers that their network keeps apart (without icc): what ``--link`` opens there.

Their bridge's ports are isolated, so a packet has to go by way of the host, there and back, where the firewall knows the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from boxrun.network.boxes import Box, Cable
from boxrun.network.contract import Way
from boxrun.network.errors import NetworkError
from boxrun.network.firewall_rules import Address
from boxrun.network.sandboxes import Plumber


def lay(box: Box, boxes: Iterable[Box], plumber: Plumber) -> None:
    """Have packets take a sandbox's ways, and find back.

    Raises:
        NetworkError: nobody is where one leads, or the host can't pass packets on.
        OSError: a setting was refused.
    """
    others = list(boxes)
    for way, cable in box.along():
        source, target = cable.first(4), ip_address(way.address)
        other = _at(target, cable.network.id, others)
        if other is None or source is None:
            raise NetworkError(f"container {box.container}: nobody has the address {way.address}")
        plumber.detour(box, cable, target)
        plumber.detour(*other, source)


def left(box: Box, gone: Box) -> tuple[Way, ...]:
    """The ways that a sandbox keeps when another is gone: its address may be anybody's next."""
    addresses = {str(address.ip) for cable in gone.cables.values() for address in cable.addresses}
    return tuple(way for way in box.ways if way.address not in addresses)


def _at(address: Address, network: str, boxes: Iterable[Box]) -> tuple[Box, Cable] | None:
    for box in boxes:
        for cable in box.cables.values():
            if cable.endpoint.network == network and cable.first(4) == address:
                return box, cable
    return None
