"""A container's life through the bus: start, exit, record, release, and everything that can be asked in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from boxrun.bus import BusError, Code
from boxrun.container.spec import Log, Namespace, Resources
from boxrun.supervisor.contract import (
    Attachment,
    AttachRequest,
    ContainerRef,
    Empty,
    ResizeRequest,
    Runtime,
    RuntimeEvent,
    ShutdownRequest,
    SignalRequest,
    StartFailure,
    StartRequest,
)
from support.leaks import leaks
from support.runtime import SupervisorProcess, command_line, eventually


def log_of(path: str) -> str:
    return "".join(json.loads(line)["log"] for line in Path(path).read_text().splitlines())


async def test_exit_status_log_and_record(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sh", "-c", "echo out; echo err >&2; exit 7")
    reply = await supervisor.launch(spec)
    status = await supervisor.exited(spec.id)
    assert (status.exit_code, status.signal, status.lost, status.oom_killed) == (7, 0, False, False)
    assert (status.pid, status.started_at) == (reply.pid, reply.started_at)
    assert status.finished_at > status.started_at > 0
    assert sorted(log_of(spec.log.path).splitlines()) == ["err", "out"]
    record = json.loads(Path(spec.state_dir, "exit.json").read_text())
    assert (record["id"], record["exit_code"], record["lost"]) == (spec.id, 7, False)
    await supervisor.release(spec.id)
    assert os.listdir(spec.state_dir) == []
    assert os.listdir(supervisor.run / "shims") == os.listdir(supervisor.run / "containers") == []
    with pytest.raises(BusError) as caught:
        await supervisor.status(spec.id)
    assert caught.value.code is Code.NOT_FOUND
    await supervisor.release(spec.id)


async def test_events_follow_the_listing_without_a_gap(supervisor: SupervisorProcess) -> None:
    before = supervisor.spec("sleep", "1000")
    await supervisor.launch(before)
    spec = supervisor.spec("true")
    seen: list[RuntimeEvent] = []
    async with supervisor.events() as events:
        await supervisor.launch(spec)
        async for event in events:
            seen.append(event)
            if event.kind == "exited":
                break
    kinds = [(event.kind, event.status.id if event.status else "") for event in seen]
    assert kinds[:2] == [("status", before.id), ("listed", "")]
    assert kinds[2:] == [("started", spec.id), ("exited", spec.id)]


async def test_an_ended_container_starts_again_and_a_running_one_does_not(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sh", "-c", "test -e /tmp/been && exec sleep 1000; echo > /tmp/been; exit 3")
    await supervisor.launch(spec)
    assert (await supervisor.exited(spec.id)).exit_code == 3
    await supervisor.launch(spec)
    assert (await supervisor.status(spec.id)).phase == "running"
    assert os.listdir(spec.state_dir) == []
    with pytest.raises(BusError) as caught:
        await supervisor.launch(spec)
    assert caught.value.code is Code.ALREADY_EXISTS
    with pytest.raises(BusError) as caught:
        await supervisor.release(spec.id)
    assert caught.value.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("program", "exit_code", "message"),
    [("no-such-thing", 127, "executable file not found in $PATH"), ("/etc/passwd", 126, "permission denied")],
)
async def test_a_failed_start_leaves_nothing(supervisor: SupervisorProcess, program: str, exit_code: int, message: str) -> None:
    spec = supervisor.spec(program)
    with pytest.raises(BusError) as caught:
        await supervisor.launch(spec)
    failure = caught.value.detail(StartFailure)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert failure is not None
    assert failure.exit_code == exit_code
    assert message in failure.message
    assert os.listdir(supervisor.run / "shims") == os.listdir(supervisor.run / "containers") == os.listdir(spec.state_dir) == []
    assert not [found for found in leaks(spec.id) if found.startswith("cgroup")]
    await eventually(lambda: not supervisor.shims(spec.id), "its shim is gone")


async def test_a_log_that_cannot_be_opened_fails_the_start(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("true", log=Log(path=str(supervisor.base / "missing/log")))
    with pytest.raises(BusError) as caught:
        await supervisor.launch(spec)
    assert "missing/log" in caught.value.message


async def test_signals(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sleep", "1000", init=True)
    await supervisor.launch(spec)
    await supervisor.bus.unary(Runtime.signal, SignalRequest(id=spec.id, signal=signal.SIGTERM))
    status = await supervisor.exited(spec.id)
    assert status.exit_code == 143
    killed = supervisor.spec("sh", "-c", "sleep 1000 & sleep 1000")
    await supervisor.launch(killed)
    await supervisor.bus.unary(Runtime.signal, SignalRequest(id=killed.id, signal=signal.SIGKILL, everyone=True))
    status = await supervisor.exited(killed.id)
    assert (status.exit_code, status.signal) == (137, 9)
    with pytest.raises(BusError) as caught:
        await supervisor.bus.unary(Runtime.signal, SignalRequest(id=killed.id, signal=signal.SIGKILL))
    assert caught.value.code is Code.FAILED_PRECONDITION


async def test_requests_for_what_is_not_there(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sleep", "1000")
    await supervisor.launch(spec)
    with pytest.raises(BusError, match="no terminal"):
        await supervisor.bus.unary(Runtime.resize, ResizeRequest(id=spec.id, height=10, width=10))
    reader, writer = os.pipe()
    with pytest.raises(BusError) as caught:
        await supervisor.bus.unary(
            Runtime.attach, AttachRequest(id=spec.id, attachment=Attachment(framing="raw")), fds=[reader]
        )
    assert caught.value.code is Code.FAILED_PRECONDITION
    os.close(reader)
    os.close(writer)
    with pytest.raises(BusError) as caught:
        await supervisor.status("f" * 64)
    assert caught.value.code is Code.NOT_FOUND
    with pytest.raises(BusError, match="1 attachments came with 0 descriptors"):
        await supervisor.bus.unary(
            Runtime.start, StartRequest(spec=supervisor.spec("true"), attachments=(Attachment(framing="raw"),))
        )


async def test_joining_another_containers_namespaces(supervisor: SupervisorProcess) -> None:
    first = supervisor.spec("sleep", "1000")
    reply = await supervisor.launch(first)
    joined = supervisor.spec(
        "sh",
        "-c",
        "readlink /proc/self/ns/net; ps",
        namespaces=(Namespace(kind="net", container=first.id), Namespace(kind="pid", container=first.id)),
    )
    await supervisor.launch(joined)
    assert (await supervisor.exited(joined.id)).exit_code == 0
    log = log_of(joined.log.path)
    assert os.readlink(f"/proc/{reply.pid}/ns/net") in log
    assert "sleep 1000" in log
    await supervisor.bus.unary(Runtime.signal, SignalRequest(id=first.id, signal=signal.SIGKILL))
    await supervisor.exited(first.id)
    late = supervisor.spec("true", namespaces=(Namespace(kind="net", container=first.id),))
    with pytest.raises(BusError, match="it is not running"):
        await supervisor.launch(late)


async def test_in_the_hosts_pid_namespace_nothing_outlives_process_1(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sh", "-c", "sleep 98765 & sleep 98765 & echo started", without=("pid",))
    await supervisor.launch(spec)
    assert (await supervisor.exited(spec.id)).exit_code == 0
    assert log_of(spec.log.path) == "started\n"
    await supervisor.release(spec.id)
    assert not leaks(spec.id)


async def test_out_of_memory_is_told(supervisor: SupervisorProcess) -> None:
    limits = Resources(memory=16 << 20, memory_swap=16 << 20)
    spec = supervisor.spec("sh", "-c", "tail /dev/zero; echo tail: $?; sleep 0.2; exec tail /dev/zero", resources=limits)
    kinds = []
    async with supervisor.events() as events:
        await supervisor.launch(spec)
        async for event in events:
            kinds.append(event.kind)
            if event.kind == "exited":
                break
    assert event.status is not None
    assert (event.status.oom_killed, event.status.exit_code) == (True, 137)
    assert "oom" in kinds[: kinds.index("exited")]
    assert "tail: 137" in log_of(spec.log.path)


async def test_a_parked_shim_wakes_for_everything(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sh", "-c", "echo one; trap 'echo two; exit 5' TERM; while :; do sleep 0.05; done")
    quiet = supervisor.spec("sleep", "1000")
    await supervisor.launch(spec)
    await supervisor.launch(quiet)
    await eventually(lambda: supervisor.parked(quiet.id), "the quiet container's worker has parked")
    await supervisor.bus.unary(Runtime.signal, SignalRequest(id=quiet.id, signal=signal.SIGKILL))
    assert (await supervisor.exited(quiet.id)).exit_code == 137
    await eventually(lambda: supervisor.parked(spec.id), "so has the other's")
    await supervisor.bus.unary(Runtime.signal, SignalRequest(id=spec.id, signal=signal.SIGTERM))
    assert (await supervisor.exited(spec.id)).exit_code == 5
    assert log_of(spec.log.path) == "one\ntwo\n"


async def test_shutdown_is_refused_while_containers_run(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sleep", "1000")
    await supervisor.launch(spec)
    with pytest.raises(BusError, match="1 containers are running"):
        await supervisor.bus.unary(Runtime.shutdown, ShutdownRequest())
    assert [status.id for status in (await supervisor.bus.unary(Runtime.list, Empty())).containers] == [spec.id]


async def test_one_supervisor_for_a_run_directory(supervisor: SupervisorProcess) -> None:
    arguments = [sys.executable, "-m", "boxrun.main", "supervisor", "--run-dir", str(supervisor.run)]
    second = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert "a supervisor is running there already" in second.stderr
    assert (await supervisor.bus.unary(Runtime.features, Empty())).version


async def test_nothing_of_ours_can_be_written_through_proc(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sleep", "1000")
    await supervisor.launch(spec)
    for pid in (supervisor.zygote(), *supervisor.shims(spec.id)):
        fd = os.open(f"/proc/{pid}/exe", os.O_PATH)
        assert os.fstatvfs(fd).f_flag & os.ST_RDONLY
        os.close(fd)
        with pytest.raises(OSError, match=r"Text file busy|Read-only file system"):
            os.open(f"/proc/{pid}/exe", os.O_WRONLY)
    assert command_line(supervisor.zygote()).startswith(b"boxrun-zygote")


async def test_a_large_environment_travels(supervisor: SupervisorProcess) -> None:
    env = ("PATH=/bin", *(f"V{number}={'x' * 100_000}" for number in range(15)))
    spec = supervisor.spec("sh", "-c", "echo ${#V14}", env=env)
    await supervisor.launch(spec)
    assert (await supervisor.exited(spec.id)).exit_code == 0
    assert log_of(spec.log.path) == "100000\n"


async def test_many_at_once(supervisor: SupervisorProcess) -> None:
    specs = [supervisor.spec("sh", "-c", f"exit {number}") for number in range(24)]
    await asyncio.gather(*(supervisor.launch(spec) for spec in specs))
    ends = await asyncio.gather(*(supervisor.exited(spec.id) for spec in specs))
    assert [status.exit_code for status in ends] == list(range(24))
    await asyncio.gather(*(supervisor.release(spec.id) for spec in specs))
    with pytest.raises(BusError):
        await supervisor.bus.unary(Runtime.status, ContainerRef(id=specs[0].id))
