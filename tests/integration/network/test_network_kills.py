"""kill -9 at any step: what was plugged goes on, what wasn't finished leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from boxrun.bus import BusError
from boxrun.network.contract import NetworkList, Networks, Nothing
from support.networks import Lab, address
from support.runtime import eventually
from support.topology import HOST, NEIGHBOUR, listening, reach

PORTS = (("tcp", 8080, 80, "0.0.0.0"),)


async def listed(lab: Lab) -> NetworkList:
    """What the supervisor knows."""
    return await lab.supervisor.bus.unary(Networks.list, Nothing(), timeout=10)


async def test_what_is_plugged_outlives_the_supervisor(lab: Lab) -> None:
    first, second = await lab.network(1, pool=2), await lab.network(2, icc=False)
    one, two = await lab.on(first, second, ports=PORTS), await lab.on(first)
    await lab.supervisor.kill()
    with listening(one.path, 80) as server:
        assert reach(lab.neighbour, HOST, 8080, server) == NEIGHBOUR
        await lab.supervisor.start()
        assert reach(lab.neighbour, HOST, 8080, server) == NEIGHBOUR
        assert reach(two.path, address(one), 80, server) == address(two)
        known = await listed(lab)
        assert {network.id for network in known.networks} == {first.id, second.id}
        assert {sandbox.container for sandbox in known.sandboxes} == {one.id, two.id}
        assert next(sandbox.ports for sandbox in known.sandboxes if sandbox.container == one.id) == one.reply.ports
    with suppress(OSError), listening(lab.host, 8080):
        raise AssertionError("the port isn't held any more")
    await lab.stop(one)

    async def forgotten() -> bool:
        return one.id not in {sandbox.container for sandbox in (await listed(lab)).sandboxes}

    async with asyncio.timeout(20):
        while not await forgotten():  # noqa: ASYNC110 - the supervisor tells nobody
            await asyncio.sleep(0.02)
    with listening(lab.host, 8080):
        pass


async def test_a_container_that_ends_while_no_supervisor_is_there_leaves_nothing(lab: Lab) -> None:
    network = await lab.network(1)
    before = lab.kernel_state()
    one = await lab.on(network, ports=PORTS)
    await lab.supervisor.kill()
    os.kill(one.pid, signal.SIGKILL)
    await lab.supervisor.start()
    await eventually(lambda: lab.kernel_state() == before, f"{lab.kernel_state()}, before {before}")
    assert not (await listed(lab)).sandboxes


async def test_killed_in_the_midst_of_starts(lab: Lab) -> None:
    network = await lab.network(1, pool=3)
    before = [name for name in lab.kernel_state() if not name.startswith("bx") or name == "bxt1"]
    for round_ in range(3):
        ports = [(("tcp", 9000 + number, 80, "0.0.0.0"),) for number in range(6)]
        starts = [asyncio.ensure_future(lab.on(network, ports=port)) for port in ports]
        # Each round kills at another moment: after so many of the starts have been answered.
        with suppress(BusError):
            for start in starts[: round_ * 2]:
                await start
        await lab.supervisor.kill()
        outcomes = await asyncio.gather(*starts, return_exceptions=True)
        await lab.supervisor.start()
        known = await listed(lab)
        started = {outcome.id for outcome in outcomes if not isinstance(outcome, BaseException)}
        assert started <= {sandbox.container for sandbox in known.sandboxes}
        for sandbox in known.sandboxes:
            await lab.end(sandbox.container)
            await lab.unplug(sandbox.container)
        await lab.remove(network)
        await eventually(lambda: not [name for name in lab.kernel_state() if name.startswith("bx")], f"{lab.kernel_state()}")
        network = await lab.network(1, pool=3)
    await lab.remove(network)
    await eventually(lambda: set(lab.kernel_state()) <= set(before), f"{lab.kernel_state()}, before {before}")


async def test_the_pool_is_filled_and_goes_with_the_supervisor(lab: Lab) -> None:
    def cables() -> int:
        return len([name for name in lab.kernel_state() if name.startswith("bx") and name != "bxt1"])

    await lab.network(1, pool=4)
    await eventually(lambda: cables() == 4, "four sandboxes ahead of time")
    await lab.supervisor.kill()
    await eventually(lambda: cables() == 0, "the kernel takes them apart")
    await lab.supervisor.start()
    await eventually(lambda: cables() == 4, "and they are made anew")
