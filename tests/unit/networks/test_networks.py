"""The network service: Docker's rules and words, and nothing kept of what failed."""

from __future__ import annotations

import asyncio

import pytest
from boxrun.bus import BusError, Code
from boxrun.network.contract import NetworkFailure
from boxship.types import networks as api
from boxshipd.errors import Conflict, DaemonError, Forbidden, InternalError, InvalidParameter, NotFound, NotImplementedHere
from boxshipd.filters import Filters
from boxshipd.networks.kernel import describe, refusal
from boxshipd.networks.leases import Wish
from boxshipd.networks.model import Network
from boxshipd.runtime.errors import NetworkFailed, translated
from support.network_bench import NetworkBench

Config = api.IPAMConfig
NULL = api.IPAM(driver="null")


def request(name: str = "n", *configs: api.IPAMConfig, **fields) -> api.NetworkCreateRequest:
    ipam = api.IPAM(config=list(configs)) if configs else None
    return api.NetworkCreateRequest(**{"name": name, "ipam": ipam, **fields})


@pytest.fixture
async def bench(tmp_path):
    async with NetworkBench(tmp_path) as made:
        yield made


async def made(bench: NetworkBench, *args, **fields) -> Network:
    answer = await bench.networks.create(request(*args, **fields))
    return bench.networks.find(answer.id)


async def test_the_predefined_networks_are_there_and_stay_the_same(tmp_path):
    async with NetworkBench(tmp_path) as bench:
        before = {network.name: network.id for network in bench.networks.all}
        bridge = bench.networks.find("bridge")
        assert bridge.options["com.docker.network.bridge.name"] == "bxu0"
        assert [subnet.pool for subnet in bridge.subnets] == ["10.9.0.0/24"]
    async with NetworkBench(tmp_path) as bench:
        assert {network.name: network.id for network in bench.networks.all} == before
        assert bench.networks.find("bridge") == bridge
        assert set(before) == {"bridge", "host", "none"}


async def test_the_default_bridge_follows_the_configuration(tmp_path):
    async with NetworkBench(tmp_path) as bench:
        first = bench.networks.find("bridge")
    settings = {"bip": "10.8.1.1/24", "fixed_cidr": "10.8.1.128/25", "default_gateway": "10.8.1.254", "mtu": 1400, "icc": False}
    async with NetworkBench(tmp_path, **settings) as bench:
        second = bench.networks.find("bridge")
        assert second.id == first.id
        shown = bench.networks.inspect("bridge")
        assert shown.ipam.config == [
            Config(
                subnet="10.8.1.0/24",
                ip_range="10.8.1.128/25",
                gateway="10.8.1.1",
                aux_addresses={"DefaultGatewayIPv4": "10.8.1.254"},
            )
        ]
        assert describe(second).mtu == 1400
        assert describe(second).icc is False
        (lease,) = bench.networks.leases.take("c", "c", [Wish(second, api.EndpointSettings())])
        assert (lease.ipv4, lease.gateway4) == ("10.8.1.128/24", "10.8.1.254")
    async with NetworkBench(tmp_path, bridge="none") as bench:
        with pytest.raises(NotFound):
            bench.networks.find("bridge")
        assert bench.networks.of_mode("default") is None


async def test_a_bridge_that_cannot_be_keeps_nobody_from_starting(tmp_path):
    async with NetworkBench(tmp_path, bip="10.8.1.1/24", fixed_cidr="10.7.0.0/24") as bench:
        assert {network.name for network in bench.networks.all} == {"host", "none"}
        assert "fixed-cidr 10.7.0.0/24 is not within the bridge's network 10.8.1.0/24" in bench.networks.bridge_problem


async def test_create(bench):
    answer = await bench.networks.create(request("web", labels={"a": "b"}))
    shown = bench.networks.inspect("web")
    assert (shown.id, shown.name, shown.driver, shown.scope, shown.labels) == (answer.id, "web", "bridge", "local", {"a": "b"})
    assert shown.ipam.config == [Config(subnet="10.9.1.0/24", gateway="10.9.1.1")]
    assert bench.kernel.asked == [("need", "web")]
    spec = describe(bench.networks.find("web"))
    assert (spec.interface, spec.addresses, spec.subnets) == (f"br-{answer.id[:12]}", ("10.9.1.1/24",), ("10.9.1.0/24",))
    event = bench.heard._queue[-1]
    assert (event.type, event.action, event.actor.id) == ("network", "create", answer.id)
    assert event.actor.attributes == {"name": "web", "type": "bridge"}


