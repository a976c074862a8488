"""The processes that a command depends on die while it runs: it goes on, or fails; never is there a wrong layer."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from boxrun.supervisor.contract import Empty, Runtime
from boxshipd.builder.errors import StepFailed
from boxshipd.errors import DaemonError
from support.building import Building
from support.engine import Engine

_WAITING = "echo first; echo begun; echo x > /written; while [ ! -e /go ]; do sleep 0.01; done; echo last"


async def _process(engine: Engine) -> int:
    """The only container's process 1."""
    (container,) = (await engine.link.call(Runtime.list, Empty(), "list")).containers
    return container.pid


def _shim(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_a_command_goes_on_when_the_supervisor_is_killed(building: Building) -> None:
    engine = building.engine
    running = asyncio.create_task(building.run(_WAITING))
    await building.until_printed(b"begun")
    pid = await _process(engine)
    before = engine.supervisor_pid()
    os.kill(before, signal.SIGKILL)
    await engine.until(lambda: engine.link.connected and engine.supervisor_pid() != before, "another supervisor is there")
    Path(f"/proc/{pid}/root/go").touch()
    async with asyncio.timeout(30):
        result = await running
    assert building.printed[1] == b"first\nbegun\nlast\n"
    assert building.top(result) == ["go", "written"]


async def test_a_command_that_ends_while_there_is_no_supervisor_is_known_by_its_code(building: Building) -> None:
    engine = building.engine
    running = asyncio.create_task(building.run(f"{_WAITING}; exit 5"))
    await building.until_printed(b"begun")
    pid = await _process(engine)
    os.kill(engine.supervisor_pid(), signal.SIGKILL)
    Path(f"/proc/{pid}/root/go").touch()
    async with asyncio.timeout(30):
        with pytest.raises(StepFailed, match="non-zero code: 5"):
            await running


async def test_a_command_whose_shim_is_killed_fails(building: Building) -> None:
    running = asyncio.create_task(building.run(_WAITING))
    await building.until_printed(b"begun")
    os.kill(_shim(await _process(building.engine)), signal.SIGKILL)
    async with asyncio.timeout(30):
        with pytest.raises(StepFailed, match="was lost"):
            await running
    await _nothing_left(building.engine)


async def test_everything_is_killed_at_once_and_the_command_fails(building: Building) -> None:
    engine = building.engine
    running = asyncio.create_task(building.run(_WAITING))
    await building.until_printed(b"begun")
    shim = _shim(await _process(engine))
    os.kill(engine.supervisor_pid(), signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    async with asyncio.timeout(60):
        with pytest.raises(StepFailed, match="was lost"):
            await running
    await _nothing_left(engine)


async def test_a_supervisor_killed_during_starts_costs_no_wrong_layer(building: Building) -> None:
    """Whichever step of its start each of them is at, it is run to its end or fails; and the builder works on."""
    engine = building.engine
    base = await building.base()
    for _ in range(3):
        running = [asyncio.create_task(building.run(f"echo {n} > /number; echo end > /end", base)) for n in range(6)]
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        before = engine.supervisor_pid()
        os.kill(before, signal.SIGKILL)
        async with asyncio.timeout(90):
            outcomes = await asyncio.gather(*running, return_exceptions=True)
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, DaemonError), outcome
            else:
                assert building.file(outcome, "number") == b"%d\n" % number
                assert building.top(outcome) == ["end", "number"]
        await engine.until(lambda: engine.link.connected, "a supervisor is there")
    assert building.file(await building.run("echo 1 > /works", base), "works") == b"1\n"
    await _nothing_left(engine)


async def test_what_a_dead_daemon_was_running_is_gone_with_the_next_one(building: Building, engine: Engine) -> None:
    running = asyncio.create_task(building.run("echo begun; while :; do echo x > /more$((n=n+1)); done"))
    await building.until_printed(b"begun")
    pid = await _process(engine)
    assert os.listdir(f"{engine.settings.data_root}/transients")
    # As after kill -9: nothing is told to the runtime, and nobody undoes anything.
    await engine.crash()
    engine = await engine.next_life()
    await engine.until(lambda: not os.path.exists(f"/proc/{pid}"), "its process is killed")
    await _nothing_left(engine)
    running.cancel()
    await asyncio.wait([running])


async def _nothing_left(engine: Engine) -> None:
    """Neither containers nor directories, once what has ended is let go of."""
    places = engine.containers.transients.directories
    await engine.until(lambda: not [name for place in places for name in os.listdir(place)], "no directories are left")
    async with asyncio.timeout(20):
        while (await engine.link.call(Runtime.list, Empty(), "list", repeat=True)).containers:
            pass
