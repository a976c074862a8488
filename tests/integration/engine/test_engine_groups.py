"""Pause, update, statistics and process lists through the engine, and what a daemon's death leaves of them."""

from __future__ import annotations

import asyncio
import os
import shutil

import pytest
from boxship.types.containers import ContainerInspect
from boxship.types.host import RestartPolicy
from boxship.types.update import UpdateRequest
from boxshipd.containers.stats import PERIOD
from boxshipd.errors import Conflict, DaemonError, InternalError, InvalidParameter, NotFound

MIB = 1 << 20


async def shown(engine, id_) -> ContainerInspect:
    return await engine.containers.inspect(id_)


async def test_pause_and_unpause(engine):
    id_ = await engine.run("sleep", "1000", name="box-1")
    await engine.containers.pause(id_)
    state = (await shown(engine, id_)).state
    assert (state.status, state.running, state.paused) == ("paused", True, True)
    assert (await engine.containers.list())[0].status.endswith(" (Paused)")
    assert engine.containers.counts() == (0, 1, 0)
    for act, said in (
        (engine.containers.pause(id_), f"Container {id_} is already paused"),
        (engine.containers.start(id_), "cannot start a paused container, try unpause instead"),
        (engine.containers.remove(id_), 'cannot remove container "/box-1": container is paused and must be unpaused first'),
    ):
        with pytest.raises(Conflict) as caught:
            await act
        assert str(caught.value) == said
    await engine.containers.unpause(id_)
    with pytest.raises(Conflict, match=f"Container {id_} is not paused"):
        await engine.containers.unpause(id_)
    assert (await shown(engine, id_)).state.status == "running"
    assert (await engine.actions("unpause"))[-2:] == ["pause", "unpause"]


async def test_what_does_not_run_is_not_paused(engine):
    id_ = await engine.create("true")
    with pytest.raises(Conflict, match=f"container {id_} is not running"):
        await engine.containers.pause(id_)
    with pytest.raises(NotFound):
        await engine.containers.unpause("nobody")


@pytest.mark.parametrize("act", ["stop", "kill", "remove", "restart"])
async def test_a_paused_container_can_be_ended(engine, act):
    id_ = await engine.obedient("TERM", 7)
    await engine.containers.pause(id_)
    if act == "stop":
        await engine.containers.stop(id_, timeout=20)
        assert (await shown(engine, id_)).state.exit_code == 7
    elif act == "kill":
        await engine.containers.kill(id_, "SIGTERM")
        assert await engine.result(id_) == 7
    elif act == "remove":
        await engine.containers.remove(id_, force=True)
        return
    else:
        await engine.containers.restart(id_, timeout=20)
        assert (await shown(engine, id_)).state.status == "running"
        return
    state = (await shown(engine, id_)).state
    assert (state.status, state.paused) == ("exited", False)
    assert "unpause" in await engine.actions("die")


async def test_a_signal_that_is_not_the_stop_signal_waits_for_the_unpausing(engine):
    id_ = await engine.obedient("USR1", 5, stop_signal="SIGTERM")
    await engine.containers.pause(id_)
    await engine.containers.kill(id_, "SIGUSR1")
    assert (await shown(engine, id_)).state.paused
    await engine.containers.unpause(id_)
    assert await engine.result(id_) == 5


async def test_paused_survives_daemon_and_supervisor(engine):
    id_ = await engine.run("sleep", "1000")
    await engine.containers.pause(id_)
    engine = await engine.reborn()
    assert (await shown(engine, id_)).state.status == "paused"
    await engine.containers.unpause(id_)
    engine = await engine.reborn()
    assert (await shown(engine, id_)).state.status == "running"


async def test_an_update_is_kept_and_in_force(engine):
    id_ = await engine.run("sleep", "1000")
    changes = UpdateRequest(
        memory=64 * MIB, memory_swap=128 * MIB, nano_cpus=500_000_000, pids_limit=9, cpuset_cpus="0",
        restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=3),
    )  # fmt: skip
    assert (await engine.containers.update(id_, changes)).warnings is None
    assert "update" in await engine.actions("update")
    assert (await engine.containers.stats_once(id_, primed=False)).memory_stats.limit == 64 * MIB
    engine = await engine.reborn()
    host = (await shown(engine, id_)).host_config
    assert (host.memory, host.memory_swap, host.nano_cpus, host.pids_limit) == (64 * MIB, 128 * MIB, 500_000_000, 9)
    assert host.restart_policy == RestartPolicy(name="on-failure", maximum_retry_count=3)
    await engine.containers.update(id_, UpdateRequest(pids_limit=-1))
    assert (await engine.containers.stats_once(id_, primed=False)).pids_stats.limit in (0, (1 << 64) - 1)


