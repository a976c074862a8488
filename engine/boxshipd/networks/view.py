"""Networks as clients see them. Source: moby daemon/network.go (buildNetworkResource, buildContainerAttachments)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from boxship.types import networks as api
from msgspec import UNSET

from boxshipd.errors import InvalidParameter
from boxshipd.filters import Filters
from boxshipd.networks.model import Lease, Network, Subnet
from boxshipd.times import rfc3339

LIST_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
PRUNE_FILTERS = frozenset({"label", "label!", "until"})
SCOPE = "local"
"""The one scope there is."""

NameOf = Callable[[str], str]
"""A container's name by its id; empty where there is none."""


def describe(network: Network, members: Mapping[str, Lease] | None = None, name_of: NameOf | None = None) -> api.Network:
    """A network for the API.

    Args:
        network: which one.
        members: the leases of the containers on it, where they are to be shown.
        name_of: finds the containers' names.
    """
    return api.Network(
        name=network.name,
        id=network.id,
        created=rfc3339(network.created),
        scope=SCOPE,
        driver="null" if network.config_only else network.driver,
        enable_ipv4=network.ipv4,
        enable_ipv6=network.ipv6,
        ipam=api.IPAM(
            driver=network.ipam_driver,
            options=network.ipam_options,
            config=[_subnet(subnet) for subnet in network.subnets] or None,
        ),
        internal=network.internal,
        attachable=network.attachable,
        ingress=False,
        config_from=api.ConfigReference(network=network.config_from),
        config_only=network.config_only,
        containers={
            container: _endpoint(lease, name_of(container) if name_of else "") for container, lease in (members or {}).items()
        },
        options=network.options,
        labels=network.labels,
    )


def _subnet(subnet: Subnet) -> api.IPAMConfig:
    return api.IPAMConfig(
        subnet=subnet.pool,
        ip_range=subnet.range or UNSET,
        gateway=subnet.gateway or UNSET,
        aux_addresses=subnet.aux or UNSET,
    )


def _endpoint(lease: Lease, name: str) -> api.EndpointResource:
    return api.EndpointResource(
        name=name, endpoint_id=lease.endpoint, mac_address=lease.mac, ipv4_address=lease.ipv4, ipv6_address=lease.ipv6
    )


def chosen(network: Network, filters: Filters, *, used: bool) -> bool:
    """Whether the filters of a list select a network.

    Raises:
        InvalidParameter: a filter's value can't be.
    """
    kinds = filters.get("type")
    for kind in kinds:
        if kind not in {"builtin", "custom"}:
            raise InvalidParameter(f"invalid filter: 'type'='{kind}'")
    return (
        filters.exact("driver", "null" if network.config_only else network.driver)
        and filters.pattern("id", network.id)
        and filters.pattern("name", network.name)
        and filters.labels("label", network.labels)
        and filters.exact("scope", SCOPE)
        and filters.exact("type", "builtin" if network.predefined else "custom")
        and ("dangling" not in filters or filters.boolean("dangling", False) == (not network.predefined and not used))
    )