async def test_both_families(bench):
    network = await made(bench, "six", enable_ipv6=True)
    assert [subnet.pool for subnet in network.subnets] == ["10.9.1.0/24", "fd42:9::/64"]
    only = await made(bench, "only6", enable_ipv6=True, enable_ipv4=False)
    assert [subnet.pool for subnet in only.subnets] == ["fd42:9:0:1::/64"]
    (lease,) = bench.networks.leases.take("c", "c", [Wish(network, api.EndpointSettings())])
    assert (lease.ipv4, lease.ipv6, lease.gateway6) == ("10.9.1.2/24", "fd42:9::2/64", "fd42:9::1")


async def test_a_network_without_addresses(bench):
    network = await made(bench, driver="macvlan", enable_ipv4=False, ipam=NULL)
    (lease,) = bench.networks.leases.take("c", "c", [Wish(network, api.EndpointSettings())])
    assert (lease.addresses, lease.gateway4, lease.gateway6) == ((), "", "")
    shown = bench.networks.inspect("n").ipam
    assert (shown.driver, shown.config) == ("null", None)


async def test_an_ipv6_subnet_without_ipv6_is_told_of(bench):
    answer = await bench.networks.create(request("n", Config(subnet="fd00::/64")))
    assert "fd00::/64 is not used" in answer.warning


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"name": "bridge"}, Forbidden, "operation is not permitted on predefined bridge network "),
        ({"name": " "}, InvalidParameter, "invalid network name: name is empty"),
        ({"driver": "overlay"}, Forbidden, "This node is not a swarm manager"),
        ({"driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"driver": "nosuch"}, NotFound, 'plugin "nosuch" not found'),
        ({"enable_ipv4": False}, InvalidParameter, "IPv4 or IPv6 must be enabled"),
        ({"ipam": api.IPAM(driver="nosuch")}, NotFound, 'plugin "nosuch" not found'),
        ({"ipam": NULL}, InvalidParameter, "ipv4 pool is empty"),
        ({"ipam": NULL, "driver": "macvlan"}, InvalidParameter, "ipv4 pool is empty"),
        ({"ipam": NULL, "enable_ipv4": False, "enable_ipv6": True}, InvalidParameter, "ipv6 pool is empty"),
        ({"ipam": NULL, "enable_ipv4": False}, InvalidParameter, "IPv4 or IPv6 must be enabled"),
        (
            {"ipam": api.IPAM(driver="null", config=[Config(subnet="10.1.0.0/24")])},
            InvalidParameter,
            "null ipam driver does not handle specific address pool requests",
        ),
        ({"options": {"com.docker.network.bridge.colour": "red"}}, InvalidParameter, "invalid option"),
        ({"options": {"com.docker.network.driver.mtu": "big"}}, InvalidParameter, "invalid MTU: big"),
        ({"options": {"com.docker.network.bridge.enable_icc": "x"}}, InvalidParameter, "is not a valid bool"),
        ({"options": {"com.docker.network.bridge.gateway_mode_ipv4": "x"}}, InvalidParameter, "unknown gateway mode x"),
        ({"options": {"com.docker.network.bridge.name": "a/b"}}, InvalidParameter, 'invalid bridge name "a/b"'),
        ({"driver": "macvlan", "options": {"macvlan_mode": "x"}}, InvalidParameter, "requested macvlan mode 'x' is not valid"),
        ({"config_from": api.ConfigReference("nosuch")}, NotFound, "network nosuch not found"),
    ],
)
async def test_networks_that_cannot_be(bench, fields, kind, message):
    before = list(bench.networks.all)
    with pytest.raises(kind) as caught:
        await bench.networks.create(api.NetworkCreateRequest(**{"name": "n", **fields}))
    assert message in str(caught.value)
    assert bench.networks.all == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(subnet="10.0.0.1/24"), "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
        (Config(subnet="10.0.0.0"), "invalid subnet 10.0.0.0: invalid CIDR block notation"),
        (Config(subnet="10.0.0.0/24", gateway="10.1.0.1"), "parent subnet 10.0.0.0/24 doesn't contain this address"),
        (Config(subnet="10.0.0.0/24", gateway="fd00::1"), "invalid gateway fd00::1: parent subnet is an IPv4 block"),
        (Config(subnet="10.0.0.0/24", ip_range="10.0.0.0/16"), "CIDR block is bigger than its parent subnet 10.0.0.0/24"),
        (Config(subnet="10.0.0.0/24", ip_range="10.1.0.0/25"), "parent subnet 10.0.0.0/24 doesn't contain ip-range"),
        (Config(subnet="10.0.0.0/24", aux_addresses={"x": "y"}), "invalid auxiliary address x: invalid address"),
    ],
)
async def test_subnets_that_cannot_be(bench, config, message):
    with pytest.raises(InvalidParameter) as caught:
        await bench.networks.create(request("n", config))
    assert str(caught.value).startswith("invalid network config:\n")
    assert message in str(caught.value)


