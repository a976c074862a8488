"""What a daemon asks of the runtime about networks: the bus service ``Networks``, beside ``Runtime`` on the same socket.

The daemon decides (which networks there are, which addresses, ports and names somebody has); the runtime does it, and can say
what there is. What was plugged lives as long as its container, whoever else dies. Fields and methods are only ever added.

Addresses are text: ``10.0.0.2``, ``fd00::2``; with ``cidr`` in the description ``10.0.0.2/16``. Ids are 64 hex digits.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from boxrun.bus import Context, Service, unary

Driver = Literal["bridge", "macvlan", "ipvlan"]
GatewayMode = Literal["nat", "nat-unprotected", "routed", "isolated"]
Protocol = Literal["tcp", "udp", "sctp"]


class Nothing(Struct, frozen=True):
    """Nothing to say."""


class NetworkSpec(Struct, frozen=True, kw_only=True):
    """A network as it is to be on this host.

    Args:
        id: the network's id.
        name: for messages, for reverse lookups, and to choose between endpoints of equal gateway priority.
        driver: ``bridge``; ``macvlan`` and ``ipvlan`` need ``interface`` as their parent.
        interface: the bridge's name, or the parent's: an interface that exists, or ``eth0.10`` for a VLAN of one that does.
            Empty for a macvlan network without a parent, whose containers only reach each other.
        foreign: the bridge was there before, made by somebody else: it isn't removed with the network.
        mode: of macvlan (bridge, private, vepa, passthru) or ipvlan (l2, l3, l3s), empty for the first of these.
        flag: of ipvlan (bridge, private, vepa), empty for the first of these.
        mtu: 0 for the kernel's default.
        internal: nothing leaves it, and nobody but the host reaches it.
        icc: containers on it reach each other's unpublished ports.
        subnets: its subnets (cidr).
        addresses: of the host's end of a bridge (cidr); none where the host is to have none (``isolated``, ``inhibit_ipv4``).
        gateway_mode_v4: how the world gets in: ``nat``: published ports only, by the host's addresses; ``nat-unprotected``:
            also every port by the container's address; ``routed``: published ports by the container's address, nothing
            translated; ``isolated``: not at all (internal networks).
        gateway_mode_v6: the same for IPv6.
        masquerade_v4: connections that leave get the host's address (only where the mode is a nat mode).
        masquerade_v6: the same for IPv6.
        snat_v4: the address they get instead of the outgoing interface's; empty for that.
        snat_v6: the same for IPv6.
        trusted_interfaces: interfaces from which every port can be reached by the container's address.
        prefix: of the containers' interfaces' names, ``eth`` for eth0, eth1.
        pool: sandboxes to keep ready.
    """

    id: str
    name: str = ""
    driver: Driver = "bridge"
    interface: str = ""
    foreign: bool = False
    mode: str = ""
    flag: str = ""
    mtu: int = 0
    internal: bool = False
    icc: bool = True
    subnets: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    gateway_mode_v4: GatewayMode = "nat"
    gateway_mode_v6: GatewayMode = "nat"
    masquerade_v4: bool = True
    masquerade_v6: bool = True
    snat_v4: str = ""
    snat_v6: str = ""
    trusted_interfaces: tuple[str, ...] = ()
    prefix: str = "eth"
    pool: int = 0


class NetworkRef(Struct, frozen=True, kw_only=True):
    """A network by its id."""

    id: str


class Route(Struct, frozen=True, kw_only=True):
    """A route in a container: ``destination`` (cidr) by ``gateway``, or on the link where that is empty."""

    destination: str
    gateway: str = ""


class Endpoint(Struct, frozen=True, kw_only=True):
    """A container's end of a network.

    Args:
        id: the endpoint's id.
        network: the network's id.
        interface: its name in the container; empty: the prefix and the lowest free number.
        mac: empty: made of the network's id and the first address, so that an address keeps its MAC.
        addresses: in order, the first of a family being the one that ports lead to (cidr). Without an IPv6 address the
            interface has IPv6 disabled.
        gateway_v4: of the default route, should this endpoint be the one that has it.
        gateway_v6: the same for IPv6.
        gateway_priority: the highest has the default route; of equals, the one whose network's name sorts first.
        sysctls: ``net.ipv4.conf.IFNAME.log_martians`` and so on, IFNAME standing for the interface.
        routes: further routes.
    """

    id: str
    network: str
    interface: str = ""
    mac: str = ""
    addresses: tuple[str, ...] = ()
    gateway_v4: str = ""
    gateway_v6: str = ""
    gateway_priority: int = 0
    sysctls: dict[str, str] = {}
    routes: tuple[Route, ...] = ()


class Port(Struct, frozen=True, kw_only=True):
    """A published port.

    ``host_address`` is one of the host's, or ``0.0.0.0`` or ``::`` for all of its family; it leads to the endpoint's first
    address of that family, or where that has none to one of the other family: TCP and UDP are relayed then, and the container
    sees the host as their source. ``host_port`` 0: the kernel chooses. On an endpoint
    whose network is ``routed`` it opens the container's port and the host's part is ignored.
    """

    protocol: Protocol
    container_port: int
    endpoint: str
    host_address: str = "0.0.0.0"
    host_port: int = 0


class Way(Struct, frozen=True, kw_only=True):
    """A port of another container's by its IPv4 address, which is open to this one although theirs is a network without icc."""

    protocol: Protocol
    address: str
    port: int


