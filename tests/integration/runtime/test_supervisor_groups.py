"""Pause, limits, usage and processes of running containers through the bus."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from boxrun.bus import BusError, Code
from boxrun.container.cgroups import detect
from boxrun.container.spec import Namespace, Resources
from boxrun.container.usage import Usage
from boxrun.supervisor.contract import ContainerRef, Runtime, UpdateRequest, UsageReply, UsageRequest
from support.runtime import SupervisorProcess, eventually

BUSY = ("sh", "-c", "while :; do :; done")
MIB = 1 << 20


async def freeze(supervisor: SupervisorProcess, identity: str) -> None:
    await supervisor.bus.unary(Runtime.freeze, ContainerRef(id=identity), timeout=20)


async def thaw(supervisor: SupervisorProcess, identity: str) -> None:
    await supervisor.bus.unary(Runtime.thaw, ContainerRef(id=identity), timeout=20)


async def update(supervisor: SupervisorProcess, identity: str, **limits: object) -> tuple[str, ...]:
    request = UpdateRequest(id=identity, resources=Resources(**limits))  # type: ignore[arg-type]
    return (await supervisor.bus.unary(Runtime.update, request, timeout=20)).warnings


async def usage(supervisor: SupervisorProcess, *identities: str) -> tuple[UsageReply, dict[str, Usage]]:
    reply = await supervisor.bus.unary(Runtime.usage, UsageRequest(ids=identities), timeout=20)
    return reply, {one.id: one for one in reply.containers}


def ticks(pid: int) -> int:
    """Processor time of a process so far, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def frozen(supervisor: SupervisorProcess, identity: str) -> bool:
    return "frozen 1" in next(Path("/sys/fs/cgroup").rglob(f"{supervisor.name}/{identity}/cgroup.events")).read_text()


def limit(supervisor: SupervisorProcess, identity: str, v1: str, v2: str) -> str:
    """A file of the container's group, by its name in either kind of hierarchy."""
    name = v1 if detect().version == "1" else v2
    (found,) = [path for top in ("", "*/") for path in Path("/sys/fs/cgroup").glob(f"{top}{supervisor.name}/{identity}/{name}")]
    return found.read_text().strip()