async def test_everything_that_is_wrong_is_told_at_once(bench):
    with pytest.raises(InvalidParameter) as caught:
        await bench.networks.create(request("n", Config(subnet="x"), Config(subnet="10.0.0.1/24")))
    assert str(caught.value) == (
        "invalid network config:\n* invalid subnet x: invalid CIDR block notation\n"
        "* invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"
    )


async def test_names_subnets_and_bridges_are_one_networks(bench):
    named = {"com.docker.network.bridge.name": "bxn"}
    await bench.networks.create(request("n", Config(subnet="10.9.7.0/24"), options=named))
    with pytest.raises(Conflict, match=r"^network with name n already exists$"):
        await bench.networks.create(request("n"))
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        await bench.networks.create(request("m", Config(subnet="10.9.0.0/16")))
    with pytest.raises(Forbidden, match="networks have same bridge name"):
        await bench.networks.create(request("m", options=named))
    with pytest.raises(Forbidden, match="doesn't support multiple subnets"):
        await bench.networks.create(request("m", Config(subnet="10.1.0.0/24"), Config(subnet="10.2.0.0/24")))


async def test_what_the_kernel_refuses_is_not_kept(bench):
    bench.kernel.refuses["n"] = NotImplementedHere("no bridges here")
    with pytest.raises(NotImplementedHere):
        await bench.networks.create(request("n"))
    bench.kernel.refuses.clear()
    network = await made(bench, "n")
    assert [subnet.pool for subnet in network.subnets] == ["10.9.1.0/24"]


async def test_what_cannot_be_recorded_is_taken_back(bench):
    bench.store.close()
    with pytest.raises(InternalError):
        await bench.networks.create(request("n"))
    assert bench.kernel.asked == [("need", "n"), ("remove", "n")]
    with pytest.raises(NotFound):
        bench.networks.find("n")


async def test_a_bridge_that_was_there_is_not_ours(bench):
    network = await made(bench, "n", options={"com.docker.network.bridge.name": "lo"})
    assert describe(network).foreign
    assert not describe(await made(bench, "m")).foreign


async def test_a_subnet_is_nobody_elses_before_its_network_is_gone(bench):
    network = await made(bench, "n")
    remove, gone = bench.kernel.remove, asyncio.Event()

    async def slowly(network: Network) -> None:
        await gone.wait()
        await remove(network)

    bench.kernel.remove = slowly
    removing = asyncio.create_task(bench.networks.remove("n"))
    while network in bench.networks.all:  # noqa: ASYNC110 - it is the loop itself that is to turn
        await asyncio.sleep(0)
    with pytest.raises(Conflict):
        await bench.networks.create(request("n"))
    assert (await made(bench, "m")).subnets[0].pool == "10.9.2.0/24"
    gone.set()
    await removing
    assert (await made(bench, "n")).subnets == network.subnets


def test_what_the_machine_cannot_do_is_a_feature_that_is_not_there():
    network = Network(id="a" * 64, name="n", created=1, driver="ipvlan")
    kinds = {"unsupported": NotImplementedHere, "interface": InvalidParameter, "kernel": InternalError}
    for kind, expected in kinds.items():
        error = BusError(Code.FAILED_PRECONDITION, "no", detail=NetworkFailure(kind=kind, message="no ipvlan here"))
        failed = translated(error, "x")
        assert isinstance(failed, NetworkFailed)
        refused = refusal(failed, network)
        assert type(refused) is expected
        assert str(refused) == "ipvlan network n: no ipvlan here"


async def test_find(bench):
    network = await made(bench, "n")
    assert bench.networks.find(network.id[:6]) is bench.networks.find("n") is network
    with pytest.raises(NotFound, match=r"^network nosuch not found$"):
        bench.networks.find("nosuch")
    with pytest.raises(NotFound):
        bench.networks.inspect("n", "swarm")


async def test_remove(bench):
    network = await made(bench, "n")
    bench.networks.name_of = lambda _: "web"
    leases = bench.networks.leases
    (lease,) = leases.take("c1", "web", [Wish(network, api.EndpointSettings())])
    with pytest.raises(Forbidden) as caught:
        await bench.networks.remove("n")
    ends = f'(name:"web" id:"{lease.endpoint[:12]}")'
    assert str(caught.value) == f"error while removing network: network n has active endpoints {ends}"
    shown = bench.networks.inspect("n").containers
    assert shown["c1"] == api.EndpointResource("web", lease.endpoint, "", "10.9.1.2/24", "")
    leases.leave("c1", lease)
    await bench.networks.remove("n")
    assert bench.kernel.of("remove") == ["n"]
    with pytest.raises(NotFound, match=r"^network n not found$"):
        leases.take("c1", "web", [Wish(network, api.EndpointSettings())])
    for name in ("bridge", "host", "none"):
        with pytest.raises(Forbidden, match=f"^{name} is a pre-defined network and cannot be removed$"):
            await bench.networks.remove(name)
    assert [event.action for event in bench.heard._queue] == ["create", "destroy"]


