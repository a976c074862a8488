"""kill -9 of supervisor, zygote and shim, in every state of a container: what is reported is true, and nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from boxrun.bus import BusError, Code
from boxrun.container.spec import Mount
from boxrun.supervisor.contract import ContainerStatus, Runtime, SignalRequest, StartFailure
from msgspec import structs
from support.leaks import leaks
from support.runtime import SupervisorProcess, children, command_line, eventually, kill, running_supervisor

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[SupervisorProcess]:
    async with running_supervisor(tmp_path) as supervisor:
        yield supervisor


def keeper_of(supervisor: SupervisorProcess, identity: str, pid: int) -> int:
    """The shim's lasting process: of those with its title, the one that is not another's child."""
    shims = supervisor.shims(identity)
    workers = {child for shim in shims for child in children(shim)}
    (keeper,) = [shim for shim in shims if shim not in workers and shim != pid]
    return keeper


def lost(status: ContainerStatus) -> None:
    assert (status.phase, status.exit_code, status.lost) == ("exited", 255, True)
    assert status.error


async def test_supervisor_killed_while_containers_run(supervisor: SupervisorProcess) -> None:
    specs = [supervisor.spec("sleep", "1000") for _ in range(3)]
    replies = [await supervisor.launch(spec) for spec in specs]
    await supervisor.kill()
    await supervisor.start()
    for spec, reply in zip(specs, replies, strict=True):
        status = await supervisor.status(spec.id)
        assert (status.phase, status.pid, status.started_at) == ("running", reply.pid, reply.started_at)
    await supervisor.bus.unary(Runtime.signal, SignalRequest(id=specs[0].id, signal=signal.SIGKILL))
    assert (await supervisor.exited(specs[0].id)).exit_code == 137


async def test_exit_while_no_supervisor_lives(supervisor: SupervisorProcess) -> None:
    go = supervisor.base / "go"
    go.mkdir()
    spec = supervisor.spec("sh", "-c", "while ! test -e /go/now; do sleep 0.02; done; echo bye; exit 9")
    mounts = (*spec.mounts, Mount(kind="bind", source=str(go), target="/go"))
    await supervisor.launch(structs.replace(spec, mounts=mounts))
    await supervisor.kill()
    (go / "now").touch()
    await eventually(Path(spec.state_dir, "exit.json").exists, "the exit is on record")
    await supervisor.start()
    status = await supervisor.status(spec.id)
    assert (status.phase, status.exit_code, status.lost) == ("exited", 9, False)
    assert json.loads(Path(spec.log.path).read_text())["log"] == "bye\n"
    await supervisor.release(spec.id)


async def test_zygote_killed(supervisor: SupervisorProcess) -> None:
    before = supervisor.spec("sleep", "1000")
    await supervisor.launch(before)
    for _ in range(3):
        zygote = supervisor.zygote()
        kill(zygote)
        spec = supervisor.spec("true")
        await supervisor.launch(spec)
        assert (await supervisor.exited(spec.id)).exit_code == 0
        await eventually(lambda dead=zygote: not command_line(dead), "the dead zygote is reaped")  # type: ignore[misc]
        await eventually(lambda: len(zygotes(supervisor)) == 1, "another zygote is there")
    assert (await supervisor.status(before.id)).phase == "running"


def zygotes(supervisor: SupervisorProcess) -> list[int]:
    assert supervisor.process is not None
    return [pid for pid in children(supervisor.process.pid) if b"boxrun-zygote" in command_line(pid)]


async def test_zygote_killed_during_starts(supervisor: SupervisorProcess) -> None:
    specs = [supervisor.spec("sh", "-c", "exit 6") for _ in range(16)]
    starts = [asyncio.create_task(supervisor.launch(spec)) for spec in specs]
    await asyncio.sleep(0)
    kill(supervisor.zygote())
    results = await asyncio.gather(*starts, return_exceptions=True)
    for spec, result in zip(specs, results, strict=True):
        if isinstance(result, BaseException):
            assert isinstance(result, BusError)
            assert not leaks(spec.id)
        else:
            assert (await supervisor.exited(spec.id)).exit_code == 6
    assert any(not isinstance(result, BaseException) for result in results)


@pytest.mark.parametrize("parked", [False, True])
async def test_shim_killed_while_its_container_runs(supervisor: SupervisorProcess, parked: bool) -> None:
    spec = supervisor.spec("sleep", "1000")
    other = supervisor.spec("sleep", "1000")
    reply = await supervisor.launch(spec)
    await supervisor.launch(other)
    if parked:
        await eventually(lambda: supervisor.parked(spec.id), "its worker has parked")
    kill(keeper_of(supervisor, spec.id, reply.pid))
    lost(await supervisor.exited(spec.id))
    assert not command_line(reply.pid)
    record = json.loads(Path(spec.state_dir, "exit.json").read_text())
    assert (record["exit_code"], record["lost"]) == (255, True)
    assert (await supervisor.status(other.id)).phase == "running"
    await supervisor.release(spec.id)
    assert not leaks(spec.id)
    await supervisor.launch(spec)
    assert (await supervisor.status(spec.id)).phase == "running"


async def test_a_shims_worker_killed(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sh", "-c", "while :; do echo; sleep 0.1; done")
    reply = await supervisor.launch(spec)
    keeper = keeper_of(supervisor, spec.id, reply.pid)
    (worker,) = [pid for pid in children(keeper) if pid != reply.pid]
    kill(worker)
    lost(await supervisor.exited(spec.id))
    await eventually(lambda: not supervisor.shims(spec.id), "the rest of the shim ends with it")


async def test_shim_and_supervisor_killed(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sleep", "1000")
    reply = await supervisor.launch(spec)
    keeper = keeper_of(supervisor, spec.id, reply.pid)
    await supervisor.kill()
    kill(keeper)
    await supervisor.start()
    lost(await supervisor.status(spec.id))
    assert not command_line(reply.pid)
    await supervisor.release(spec.id)


async def test_shims_killed_during_starts(supervisor: SupervisorProcess) -> None:
    specs = [supervisor.spec("sleep", "1000") for _ in range(12)]
    starts = [asyncio.create_task(supervisor.launch(spec)) for spec in specs]
    killed = 0
    while not all(start.done() for start in starts):
        await asyncio.sleep(0.002)
        for spare in children(supervisor.zygote())[::2]:
            kill(spare)
            killed += 1
    results = await asyncio.gather(*starts, return_exceptions=True)
    assert killed
    for spec, result in zip(specs, results, strict=True):
        if isinstance(result, BaseException):
            assert isinstance(result, BusError)
            assert result.code is Code.FAILED_PRECONDITION
            assert result.detail(StartFailure) is not None
            assert not leaks(spec.id)
            assert os.listdir(spec.state_dir) == []
        else:
            status = await supervisor.status(spec.id)
            if status.phase == "exited":
                lost(status)


async def test_supervisor_killed_during_starts(supervisor: SupervisorProcess) -> None:
    specs = [supervisor.spec("sleep", "1000") for _ in range(12)]
    starts = [asyncio.create_task(supervisor.launch(spec)) for spec in specs]
    await asyncio.wait(starts, return_when=asyncio.FIRST_COMPLETED)
    await supervisor.kill()
    results = await asyncio.gather(*starts, return_exceptions=True)
    await supervisor.start()
    async with supervisor.events() as events:
        listed = {}
        async for event in events:
            if event.status is None:
                break
            listed[event.status.id] = event.status
    for spec, result in zip(specs, results, strict=True):
        if not isinstance(result, BaseException):
            assert (listed[spec.id].phase, listed[spec.id].pid) == ("running", result.pid)
        elif spec.id in listed and listed[spec.id].phase == "exited":
            lost(listed[spec.id])
            assert not [leak for leak in leaks(spec.id) if leak.startswith(("cgroup", "process"))]


async def test_a_stale_socket_and_half_a_record_are_no_obstacle(supervisor: SupervisorProcess) -> None:
    await supervisor.kill()
    (supervisor.run / "shims" / ("a" * 64)).touch()
    (supervisor.run / "containers" / ".half").write_bytes(b'{"id":')
    await supervisor.start()
    assert os.listdir(supervisor.run / "shims") == os.listdir(supervisor.run / "containers") == []
    spec = supervisor.spec("true")
    await supervisor.launch(spec)
    assert (await supervisor.exited(spec.id)).exit_code == 0


async def test_a_stopped_shim_blocks_nobody(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sleep", "1000")
    reply = await supervisor.launch(spec)
    await eventually(lambda: supervisor.parked(spec.id), "its worker has parked")
    keeper = keeper_of(supervisor, spec.id, reply.pid)
    os.kill(keeper, signal.SIGSTOP)
    try:
        await supervisor.kill()
        async with asyncio.timeout(30):
            await supervisor.start()
        other = supervisor.spec("true")
        await supervisor.launch(other)
        assert (await supervisor.exited(other.id)).exit_code == 0
    finally:
        os.kill(keeper, signal.SIGCONT)
    async with asyncio.timeout(15), supervisor.events() as events:
        async for event in events:
            if event.status is not None and event.status.id == spec.id and event.status.phase == "running":
                break