async def test_an_update_of_a_container_that_is_not_started_yet_counts_at_its_start(engine):
    id_ = await engine.create("sleep", "1000")
    await engine.containers.update(id_, UpdateRequest(memory=64 * MIB, memory_swap=-1))
    await engine.containers.start(id_)
    assert (await engine.containers.stats_once(id_, primed=False)).memory_stats.limit == 64 * MIB


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (UpdateRequest(memory=1000), InvalidParameter, "Minimum memory limit allowed is 6MB"),
        (UpdateRequest(memory=64 * MIB), Conflict, "already set memoryswap limit"),
        (UpdateRequest(cpuset_cpus="4095"), InvalidParameter, "Requested CPUs are not available"),
        (UpdateRequest(oom_kill_disable=True), InvalidParameter, "OomKillDisable can't be changed"),
        (UpdateRequest(restart_policy=RestartPolicy(name="never")), InvalidParameter, "invalid restart policy"),
        (UpdateRequest(cpu_realtime_runtime=10**12), DaemonError, "Cannot update container"),
    ],
)
async def test_an_update_that_cannot_be_changes_nothing(engine, changes, error, said):
    id_ = await engine.run("sleep", "1000", memory_reservation=32 * MIB)
    before = await shown(engine, id_)
    with pytest.raises(error, match=said):
        await engine.containers.update(id_, changes)
    assert (await shown(engine, id_)).host_config == before.host_config
    engine = await engine.reborn()
    assert (await shown(engine, id_)).host_config == before.host_config


async def test_a_refusal_of_the_kernels_is_taken_back_as_a_whole(engine):
    id_ = await engine.run("sleep", "1000", memory=64 * MIB)
    with pytest.raises(InternalError, match="Cannot update container"):
        await engine.containers.update(id_, UpdateRequest(memory=32 * MIB, memory_swap=64 * MIB, cpu_realtime_runtime=10**12))
    assert (await shown(engine, id_)).host_config.memory == 64 * MIB
    assert (await engine.containers.stats_once(id_, primed=False)).memory_stats.limit == 64 * MIB


async def test_processor_options_that_contradict_each_other(engine):
    id_ = await engine.create("true")
    await engine.containers.update(id_, UpdateRequest(nano_cpus=500_000_000))
    with pytest.raises(Conflict, match="CPU Quota cannot be updated as NanoCPUs has already been set"):
        await engine.containers.update(id_, UpdateRequest(cpu_quota=50_000))


async def test_a_daemon_that_died_over_an_update_brings_it_into_force(engine):
    id_ = await engine.run("sleep", "1000")
    container = engine.containers._registry.find(id_)
    container.state.limits_pending = True
    host = type(container.config.host_config)
    limited = host(
        **{name: getattr(container.config.host_config, name) for name in host.__struct_fields__} | {"memory": 64 * MIB}
    )
    config = type(container.config)
    await engine.containers._registry.reconfigure(
        container,
        config(**{name: getattr(container.config, name) for name in config.__struct_fields__} | {"host_config": limited}),
    )
    engine = await engine.reborn()
    async with asyncio.timeout(20):
        while (await engine.containers.stats_once(id_, primed=False)).memory_stats.limit != 64 * MIB:
            pass
    await engine.until(lambda: not engine.containers._registry.find(id_).state.limits_pending, "that is recorded")


