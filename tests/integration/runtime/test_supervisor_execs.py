"""Execs through the bus, without a daemon that would look after things before."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from boxrun.bus import BusError, Code
from boxrun.container import defaults
from boxrun.container.spec import Process
from boxrun.supervisor.contract import ContainerRef, ExecReply, ExecRequest, Runtime
from support.runtime import SupervisorProcess


async def run(supervisor: SupervisorProcess, identity: str, *args: str) -> ExecReply:
    process = Process(args=args, env=("PATH=/bin",), capabilities=defaults.DEFAULT_CAPABILITIES)
    request = ExecRequest(id=identity, exec_id=uuid.uuid4().hex, process=process)
    return await supervisor.bus.unary(Runtime.exec, request, timeout=30)


async def test_a_paused_container_takes_no_exec(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sleep", "1000")
    await supervisor.launch(spec)
    await supervisor.bus.unary(Runtime.freeze, ContainerRef(id=spec.id), timeout=20)
    with pytest.raises(BusError, match="is paused") as refused:
        await run(supervisor, spec.id, "true")
    assert refused.value.code == Code.FAILED_PRECONDITION
    await supervisor.bus.unary(Runtime.thaw, ContainerRef(id=spec.id), timeout=20)
    assert (await run(supervisor, spec.id, "true")).pid > 0


async def test_freezing_waits_for_those_on_their_way_in(supervisor: SupervisorProcess) -> None:
    """All at once, in every order that the machine finds: an exec is in or refused, and never left hanging."""
    spec = supervisor.spec("sleep", "1000")
    await supervisor.launch(spec)
    for _ in range(5):
        execs = [asyncio.ensure_future(run(supervisor, spec.id, "true")) for _ in range(6)]
        async with asyncio.timeout(15):
            await supervisor.bus.unary(Runtime.freeze, ContainerRef(id=spec.id), timeout=20)
            outcomes = await asyncio.gather(*execs, return_exceptions=True)
        await supervisor.bus.unary(Runtime.thaw, ContainerRef(id=spec.id), timeout=20)
        for outcome in outcomes:
            assert isinstance(outcome, ExecReply) or (isinstance(outcome, BusError) and "is paused" in str(outcome))