class Resolver(Struct, frozen=True, kw_only=True):
    """How a container's names are resolved at 127.0.0.11.

    Args:
        embedded: there is a server at all.
        servers: where queries for other names go: addresses, ``[address]:port`` where the port isn't 53. They are asked from
            the host's namespace, all at once, and the first good answer counts.
        forward: other names are asked for at all (not so on internal networks).
        timeout: seconds that servers are given.
        links: names that only this container knows, with their addresses.
    """

    embedded: bool = True
    servers: tuple[str, ...] = ()
    forward: bool = True
    timeout: float = 3.0
    links: dict[str, tuple[str, ...]] = {}


class PlugRequest(Struct, frozen=True, kw_only=True):
    """Make a sandbox for ``container`` with these endpoints, replacing what it had. Without endpoints it has just ``lo``.

    ``ways`` end when the containers do to which they lead.
    """

    container: str
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[Port, ...] = ()
    ways: tuple[Way, ...] = ()
    resolver: Resolver | None = None


class Plugged(Struct, frozen=True, kw_only=True):
    """An endpoint as it came to be."""

    endpoint: str
    interface: str
    mac: str


class PlugReply(Struct, frozen=True, kw_only=True):
    """What was plugged, and the ports with those of the host that were chosen."""

    endpoints: tuple[Plugged, ...] = ()
    ports: tuple[Port, ...] = ()


class ConnectRequest(Struct, frozen=True, kw_only=True):
    """Plug a further endpoint into a container that has a sandbox.

    ``ports`` are added to those it has. ``resolver``: how its names are resolved from now on; None for as before.
    """

    container: str
    endpoint: Endpoint
    ports: tuple[Port, ...] = ()
    resolver: Resolver | None = None


class DisconnectRequest(Struct, frozen=True, kw_only=True):
    """Take an endpoint, and the ports that lead to it, from a container. Unknown ones are fine.

    ``resolver``: how its names are resolved from now on; None for as before.
    """

    container: str
    endpoint: str
    resolver: Resolver | None = None


class PublishRequest(Struct, frozen=True, kw_only=True):
    """Have exactly these ports lead to a container; those that stay are not interrupted."""

    container: str
    ports: tuple[Port, ...]


class SandboxRef(Struct, frozen=True, kw_only=True):
    """A sandbox by its container's id."""

    container: str


class Sandbox(Struct, frozen=True, kw_only=True):
    """A container's sandbox as it is."""

    container: str
    endpoints: tuple[Endpoint, ...] = ()
    plugged: tuple[Plugged, ...] = ()
    ports: tuple[Port, ...] = ()
    ways: tuple[Way, ...] = ()
    resolver: Resolver | None = None


class NetworkList(Struct, frozen=True, kw_only=True):
    """Everything there is."""

    networks: tuple[NetworkSpec, ...] = ()
    sandboxes: tuple[Sandbox, ...] = ()


class Record(Struct, frozen=True, kw_only=True):
    """What an endpoint is called on its network.

    ``name`` is the container's, which reverse lookups answer with the network's name behind it; ``names`` are all by which it
    is found (name, aliases, short id); ``addresses`` are its own. Several endpoints may share a name: answers take turns.
    """

    endpoint: str
    name: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]


