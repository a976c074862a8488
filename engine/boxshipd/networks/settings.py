"""The part of the daemon's configuration that concerns networks: declared here once, read here by whoever needs it."""

from __future__ import annotations

from typing import TypeVar

from boxrun.network.contract import Listener, Policy
from msgspec import Struct
from msgspec.structs import replace

from boxshipd.networks.pools import DEFAULT_POOLS, AddressPool, local_pool

DEFAULT_BRIDGE = "boxship0"
"""The default bridge's interface; not docker0, so that both engines can be on one machine."""


class NetworkSettings(Struct, frozen=True, kw_only=True, rename="kebab"):
    """Settings of networks. The daemon's configuration (``boxshipd.config.Config``) is one of these.

    Args:
        bridge: the default bridge's interface; ``none`` for no default bridge.
        bip, bip6: the default bridge's addresses with their prefix lengths.
        fixed_cidr, fixed_cidr_v6: what the default bridge's containers get addresses of.
        default_gateway, default_gateway_v6: theirs, where it isn't the bridge.
        default_address_pools: where networks' subnets come from that ask for none.
        default_network_opts: options that networks get by their driver.
        host_gateway_ips: addresses that ``host-gateway`` means; empty for the default bridge's.
        icc: whether the default bridge's containers reach each other.
        ip: the address that the default bridge's ports are published at which ask for none; empty for all.
        ip_masq: whether packets of the default bridge's containers leave the host with its address.
        ipv6: whether the default bridge has it.
        mtu: of the default bridge; 0 for the kernel's own.
        ip_forward_no_drop: where the host forwards only for networks' sake, it does so for others too.
        firewall_respect_input: published ports obey the host's own input rules.
        userland_proxy: whether ports of the host are relayed that the firewall can't serve.
    """

    bridge: str = ""
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    default_gateway: str = ""
    default_gateway_v6: str = ""
    default_address_pools: tuple[AddressPool, ...] = DEFAULT_POOLS
    default_network_opts: dict[str, dict[str, str]] = {}
    host_gateway_ips: tuple[str, ...] = ()
    icc: bool = True
    ip: str = ""
    ip_masq: bool = True
    ipv6: bool = False
    mtu: int = 0
    ip_forward_no_drop: bool = False
    firewall_respect_input: bool = False
    userland_proxy: bool = True

    @property
    def bridge_interface(self) -> str:
        """The default bridge's interface."""
        return self.bridge or DEFAULT_BRIDGE

    def policy(self, guarded: tuple[Listener, ...]) -> Policy:
        """What of it the runtime does on the host; ``guarded`` are listeners that no container is to reach."""
        return Policy(
            guarded=guarded,
            respect_input=self.firewall_respect_input,
            forward_drop=not self.ip_forward_no_drop,
            relay_loopback=self.userland_proxy,
        )


S = TypeVar("S", bound=NetworkSettings)


def with_local_pool(settings: S, identity: str) -> S:
    """The same, where no pool is of IPv6 with one of the engine's own; ``identity`` is the engine's."""
    pools = settings.default_address_pools
    if any(":" in pool.base for pool in pools):
        return settings
    return replace(settings, default_address_pools=(*pools, local_pool(identity)))