async def test_a_frozen_container_stands_still_and_says_so(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec(*BUSY)
    pid = (await supervisor.launch(spec)).pid
    await eventually(lambda: ticks(pid) > 1, "it works")
    await freeze(supervisor, spec.id)
    await freeze(supervisor, spec.id)
    assert frozen(supervisor, spec.id)
    assert (await supervisor.status(spec.id)).paused
    before = ticks(pid)
    reply, _ = await usage(supervisor, spec.id)
    machine = reply.system_time
    # The whole machine has gone on for three ticks.
    while (await usage(supervisor))[0].system_time < machine + 30_000_000:
        pass
    assert ticks(pid) == before
    await thaw(supervisor, spec.id)
    assert not (await supervisor.status(spec.id)).paused
    await eventually(lambda: ticks(pid) > before, "it works again")


async def test_a_paused_container_stays_paused_when_the_supervisor_dies(supervisor: SupervisorProcess) -> None:
    paused, held = supervisor.spec(*BUSY), supervisor.spec(*BUSY)
    await supervisor.launch(paused)
    pid = (await supervisor.launch(held)).pid
    await freeze(supervisor, paused.id)
    # As a supervisor leaves a container that dies while it moves the container's processes to another group.
    next(Path("/sys/fs/cgroup").rglob(f"{supervisor.name}/{held.id}/cgroup.freeze")).write_text("1")
    await eventually(lambda: frozen(supervisor, held.id), "it is held")
    await supervisor.kill()
    await supervisor.start()
    assert (await supervisor.status(paused.id)).paused
    assert frozen(supervisor, paused.id)
    assert not (await supervisor.status(held.id)).paused
    before = ticks(pid)
    await eventually(lambda: ticks(pid) > before, "what nobody paused runs on")


async def test_a_paused_containers_end_and_next_run(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sleep", "1000")
    pid = (await supervisor.launch(spec)).pid
    await freeze(supervisor, spec.id)
    assert os.listdir(supervisor.run / "paused") == [spec.id]
    os.kill(pid, 9)
    assert not (await supervisor.exited(spec.id)).paused
    await supervisor.launch(spec)
    assert not (await supervisor.status(spec.id)).paused
    assert os.listdir(supervisor.run / "paused") == []


async def test_what_does_not_run_cannot_be_paused_or_changed(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("true")
    await supervisor.launch(spec)
    await supervisor.exited(spec.id)
    for call in (freeze(supervisor, spec.id), thaw(supervisor, spec.id), update(supervisor, spec.id, cpu_shares=5)):
        with pytest.raises(BusError) as caught:
            await call
        assert caught.value.code is Code.FAILED_PRECONDITION
    with pytest.raises(BusError) as caught:
        await freeze(supervisor, "0" * 64)
    assert caught.value.code is Code.NOT_FOUND
    assert (await usage(supervisor, spec.id, "0" * 64))[1] == {}


async def test_limits_change_all_or_none(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sleep", "1000")
    await supervisor.launch(spec)
    await update(supervisor, spec.id, memory=64 * MIB, cpu_quota=50_000, cpu_period=100_000, pids_limit=7)
    assert limit(supervisor, spec.id, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert limit(supervisor, spec.id, "pids.max", "pids.max") == "7"
    with pytest.raises(BusError) as caught:
        await update(supervisor, spec.id, memory=32 * MIB, pids_limit=9, cpuset_cpus="4095")
    assert "cpuset" in caught.value.message
    assert limit(supervisor, spec.id, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert limit(supervisor, spec.id, "pids.max", "pids.max") == "7"
    assert limit(supervisor, spec.id, "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"


async def test_a_new_limit_counts_at_once_and_for_all_processes(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sh", "-c", "sleep 1000 & sleep 1000 & wait; while :; do sleep 0.01 || exit 3; done")
    await supervisor.launch(spec)
    await eventually(lambda: len(children(supervisor, spec.id)) == 3, "its processes are there")
    await freeze(supervisor, spec.id)
    await update(supervisor, spec.id, pids_limit=3, cpuset_cpus="0")
    assert frozen(supervisor, spec.id), "an update leaves a paused container paused"
    processes = (await supervisor.bus.unary(Runtime.processes, ContainerRef(id=spec.id), timeout=20)).pids
    assert {tuple(os.sched_getaffinity(pid)) for pid in processes} == {(0,)}
    _, found = await usage(supervisor, spec.id)
    assert found[spec.id].tasks is not None
    assert (found[spec.id].tasks.current, found[spec.id].tasks.limit) == (3, 3)
    os.kill(max(processes), 9)
    os.kill(sorted(processes)[1], 9)
    await update(supervisor, spec.id, pids_limit=1)
    await thaw(supervisor, spec.id)
    assert (await supervisor.exited(spec.id)).exit_code in (2, 3)


def children(supervisor: SupervisorProcess, identity: str) -> list[str]:
    path = next(Path("/sys/fs/cgroup").rglob(f"{supervisor.name}/{identity}/cgroup.freeze")).parent / "cgroup.procs"
    return path.read_text().split()


async def test_usage_counts_what_a_container_does(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec(
        "sh", "-c", "head -c 30000000 /dev/zero | tail -c 20000000 | sleep 1000 & while :; do :; done",
        resources=Resources(memory=100 * MIB),
    )  # fmt: skip
    await supervisor.launch(spec)
    idle = supervisor.spec("sleep", "1000")
    await supervisor.launch(idle)
    before, first = await usage(supervisor, spec.id, idle.id)
    async with asyncio.timeout(20):
        while True:
            after, found = await usage(supervisor, spec.id, idle.id)
            one = found[spec.id]
            worked = one.memory and one.memory.usage > 20_000_000 and one.cpu and one.cpu.total > 200_000_000
            worked = worked and one.cpu.total > first[spec.id].cpu.total
            # The machine's time is counted in ticks of 10 ms.
            if worked and after.system_time > before.system_time:
                break
    assert first[spec.id].cpu is not None
    assert first[spec.id].cpu.total < one.cpu.total <= one.read_at
    assert one.cpu.user + one.cpu.system == pytest.approx(one.cpu.total, abs=2_000_000)
    assert one.cpu
    assert one.memory
    assert after.processors == os.sysconf("SC_NPROCESSORS_ONLN")
    assert one.memory.limit == 100 * MIB
    assert {"inactive_file", "active_anon", "pgfault"} <= set(one.memory.details)
    assert one.tasks is not None
    assert one.tasks.current >= 3
    assert found[idle.id].memory is not None
    assert found[idle.id].memory.limit == 0
    assert found[idle.id].tasks is not None
    assert (found[idle.id].tasks.current, found[idle.id].tasks.limit) == (1, 0)
    assert found[idle.id].networks == {}


async def test_interfaces_are_counted_unless_they_are_the_hosts(supervisor: SupervisorProcess) -> None:
    ours, hosts = supervisor.spec("sleep", "1000"), supervisor.spec("sleep", "1000")
    plain = tuple(Namespace(kind=one.kind) for one in hosts.namespaces if one.kind != "net")
    pid = (await supervisor.launch(ours)).pid
    await supervisor.launch(
        type(hosts)(**{name: getattr(hosts, name) for name in hosts.__struct_fields__} | {"namespaces": plain})
    )
    words = f"nsenter -t {pid} -n ip link add box0 type veth peer name box1".split()
    assert await (await asyncio.create_subprocess_exec(*words)).wait() == 0
    _, found = await usage(supervisor, ours.id, hosts.id)
    assert set(found[ours.id].networks) == {"box0", "box1"}
    assert found[ours.id].networks["box0"].received_bytes == 0
    assert found[hosts.id].networks == {}
