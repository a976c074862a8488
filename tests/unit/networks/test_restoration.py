"""What only one side knows after a crash: networks, sandboxes and leases."""

from __future__ import annotations

import pytest
from boxrun.network import contract
from boxship.types.networks import NetworkCreateRequest
from boxshipd.containers.networking.restoration import Restoration
from boxshipd.networks.kernel import endpoint
from support.network_bench import ContainerBench, NetworkBench, publish


@pytest.fixture
async def bench(tmp_path):
    async with ContainerBench(tmp_path) as made:
        yield made


def restoration(bench: ContainerBench) -> Restoration:
    return Restoration(
        registry=bench.registry,
        networks=bench.networks,
        kernel=bench.kernel,
        networking=bench.networking,
        scheduler=bench.scheduler,
        policy=contract.Policy(respect_input=True),
        transient=lambda _: False,
    )


async def test_the_runtime_is_told_everything_at_each_connection(bench):
    web = await bench.network("web")
    await bench.network("unused")
    container = await bench.create("c", "web")
    await bench.start(container)
    bench.kernel.asked.clear()
    await restoration(bench)._restore()
    assert bench.kernel.of("policy") == [contract.Policy(respect_input=True)]
    assert bench.kernel.of("need") == ["web"]
    ((change,),) = bench.kernel.of("names")
    assert (change.network, change.whole, change.records[0].name) == (web.id, True, "c")


async def test_what_only_the_runtime_knows_goes(bench):
    network = await bench.network("web")
    bench.kernel.there = contract.NetworkList(
        networks=(contract.NetworkSpec(id=network.id), contract.NetworkSpec(id="f" * 64)),
        sandboxes=(contract.Sandbox(container="e" * 64),),
    )
    await restoration(bench)._restore()
    assert bench.kernel.of("forget") == ["f" * 64]
    assert bench.kernel.of("unplug") == ["e" * 64]


async def test_the_sandbox_of_a_container_that_does_not_run_goes(bench):
    container = await bench.create("c")
    bench.kernel.there = contract.NetworkList(sandboxes=(contract.Sandbox(container=container.id),))
    await restoration(bench)._restore()
    assert bench.kernel.of("unplug") == [container.id]


async def test_a_start_that_was_not_on_record_is_taken_up(bench, tmp_path):
    container = await bench.create("c", port_bindings=publish("8080:80/tcp"))
    request = await bench.start(container)
    lease, published = container.state.leases[0], container.state.published
    # The next daemon: the container runs, and its record says nothing of a lease.
    bench.networks.leases.leave(container.id, lease)
    bench.networks.leases.free([lease], published)
    container.state.leases, container.state.published = (), ()
    plugged = contract.Plugged(endpoint=lease.endpoint, interface="eth0", mac=lease.mac)
    sandbox = contract.Sandbox(container=container.id, endpoints=(endpoint(lease),), plugged=(plugged,), ports=request.ports)
    bench.kernel.there = contract.NetworkList(sandboxes=(sandbox,))
    await restoration(bench)._restore()
    assert (container.state.leases, container.state.published) == ((lease,), published)
    assert bench.networks.inspect("bridge").containers.keys() == {container.id}
    other = await bench.start(await bench.create("d"))
    assert other.endpoints[0].addresses == ("10.9.0.3/24",)


async def test_a_network_that_is_being_created_stays(tmp_path):
    async with NetworkBench(tmp_path) as bench:
        seen = []

        async def need(network):
            seen.extend(found.name for found in bench.networks.all_and_coming if found.real)

        bench.kernel.need = need
        await bench.networks.create(NetworkCreateRequest(name="web"))
        assert "web" in seen