async def test_statistics_follow_a_container_through_its_stops_and_starts(engine):
    id_ = await engine.run("sh", "-c", "while :; do :; done", name="box-1")
    follower = engine.containers.stats(id_)
    second = engine.containers.stats(id_)
    try:
        async with asyncio.timeout(30):
            first = await anext(follower)
            assert (first.name, first.id, first.preread) == ("/box-1", id_, "0001-01-01T00:00:00Z")
            assert first == await anext(second), "followers share the samples"
            sample = await anext(follower)
            assert sample.preread == first.read
            assert sample.precpu_stats == first.cpu_stats
            used = sample.cpu_stats.cpu_usage.total_usage - first.cpu_stats.cpu_usage.total_usage
            passed = sample.cpu_stats.system_cpu_usage - first.cpu_stats.system_cpu_usage
            assert 0 < used / passed * sample.cpu_stats.online_cpus <= 1.5
            await engine.containers.kill(id_)
            while (sample := await anext(follower)).read != "0001-01-01T00:00:00Z":
                pass
            assert sample.memory_stats.usage == sample.cpu_stats.cpu_usage.total_usage == 0
            await engine.containers.start(id_)
            while (await anext(follower)).memory_stats.usage == 0:
                pass
            await engine.containers.remove(id_, force=True)
            async for sample in follower:
                assert sample.id == id_
    finally:
        follower.close()
        second.close()


async def test_one_sample(engine):
    id_ = await engine.run("sleep", "1000")
    at_once = await engine.containers.stats_once(id_, primed=False)
    assert at_once.memory_stats.usage > 0
    assert at_once.precpu_stats.cpu_usage.total_usage == 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    primed = await engine.containers.stats_once(id_, primed=True)
    assert primed.precpu_stats.system_cpu_usage > 0
    assert loop.time() - began > PERIOD / 2
    off = await engine.containers.stats_once(await engine.create("true"), primed=True)
    assert (off.read, off.memory_stats.usage) == ("0001-01-01T00:00:00Z", 0)


async def test_processes(engine):
    id_ = await engine.run("sh", "-c", "sleep 1000 & exec sleep 2000")
    async with asyncio.timeout(20):
        while len((answer := await engine.containers.top(id_, "")).processes or ()) < 2:
            pass
    assert answer.titles == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert sorted(row[-1] for row in answer.processes) == ["sleep 1000", "sleep 2000"]
    pid = str((await shown(engine, id_)).state.pid)
    answer = await engine.containers.top(id_, "-o pid,comm,args")
    assert [pid, "sleep", "sleep 2000"] in answer.processes
    for arguments, error, said in (
        ("-o comm", InternalError, "Couldn't find PID field in ps output"),
        ("-o comm=PID", InvalidParameter, 'specifying "comm=PID" is not allowed'),
        ("--such-an-option", InternalError, "^ps: "),
    ):
        with pytest.raises(error, match=said):
            await engine.containers.top(id_, arguments)
    await engine.containers.kill(id_)
    with pytest.raises(Conflict, match="is not running"):
        await engine.containers.top(id_, "")
    assert "top" in await engine.actions("die")


@pytest.mark.parametrize("path", ["", "/nowhere"])
async def test_a_command_line_cannot_forge_rows(engine, monkeypatch, path):
    if path:
        monkeypatch.setenv("PATH", path)
    forged = f"x\nroot {os.getpid()} 0 0 00:00 ? 00:00:00 forged\n"
    id_ = await engine.run("sh", "-c", "while :; do sleep 1000; done", forged)
    pid = str((await shown(engine, id_)).state.pid)
    rows = (await engine.containers.top(id_, "")).processes
    assert pid in [row[1] for row in rows]
    assert str(os.getpid()) not in [row[1] for row in rows]
    assert not [word for row in rows for word in row if "\n" in word]


@pytest.mark.parametrize(
    "arguments", ["-ef", "aux", "-o pid,ppid,user,group,comm,stat,tty,vsz,rss,nlwp,ni,args", "-eo pid,time"]
)
async def test_processes_look_the_same_where_the_host_has_no_ps(engine, monkeypatch, arguments):
    if shutil.which("ps") is None:
        pytest.skip("there is nothing to compare with")
    id_ = await engine.run("sleep", "1000")
    with_ps = await engine.containers.top(id_, arguments)
    monkeypatch.setenv("PATH", "/nowhere")
    without = await engine.containers.top(id_, arguments)
    assert without.titles == with_ps.titles
    volatile = {"C", "%CPU", "%MEM", "TIME", "STAT"}
    for one, other in zip(with_ps.processes, without.processes, strict=True):
        for title, expected, value in zip(with_ps.titles, one, other, strict=True):
            assert title in volatile or value == expected, title