async def test_networks_survive(tmp_path):
    async with NetworkBench(tmp_path) as bench:
        network = await made(bench, "n", Config(subnet="10.3.0.0/16", aux_addresses={"a": "10.3.0.2"}))
    async with NetworkBench(tmp_path) as bench:
        assert bench.networks.find("n") == network
        (lease,) = bench.networks.leases.take("c", "c", [Wish(network, api.EndpointSettings())])
        assert lease.ipv4 == "10.3.0.3/16"


async def test_configurations_for_other_networks(bench):
    await made(bench, "base", Config(subnet="10.3.0.0/16"), config_only=True, options={"com.docker.network.driver.mtu": "1400"})
    assert bench.networks.inspect("base").driver == "null"
    network = await made(bench, "n", config_from=api.ConfigReference("base"))
    assert (network.subnets[0].pool, describe(network).mtu) == ("10.3.0.0/16", 1400)
    with pytest.raises(Forbidden, match="is in use by 'n'"):
        await bench.networks.remove("base")
    with pytest.raises(InvalidParameter, match="is not a configuration only network"):
        await bench.networks.create(request("m", config_from=api.ConfigReference("n")))
    assert bench.kernel.asked == [("need", "n")]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "bridge host none one two"),
        ({"name": ["o"]}, "host none one two"),
        ({"driver": ["null"]}, "none"),
        ({"type": ["custom"]}, "one two"),
        ({"type": ["builtin"]}, "bridge host none"),
        ({"label": ["a=b"]}, "one"),
        ({"scope": ["swarm"]}, ""),
        ({"dangling": ["true"]}, "two"),
        ({"dangling": ["false"]}, "bridge host none one"),
    ],
)
async def test_list(bench, filters, names):
    one = await made(bench, "one", labels={"a": "b"})
    await made(bench, "two")
    bench.networks.leases.take("c", "c", [Wish(one, api.EndpointSettings())])
    assert [network.name for network in bench.networks.list(Filters(filters))] == names.split()


@pytest.mark.parametrize("filters", [{"colour": ["red"]}, {"type": ["odd"]}, {"dangling": ["x"]}])
async def test_what_a_filter_cannot_be(bench, filters):
    with pytest.raises(InvalidParameter):
        bench.networks.list(Filters(filters))


async def test_prune_takes_what_nobody_is_on(bench):
    used = await made(bench, "used")
    await made(bench, "kept", labels={"keep": "1"})
    await made(bench, "unused")
    bench.networks.leases.take("c", "c", [Wish(used, api.EndpointSettings())])
    answer = await bench.networks.prune(Filters({"label!": ["keep"]}))
    assert answer.networks_deleted == ["unused"]
    assert (await bench.networks.prune(Filters({"until": ["24h"]}))).networks_deleted is None
    assert bench.heard._queue[-1].action == "prune"


async def test_leases_are_all_or_none(bench):
    one = await made(bench, "one", Config(subnet="10.3.0.0/30"))
    two = await made(bench, "two")
    leases = bench.networks.leases
    wishes = [Wish(two, api.EndpointSettings()), Wish(one, api.EndpointSettings())]
    first = leases.take("c1", "c1", wishes)
    assert [lease.interface for lease in first] == ["eth0", "eth1"]
    with pytest.raises(DaemonError, match="no available IPv4 addresses"):
        leases.take("c2", "c2", wishes)
    assert list(leases.members(two)) == ["c1"]
    (lease,) = leases.take("c3", "c3", wishes[:1])
    assert lease.ipv4 == "10.9.1.3/24"
    with pytest.raises(Forbidden, match=r"^endpoint with name c3 already exists in network two$"):
        leases.take("c3", "c3", wishes[:1])


async def test_internal_networks_lead_nowhere(bench):
    network = await made(bench, "n", internal=True)
    (lease,) = bench.networks.leases.take("c", "c", [Wish(network, api.EndpointSettings())])
    assert lease.gateway4 == ""
    assert describe(network).internal


async def test_other_drivers_have_a_gateway_only_where_it_is_named(bench):
    network = await made(bench, "mac", driver="macvlan", options={"parent": "eth0.10", "macvlan_mode": "private"})
    assert network.subnets[0].gateway == ""
    spec = describe(network)
    assert (spec.driver, spec.interface, spec.mode, spec.addresses) == ("macvlan", "eth0.10", "private", ())
