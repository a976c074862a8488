"""Containers on networks: what their creation may say, what a start leases and plugs, what an end gives back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from boxrun.network import contract
from boxship.types.containers import CreateRequest
from boxship.types.host import HostConfig
from boxship.types.networks import EndpointIPAMConfig, EndpointSettings, NetworkingConfig, PortBinding
from boxshipd.containers.networking import publishing
from boxshipd.containers.networking import view as network_view
from boxshipd.containers.networking.config import canonical_mode, plan
from boxshipd.containers.networking.restoration import Restoration
from boxshipd.errors import Conflict, DaemonError, Forbidden, InternalError, InvalidParameter, NotFound
from boxshipd.runtime.errors import NetworkFailed
from msgspec.structs import replace
from support.network_bench import ContainerBench, publish


@pytest.fixture
async def bench(tmp_path):
    # Without what depends on the machine: whether it has IPv6.
    async with ContainerBench(tmp_path, userland_proxy=False) as made:
        yield made


# Creation


async def test_modes(bench):
    network = await bench.network("web")
    assert [canonical_mode(mode, bench.networks) for mode in ("", "default", "bridge")] == ["bridge"] * 3
    assert canonical_mode("web", bench.networks) == "web"
    assert canonical_mode(network.id[:5], bench.networks) == network.id
    assert canonical_mode(bench.networks.find("host").id, bench.networks) == "host"
    with pytest.raises(InvalidParameter, match=r"^network nosuch not found$"):
        canonical_mode("nosuch", bench.networks)


@pytest.mark.parametrize(
    ("mode", "endpoints", "expected"),
    [
        ("default", None, "bridge"),
        ("none", None, "none"),
        ("web", None, "web"),
        ("web", {"back": None}, "web back"),
        ("web", {"back": None, "web": EndpointSettings(aliases=["a"])}, "web back"),
        ("default", {"back": None}, "back"),
        ("default", {"back": None, "default": None}, "bridge back"),
    ],
)
async def test_the_networks_of_a_container(bench, mode, endpoints, expected):
    await bench.network("web")
    await bench.network("back")
    container = await bench.create("c", mode, endpoints=endpoints)
    assert list(network_view.endpoints(container, bench.networks)) == expected.split()


@pytest.mark.parametrize(
    ("mode", "endpoints", "message"),
    [
        (
            "none",
            {"none": None, "web": None},
            "container cannot be connected to multiple networks with one of the networks in p",
        ),
        ("host", {"host": None, "web": None}, "container sharing network namespace with another container or host cannot be"),
        ("container:x", {"web": None}, "container sharing network namespace with another container or host cannot be"),
        ("web", {"nosuch": None}, "network nosuch not found"),
        (
            "default",
            {"bridge": EndpointSettings(aliases=["a"])},
            "network-scoped alias is supported only for containers in user",
        ),
        (
            "default",
            {"bridge": EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="10.9.0.9"))},
            "invalid config for network bridge: invalid endpoint settings:\n"
            "user specified IP address is supported on user defined networks only",
        ),
        (
            "web",
            {"web": EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="10.9.1.9"))},
            "user specified IP address is supported only when connecting to networks with user configured subnets",
        ),
        (
            "sub",
            {"sub": EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="10.1.0.9"))},
            "no configured subnet or ip-range contain the IP address 10.1.0.9",
        ),
        (
            "web",
            {"web": EndpointSettings(ipam_config=EndpointIPAMConfig(ipv6_address="10.1.0.9"))},
            "invalid IPv6 address: 10.1",
        ),
        ("web", {"web": EndpointSettings(mac_address="1:2")}, "invalid MAC address 1:2"),
        ("web", {"web": EndpointSettings(driver_opts={"x": "y"})}, "unknown endpoint option 'x'"),
        (
            "web",
            {"web": EndpointSettings(driver_opts={"com.docker.network.endpoint.sysctls": "net.ipv4.conf.eth0.a=1"})},
            "unrecognised network interface sysctl 'net.ipv4.conf.eth0.a=1'",
        ),
    ],
)
async def test_networks_that_a_container_cannot_have(bench, mode, endpoints, message):
    await bench.network("web")
    from boxship.types.networks import IPAM, IPAMConfig

    await bench.network("sub", ipam=IPAM(config=[IPAMConfig(subnet="10.2.0.0/24")]))
    with pytest.raises(InvalidParameter) as caught:
        await bench.create("c", mode, endpoints=endpoints)
    assert message in str(caught.value)


async def test_a_mac_address_of_old(bench):
    def planned(mac, endpoints=None):
        request = CreateRequest(mac_address=mac, networking_config=NetworkingConfig(endpoints))
        return plan(request, HostConfig(network_mode="bridge"), bench.networks)

    networking, warnings = planned("02-42-AC-11-00-09")
    assert networking.endpoints_config["bridge"].mac_address == "02:42:ac:11:00:09"
    assert "now deprecated" in warnings[0]
    with pytest.raises(InvalidParameter, match=r"^invalid MAC address x$"):
        planned("x")
    with pytest.raises(InvalidParameter, match="must match the endpoint-specific MAC address"):
        planned("02:42:ac:11:00:09", {"bridge": EndpointSettings(mac_address="02:42:ac:11:00:0a")})


# Starts and ends


async def test_a_start_on_the_default_bridge(bench):
    container = await bench.create("c", exposed=("443/tcp",), port_bindings=publish("8080:80/tcp"))
    request = await bench.start(container)
    (end,) = request.endpoints
    assert (end.interface, end.addresses, end.gateway_v4) == ("eth0", ("10.9.0.2/24",), "10.9.0.1")
    (port,) = request.ports
    assert (port.host_address, port.host_port, port.container_port, port.endpoint) == ("0.0.0.0", 8080, 80, end.id)
    assert request.resolver is None
    assert bench.hosts(container) == [f"10.9.0.2\t{container.id[:12]}"]
    assert (Path(container.directory) / "resolv.conf").read_text().startswith("nameserver 192.0.2.53\n")
    shown = network_view.settings(container, bench.networks)
    assert shown.ports == {"80/tcp": [PortBinding("0.0.0.0", "8080")], "443/tcp": None}
    assert (shown.ip_address, shown.ip_prefix_len, shown.gateway) == ("10.9.0.2", 24, "10.9.0.1")
    assert shown.networks["bridge"].mac_address == shown.mac_address == "02:42:00:00:00:00"
    assert [(port.private_port, port.public_port) for port in network_view.ports(container)[:1]] == [(80, 8080)]
    assert bench.kernel.of("names") == []
    assert bench.heard._queue[-1].actor.attributes == {"container": container.id, "name": "bridge", "type": "bridge"}


@pytest.mark.parametrize("mode", ["none", "host"])
async def test_a_start_without_networks_asks_for_nothing(bench, mode):
    container = await bench.create("c", mode)
    assert await bench.start(container) is None
    assert bench.kernel.asked == []
    assert list(network_view.settings(container, bench.networks).networks) == [mode]


async def test_without_a_default_bridge_there_is_loopback(tmp_path):
    async with ContainerBench(tmp_path, bridge="none") as bench:
        container = await bench.create("c")
        assert await bench.start(container) is None


async def test_a_default_bridge_that_cannot_be_is_told_of(tmp_path):
    async with ContainerBench(tmp_path, bip="10.8.1.1/24", fixed_cidr="10.7.0.0/24") as bench:
        assert await bench.start(await bench.create("a", "none")) is None
        with pytest.raises(InternalError, match="the default bridge can't be as it is configured: fixed-cidr"):
            await bench.start(await bench.create("b"))


async def test_a_start_on_a_network_of_names(bench):
    await bench.network("web")
    wish = EndpointSettings(aliases=["db"], driver_opts={"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.a=1"})
    container = await bench.create("c", "web", endpoints={"web": wish}, hostname="h")
    request = await bench.start(container)
    assert request.endpoints[0].sysctls == {"net.ipv4.conf.IFNAME.a": "1"}
    assert request.resolver == contract.Resolver(servers=("192.0.2.53",))
    (change,) = bench.kernel.of("names")[0]
    (record,) = change.records
    assert record.names == ("c", "db", container.id[:12], "h")
    assert record.addresses == ("10.9.1.2",)
    text = (Path(container.directory) / "resolv.conf").read_text()
    assert text.startswith("nameserver 127.0.0.11\n")
    assert "ndots:0" in text
    assert network_view.endpoints(container, bench.networks)["web"].dns_names == ["c", "db", container.id[:12], "h"]
    await bench.stop(container)
    assert bench.kernel.of("names")[1][0].gone == (record.endpoint,)
    assert bench.kernel.of("unplug") == [container.id]


async def test_an_end_gives_back_what_a_start_took(bench):
    first = await bench.create("a", port_bindings=publish("8080:80/tcp"))
    second = await bench.create("b", port_bindings=publish("8080:80/tcp"))
    await bench.start(first)
    with pytest.raises(InternalError) as caught:
        await bench.start(second)
    assert str(caught.value).startswith(
        "failed to set up container networking: driver failed programming external connectivity on endpoint b ("
    )
    assert str(caught.value).endswith("): Bind for 0.0.0.0:8080 failed: port is already allocated")
    await bench.networking.unplugged(second)
    await bench.stop(first)
    assert (first.state.leases, first.state.published) == ((), ())
    assert network_view.ports(first) == []
    request = await bench.start(second)
    assert request.ports[0].host_port == 8080
    assert bench.networks.inspect("bridge").containers.keys() == {second.id}
    assert [event.action for event in bench.heard._queue] == ["connect", "disconnect", "connect"]


async def test_what_has_just_ended_is_waited_for(bench):
    first = await bench.create("a", port_bindings=publish("8080:80/tcp"))
    second = await bench.create("b", port_bindings=publish("8080:80/tcp"))
    await bench.start(first)
    slow, unplug = asyncio.Event(), bench.kernel.unplug

    async def slowly(container: str) -> None:
        await slow.wait()
        await unplug(container)

    bench.kernel.unplug = slowly
    first.state.running = False
    bench.networking.left(first)
    starting = asyncio.create_task(bench.start(second))
    while not bench.kernel.of("need")[1:]:  # noqa: ASYNC110 - it is the loop itself that is to turn
        await asyncio.sleep(0)
    assert not starting.done()
    slow.set()
    assert (await starting).ports[0].host_port == 8080


async def test_a_restart_keeps_addresses_and_ports(bench):
    container = await bench.create("a", exposed=("80/tcp",), publish_all_ports=True)
    before = await bench.start(container)
    container.state.restarting = True
    bench.networking.left(container)
    assert bench.kernel.of("unplug") == []
    after = await bench.networking.plug(container)
    assert after.ports == before.ports
    assert [replace(end, mac="") for end in after.endpoints] == list(before.endpoints)


async def test_a_container_gets_its_address_again(bench):
    one, two = await bench.create("a"), await bench.create("b")
    await bench.start(one)
    await bench.start(two)
    await bench.stop(one)
    await bench.stop(two)
    assert (await bench.start(two)).endpoints[0].addresses == ("10.9.0.3/24",)


async def test_leases_survive(tmp_path):
    async with ContainerBench(tmp_path) as bench:
        container = await bench.create("a", port_bindings=publish("8080:80/tcp"))
        await bench.start(container)
        await bench.registry.save(container)
        held = container.state.leases
    async with ContainerBench(tmp_path) as bench:
        bench.number = 1
        container = bench.registry.find("a")
        assert container.state.leases == held
        restoration = Restoration(
            registry=bench.registry,
            networks=bench.networks,
            kernel=bench.kernel,
            networking=bench.networking,
            scheduler=bench.scheduler,
            policy=contract.Policy(),
            transient=lambda _: False,
        )
        restoration.take_up()
        other = await bench.create("b", port_bindings=publish("8080:80/tcp"))
        with pytest.raises(InternalError, match="port is already allocated"):
            await bench.start(other)
        assert (await bench.start(await bench.create("c"))).endpoints[0].addresses == ("10.9.0.3/24",)


async def test_a_random_port_of_a_program_is_given_up_for_another(bench):
    container = await bench.create("a", exposed=("80/tcp",), publish_all_ports=True)
    request = await bench.networking.plug(container)
    failure = NetworkFailed(contract.NetworkFailure(kind="port", message="taken", port=request.ports[0]))
    assert bench.networking.other_ports(container, failure)
    again = await bench.networking.plug(container)
    assert again.ports[0].host_port != request.ports[0].host_port
    assert again.endpoints == request.endpoints


async def test_a_fixed_port_of_a_program_is_dockers_error(bench):
    container = await bench.create("a", port_bindings=publish("8080:80/tcp"))
    request = await bench.networking.plug(container)
    failure = NetworkFailed(contract.NetworkFailure(kind="port", message="taken", port=request.ports[0]))
    assert not bench.networking.other_ports(container, failure)
    assert str(bench.networking.refusal(container, failure)).endswith(
        "failed to bind host port 0.0.0.0:8080:10.9.0.2:80/tcp: address already in use"
    )


async def test_ports_lead_to_the_endpoint_with_the_default_route(bench):
    await bench.network("web", enable_ipv6=True)
    await bench.network("inner", internal=True)
    wishes = {"web": EndpointSettings(gw_priority=1), "bridge": None, "inner": EndpointSettings(gw_priority=9)}
    container = await bench.create("c", "web", endpoints=wishes, port_bindings=publish("8080:80/tcp"))
    request = await bench.start(container)
    web = next(end for end in request.endpoints if end.gateway_priority == 1)
    assert [(port.host_address, port.endpoint) for port in request.ports] == [("0.0.0.0", web.id), ("::", web.id)]


@pytest.mark.parametrize(
    ("proxy", "host6", "port", "ip", "expected"),
    [
        (True, True, "8080:80/tcp", "", ["0.0.0.0", "::"]),
        (True, True, "8080:80/sctp", "", ["0.0.0.0"]),
        (True, False, "8080:80/tcp", "", ["0.0.0.0"]),
        (False, True, "8080:80/tcp", "", ["0.0.0.0"]),
        (True, True, "8080:80/udp", "::1", ["::1"]),
        (True, True, "8080:80/sctp", "::1", "port 80/sctp can't be published at ::1: the container has no IPv6 address"),
        (False, True, "8080:80/udp", "::1", "port 80/udp can't be published at ::1: the container has no IPv6 address"),
    ],
)
async def test_an_ipv6_address_of_the_host_leads_to_ipv4(tmp_path, monkeypatch, proxy, host6, port, ip, expected):
    monkeypatch.setattr(publishing, "host_has_ipv6", lambda: host6)
    async with ContainerBench(tmp_path, userland_proxy=proxy) as bench:
        container = await bench.create("c", port_bindings=publish(port, ip=ip))
        if isinstance(expected, str):
            with pytest.raises(DaemonError, match=expected):
                await bench.start(container)
            return
        request = await bench.start(container)
        (end,) = request.endpoints
        assert [(port.host_address, port.endpoint) for port in request.ports] == [(address, end.id) for address in expected]
        await bench.stop(container)
        assert container.state.published == ()


async def test_an_internal_network_publishes_nothing(bench):
    await bench.network("inner", internal=True)
    container = await bench.create("c", "inner", port_bindings=publish("8080:80/tcp"))
    request = await bench.start(container)
    assert request.ports == ()
    assert request.resolver.forward is False


async def test_a_network_that_has_gone(bench):
    await bench.network("web")
    container = await bench.create("c", "web")
    await bench.networks.remove("web")
    with pytest.raises(NotFound, match=r"^network web not found$"):
        await bench.start(container)


async def test_host_gateway(tmp_path):
    entries = ["gw:host-gateway", "other:192.0.2.1", "six=[fd00::1]"]
    async with ContainerBench(tmp_path) as bench:
        container = await bench.create("c", extra_hosts=entries)
        await bench.start(container)
        assert bench.hosts(container)[:3] == ["10.9.0.1\tgw", "192.0.2.1\tother", "fd00::1\tsix"]
    async with ContainerBench(tmp_path, host_gateway_ips=("192.0.2.7",)) as bench:
        bench.number = 1
        container = await bench.create("d", extra_hosts=entries)
        await bench.start(container)
        assert bench.hosts(container)[0] == "192.0.2.7\tgw"


# Links


async def test_links_on_the_default_bridge(bench):
    db = await bench.create("db", hostname="dbhost")
    web = await bench.create("web", links=["db:database"])
    with pytest.raises(Conflict, match=r"^Cannot link to a non running container: /db AS /web/database$"):
        await bench.start(web)
    await bench.networking.settle()
    await bench.start(db)
    await bench.start(web)
    assert db.state.leases[0].addresses == ("10.9.0.2",)
    assert "10.9.0.2\tdatabase dbhost db" in bench.hosts(web)
    await bench.stop(db)
    other = await bench.create("other")
    await bench.start(other)
    bench.networks.leases.free([other.state.leases[0]], ())
    await bench.start(db)
    assert [line for line in bench.hosts(web) if "database" in line] == [
        f"{db.state.leases[0].addresses[0]}\tdatabase dbhost db"
    ]
    with pytest.raises(InvalidParameter, match="could not get container for nosuch"):
        await bench.create("x", links=["nosuch"])


async def test_links_elsewhere_are_answered_by_the_name_server(bench):
    await bench.network("web")
    await bench.start(await bench.create("db", "web"))
    container = await bench.create("c", "web", endpoints={"web": EndpointSettings(links=["db:database"])})
    assert (await bench.start(container)).resolver.links == {"database": ("10.9.1.2",)}


# Joining and leaving


async def test_joining_and_leaving_while_it_runs(bench):
    web = await bench.network("web")
    container = await bench.create("c", port_bindings=publish("8080:80/tcp"))
    await bench.start(container)
    await bench.attachment.connect("c", "web", EndpointSettings(aliases=["a"]))
    (request,) = bench.kernel.of("connect")
    assert (request.endpoint.interface, request.endpoint.addresses) == ("eth1", ("10.9.1.2/24",))
    assert bench.networks.inspect("web").containers[container.id].ipv4_address == "10.9.1.2/24"
    assert f"10.9.1.2\t{container.id[:12]}" in bench.hosts(container)
    with pytest.raises(Forbidden, match=r"^endpoint with name c already exists in network web$"):
        await bench.attachment.connect("c", "web", None)
    assert bench.registry.find("c").config.networking.endpoints_config["web"].aliases == ["a"]
    await bench.attachment.disconnect("c", "web", force=False)
    assert bench.kernel.of("disconnect") == [request.endpoint.id]
    assert list(network_view.endpoints(container, bench.networks)) == ["bridge"]
    assert bench.hosts(container) == [f"10.9.0.2\t{container.id[:12]}"]
    assert bench.networks.inspect("web").containers == {}
    with pytest.raises(DaemonError, match=f"container {container.id} is not connected to the network web"):
        await bench.attachment.disconnect("c", "web", force=False)
    actions = [(event.action, event.actor.id == web.id) for event in bench.heard._queue if event.type == "network"]
    assert actions[-2:] == [("connect", True), ("disconnect", True)]


async def test_ports_move_with_the_default_route(bench):
    await bench.network("a")
    container = await bench.create("c", port_bindings=publish("8080:80/tcp"))
    before = await bench.start(container)
    await bench.attachment.disconnect("c", "bridge", force=False)
    assert container.state.published == ()
    await bench.attachment.connect("c", "a", None)
    (port,) = bench.kernel.of("publish")[-1]
    assert port.host_port == 8080
    assert port.endpoint == container.state.leases[0].endpoint != before.ports[0].endpoint


async def test_joining_while_it_does_not_run_is_for_its_start(bench):
    await bench.network("web")
    container = await bench.create("c")
    await bench.attachment.connect("c", "web", None)
    await bench.attachment.connect("c", "web", None)
    await bench.attachment.disconnect("c", "bridge", force=False)
    assert bench.kernel.of("connect") == []
    assert [end.addresses for end in (await bench.start(container)).endpoints] == [("10.9.1.2/24",)]


@pytest.mark.parametrize(
    ("mode", "network", "message"),
    [
        ("host", "web", "container sharing network namespace with another container or host cannot be connected to any other"),
        ("none", "web", "container cannot be connected to multiple networks with one of the networks in private (none) mode"),
        ("default", "host", "cannot connect container to host network - container must be created in host network mode"),
    ],
)
async def test_networks_that_a_container_cannot_join(bench, mode, network, message):
    await bench.network("web")
    await bench.create("c", mode)
    with pytest.raises(InvalidParameter) as caught:
        await bench.attachment.connect("c", network, None)
    assert message in str(caught.value)


async def test_what_cannot_be_plugged_is_not_kept(bench):
    await bench.network("web")
    container = await bench.create("c")
    await bench.start(container)

    async def fail(_: object):
        raise NetworkFailed(contract.NetworkFailure(kind="kernel", message="no"))

    bench.kernel.connect = fail
    with pytest.raises(InternalError, match=r"^failed to set up container networking: no$"):
        await bench.attachment.connect("c", "web", None)
    assert bench.networks.inspect("web").containers == {}
    assert len(container.state.leases) == 1
    await bench.networks.remove("web")


async def test_a_renamed_container_is_found_by_its_new_name(bench):
    await bench.network("web")
    container = await bench.create("c", "web")
    await bench.start(container)
    container.name = "d"
    await bench.networking.renamed(container)
    assert bench.kernel.of("names")[-1][0].records[0].names[0] == "d"
