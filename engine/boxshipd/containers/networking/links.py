"""``--link``: other containers by names that only this one knows.

On the default bridge they are lines in /etc/hosts and variables, elsewhere answers of the container's own name server.
Source: moby daemon/links.go, container_operations_unix.go (addLegacyLinks, setupLinkedContainers), delete.go (rmLink).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from boxrun.network.contract import Protocol, Way
from boxship.types.host import HostConfig
from boxship.types.networks import EndpointSettings

from boxshipd.containers.model import Container
from boxshipd.containers.networking.link_names import parse_link, split_name
from boxshipd.containers.networking.link_variables import variables
from boxshipd.containers.registry import Registry
from boxshipd.errors import Conflict, InvalidParameter, NotFound
from boxshipd.networks import options
from boxshipd.networks.model import BRIDGE, Lease, Network
from boxshipd.networks.ports import parse_port
from boxshipd.networks.service import Networks

_PROTOCOLS: dict[str, Protocol] = {"tcp": "tcp", "udp": "udp", "sctp": "sctp"}


class Links:
    """Looks up what containers are linked to."""

    def __init__(self, registry: Registry, networks: Networks) -> None:
        self._registry = registry
        self._networks = networks

    def validate(self, host: HostConfig, endpoints: Iterable[EndpointSettings]) -> None:
        """Check a new container's links.

        Raises:
            InvalidParameter: one is malformed, or there is no such container.
        """
        for settings in endpoints:
            for text in settings.links or ():
                parse_link(text)
        if host.network_mode != BRIDGE:
            for text in host.links or ():
                parse_link(text)
            return
        for text in host.links or ():
            name, _ = parse_link(text)
            try:
                other = self._registry.find(name)
            except NotFound:
                raise InvalidParameter(f"could not get container for {name}: No such container: {name}") from None
            if other.config.host_config.network_mode == "host":
                raise InvalidParameter(
                    "conflicting options: host type networking can't be used with links. "
                    "This would result in undefined behavior"
                )

    def of_bridge(self, container: Container) -> list[tuple[str, Sequence[str]]]:
        """The links of a container on the default bridge: an address, and what it is called.

        Raises:
            Conflict: one of them doesn't run.
        """
        host = container.config.host_config
        bridge = self._networks.of_mode(BRIDGE)
        found: list[tuple[str, Sequence[str]]] = []
        if not host.links or bridge is None or not _on(container, bridge):
            return found
        for text in host.links:
            name, alias = parse_link(text)
            other = self._registry.find(name)
            if not other.state.running or other.state.restarting:
                raise Conflict(f"Cannot link to a non running container: /{other.name} AS /{container.name}/{alias}")
            lease = _on(other, bridge)
            found += [(address, names_of(other, alias)) for address in (lease.addresses if lease is not None else ())]
        return found

    def ways(self, container: Container) -> tuple[Way, ...]:
        """The ports that links open to a container on the default bridge, where that keeps containers apart (``icc``)."""
        host, bridge = container.config.host_config, self._networks.of_mode(BRIDGE)
        if not host.links or bridge is None or options.flag(bridge.options, options.ICC, True) or not _on(container, bridge):
            return ()
        found: list[Way] = []
        for text in host.links:
            other = self._registry.find(parse_link(text)[0])
            lease = _on(other, bridge)
            if lease is not None:
                address = lease.ipv4.partition("/")[0]
                ports = map(parse_port, other.config.config.exposed_ports or ())
                found += [Way(protocol=_PROTOCOLS[protocol], address=address, port=number) for number, protocol in ports]
        return tuple(found)

    def environment(self, container: Container) -> list[str]:
        """The variables that the links of a container on the default bridge set, but for those it sets itself."""
        host, config = container.config.host_config, container.config.config
        bridge = self._networks.of_mode(BRIDGE)
        if not host.links or bridge is None or not _on(container, bridge):
            return []
        found: list[str] = []
        for text in host.links:
            name, alias = parse_link(text)
            try:
                other = self._registry.find(name)
            except NotFound:
                continue
            lease, its = _on(other, bridge), other.config.config
            if lease is not None:
                ports = [parse_port(port) for port in its.exposed_ports or ()]
                address = lease.ipv4.partition("/")[0]
                found += variables(f"/{container.name}/{alias}", address, ports, its.env or ())
        own = {entry.partition("=")[0] for entry in config.env or ()}
        return [entry for entry in found if entry.partition("=")[0] not in own]

    def parse_name(self, ref: str) -> tuple[Container, str]:
        """A link by its name: the container that has it, and the alias.

        Raises:
            Conflict: it is a container's own name.
            NotFound: there is no such link.
        """
        parent, alias = split_name(ref)
        if not parent:
            raise Conflict("Conflict, cannot remove the default link name of the container")
        container = self._registry.find(parent)
        if not any(parse_link(text)[1] == alias for text in container.config.host_config.links or ()):
            raise NotFound(f"No such link: {ref}")
        return container, alias

    def lines(self, container: Container, alias: str) -> list[str]:
        """The lines of /etc/hosts that a link on the default bridge has made."""
        bridge = self._networks.of_mode(BRIDGE)
        name = next(name for name, other in map(parse_link, container.config.host_config.links or ()) if other == alias)
        try:
            other = self._registry.find(name)
        except NotFound:
            return []
        lease = _on(other, bridge) if bridge is not None else None
        names = " ".join(names_of(other, alias))
        return [f"{address}\t{names}\n" for address in (lease.addresses if lease is not None else ())]

    def of_endpoints(
        self, container: Container, settings: Sequence[tuple[Network, EndpointSettings]]
    ) -> dict[str, tuple[str, ...]]:
        """The links of a container on other networks: names with the addresses that are behind them now."""
        found: dict[str, list[str]] = {}
        for network, wish in settings:
            for text in wish.links or ():
                name, alias = parse_link(text)
                try:
                    lease = _on(self._registry.find(name), network)
                except (NotFound, InvalidParameter):
                    continue
                found.setdefault(alias, []).extend(lease.addresses if lease is not None else ())
        return {alias: tuple(addresses) for alias, addresses in found.items() if addresses}

    def followers(self, container: Container) -> Iterator[tuple[Container, str]]:
        """The running containers on the default bridge that are linked to this one, and their names for it."""
        for other in self._registry:
            host = other.config.host_config
            if not host.links or not other.state.running or other is container:
                continue
            for text in host.links:
                name, alias = parse_link(text)
                if name in {container.name, container.id} or (len(name) >= 12 and container.id.startswith(name)):
                    yield other, alias


def names_of(other: Container, alias: str) -> list[str]:
    """What a linked container is called in /etc/hosts."""
    names = [alias, other.config.config.hostname, other.name]
    return list(dict.fromkeys(name for name in names if name))


def _on(container: Container, network: Network) -> Lease | None:
    return next((lease for lease in container.state.leases if lease.network == network.id), None)
