"""The part of the daemon's configuration that concerns networks."""

from __future__ import annotations

from msgspec import Struct

from boxshipd.networks.pools import DEFAULT_POOLS, AddressPool

DEFAULT_BRIDGE = "boxship0"
"""The default bridge's interface; not docker0, so that both engines can be on one machine."""


class NetworkDefaults(Struct, frozen=True, kw_only=True):
    """Settings of networks; see ``boxshipd.config`` for what each means.

    Args:
        identity: the engine's, from which its IPv6 addresses follow.
        bridge: the default bridge's interface; ``none`` for no default bridge.
        bip, bip6: the default bridge's addresses with their prefix lengths.
        fixed_cidr, fixed_cidr_v6: what the default bridge's containers get addresses of.
        default_gateway, default_gateway_v6: theirs, where it isn't the bridge.
        pools: where networks' subnets come from that ask for none.
        host_binding: the address ports are published at that ask for none; empty for all.
        icc: whether the default bridge's containers reach each other.
        masquerade: whether containers' packets leave the host with its address.
        ipv6: whether the default bridge has it.
        mtu: of the default bridge; 0 for the kernel's own.
        default_options: options that networks get by their driver.
        host_gateway: addresses that ``host-gateway`` means; empty for the default bridge's.
        userland_proxy: whether ports of the host are relayed that lead to an address of the other IP version.
    """

    identity: str = ""
    bridge: str = ""
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    default_gateway: str = ""
    default_gateway_v6: str = ""
    pools: tuple[AddressPool, ...] = DEFAULT_POOLS
    host_binding: str = ""
    icc: bool = True
    masquerade: bool = True
    ipv6: bool = False
    mtu: int = 0
    default_options: dict[str, dict[str, str]] = {}
    host_gateway: tuple[str, ...] = ()
    userland_proxy: bool = True

    @property
    def interface(self) -> str:
        """The default bridge's interface."""
        return self.bridge or DEFAULT_BRIDGE