class NamesChange(Struct, frozen=True, kw_only=True):
    """Names of a network have changed: ``records`` replace those of the same endpoints, ``gone`` are endpoints without any.

    ``whole``: there are no others.
    """

    network: str
    records: tuple[Record, ...] = ()
    gone: tuple[str, ...] = ()
    whole: bool = False


class Names(Struct, frozen=True, kw_only=True):
    """Several networks' changes at once."""

    changes: tuple[NamesChange, ...]


class Listener(Struct, frozen=True, kw_only=True):
    """A TCP address at which the engine's own API listens; ``0.0.0.0`` or ``::`` for all."""

    address: str
    port: int


class Policy(Struct, frozen=True, kw_only=True):
    """The host's policy.

    Args:
        guarded: listeners that no container on a network reaches.
        respect_input: connections from outside to published ports have to be accepted by the host's own input rules first, as
            if a program of the host listened there.
        forward_drop: where the host forwards only because a network needed it, nothing is forwarded between the interfaces
            that it had before.
        relay_loopback: published ports are relayed at ``::1``, and to neighbours without icc, where the firewall can't serve
            them there.
    """

    guarded: tuple[Listener, ...] = ()
    respect_input: bool = False
    forward_drop: bool = True
    relay_loopback: bool = True


class NetworkFeatures(Struct, frozen=True, kw_only=True):
    """What this machine can do. ``refusals`` say why a driver can't be had, by driver; others can."""

    refusals: dict[str, str] = {}
    ipv6: bool = True
    sctp: bool = True


class NetworkFailure(Struct, frozen=True, kw_only=True):
    """The detail of a failure.

    ``kind``: ``port`` (``port`` is taken by a socket of the host or another container), ``address`` (``port``'s host address
    isn't the host's), ``unsupported``, ``interface`` (a name is taken, a parent is missing), ``kernel`` (everything else).
    """

    kind: Literal["port", "address", "unsupported", "interface", "kernel"]
    message: str
    port: Port | None = None


class Networks(Service):
    """Networks on this host. Errors: NOT_FOUND for an unknown network or a container without a sandbox, ALREADY_EXISTS for an
    endpoint's id in use, FAILED_PRECONDITION with a NetworkFailure for what can't be done; nothing is left of it then."""

    @unary
    async def features(self, request: Nothing, context: Context) -> NetworkFeatures:
        """What this machine can do."""
        raise NotImplementedError

    @unary
    async def policy(self, request: Policy, context: Context) -> Nothing:
        """Have this policy from now on."""
        raise NotImplementedError

    @unary
    async def ensure(self, request: NetworkSpec, context: Context) -> Nothing:
        """Have a network be as it is described; doing it again changes nothing, or what has changed."""
        raise NotImplementedError

    @unary
    async def remove(self, request: NetworkRef, context: Context) -> Nothing:
        """Remove a network with all that is plugged into it. Unknown ones are fine."""
        raise NotImplementedError

    @unary
    async def plug(self, request: PlugRequest, context: Context) -> PlugReply:
        """Have a sandbox ready for a container's start. It goes with the container, or with ``unplug`` if that never starts."""
        raise NotImplementedError

    @unary
    async def connect(self, request: ConnectRequest, context: Context) -> PlugReply:
        """Plug a further endpoint in. The reply's ports are those of the request."""
        raise NotImplementedError

    @unary
    async def disconnect(self, request: DisconnectRequest, context: Context) -> Nothing:
        """Take an endpoint away."""
        raise NotImplementedError

    @unary
    async def publish(self, request: PublishRequest, context: Context) -> PlugReply:
        """Change a container's published ports, all or nothing."""
        raise NotImplementedError

    @unary
    async def unplug(self, request: SandboxRef, context: Context) -> Nothing:
        """Let go of a container's sandbox: ports are free and addresses unused when this is answered. Unknown is fine."""
        raise NotImplementedError

    @unary
    async def list(self, request: Nothing, context: Context) -> NetworkList:
        """Every network and every sandbox."""
        raise NotImplementedError

    @unary
    async def names(self, request: Names, context: Context) -> Nothing:
        """Names have changed."""
        raise NotImplementedError
