"""The daemon and the supervisor die at any moment; the next life tells the truth and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from boxship.types.host import RestartPolicy
from boxshipd.errors import DaemonError, NotFound

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")

FOREVER = ("sleep", "1000")


def _kill_supervisor(engine) -> None:
    os.kill(engine.supervisor_pid(), signal.SIGKILL)


async def test_a_running_container_outlives_the_daemon(engine):
    id_ = await engine.run(*FOREVER)
    before = (await engine.containers.inspect(id_)).state
    engine = await engine.reborn()
    after = (await engine.containers.inspect(id_)).state
    assert (after.status, after.pid, after.started_at) == ("running", before.pid, before.started_at)
    await engine.containers.kill(id_)
    assert await engine.result(id_) == 137


async def test_a_start_that_was_never_acknowledged_is_found_out(engine):
    """The record says only that the container was being started, as it does until a moment after the start."""
    id_ = await engine.create(*FOREVER)
    await engine.containers.start(id_)
    await engine.crash()
    engine = await engine.next_life()
    assert (await engine.containers.inspect(id_)).state.running


async def test_an_exit_while_the_daemon_was_down_is_told_with_its_status(engine):
    id_ = await engine.obedient("TERM", 42)
    pid = (await engine.containers.inspect(id_)).state.pid
    await engine.crash()
    os.kill(pid, signal.SIGTERM)
    await engine.until(lambda: not os.path.exists(f"/proc/{pid}"), "the container has ended")
    engine = await engine.next_life()
    # The process is gone before its shim has the record on the disk: for a moment the runtime may rightly say that it runs.
    assert await engine.result(id_) == 42
    state = (await engine.containers.inspect(id_)).state
    assert (state.status, state.exit_code, state.error) == ("exited", 42, "")
    assert (await engine.event("die"))["exitCode"] == "42"


async def test_what_ended_while_the_daemon_was_down_and_removes_itself_is_gone(engine):
    id_ = await engine.obedient("TERM", 42, auto_remove=True)
    pid = (await engine.containers.inspect(id_)).state.pid
    await engine.crash()
    os.kill(pid, signal.SIGTERM)
    await engine.until(lambda: not os.path.exists(f"/proc/{pid}"), "the container has ended")
    engine = await engine.next_life()
    await engine.event("destroy")
    with pytest.raises(NotFound):
        await engine.containers.inspect(id_)
    await engine.parts.settle()
    assert engine.directories() == set()


async def test_policies_are_applied_when_the_daemon_begins(engine):
    always = await engine.run(*FOREVER, name="always", restart_policy=RestartPolicy(name="always"))
    unless = await engine.run(*FOREVER, name="unless", restart_policy=RestartPolicy(name="unless-stopped"))
    never = await engine.run(*FOREVER, name="never")
    for id_ in (always, unless, never):
        await engine.containers.stop(id_, timeout=0)
    await engine.parts.settle()
    engine = await engine.reborn()
    assert (await engine.event("start"))["name"] == "always"
    assert (await engine.containers.inspect(unless)).state.status == "exited"
    assert (await engine.containers.inspect(never)).state.status == "exited"


async def test_half_made_and_half_removed_containers_are_swept(engine):
    kept = await engine.create(*FOREVER)
    root = f"{engine.settings.data_root}/containers"
    os.makedirs(f"{root}/{'a' * 64}/upper")
    os.makedirs(f"{engine.settings.data_root}/trash/{'b' * 64}.1/work")
    engine = await engine.reborn()
    await engine.parts.settle()
    assert engine.directories() == {kept}
    assert os.listdir(f"{engine.settings.data_root}/trash") == []
    assert (await engine.containers.inspect(kept)).state.status == "created"


async def test_containers_outlive_the_supervisor(engine):
    id_ = await engine.obedient("TERM", 6)
    before = (await engine.containers.inspect(id_)).state.pid
    _kill_supervisor(engine)
    await engine.until(lambda: not engine.link.connected, "the loss is noticed")
    assert (await engine.containers.inspect(id_)).state.pid == before
    assert await engine.containers.stop(id_) is True
    assert await engine.result(id_) == 6


async def test_starting_goes_on_after_the_supervisor_was_killed(engine):
    _kill_supervisor(engine)
    id_ = await engine.run("sh", "-c", "exit 3")
    assert await engine.result(id_) == 3


async def test_starts_that_lose_their_supervisor_end_in_the_truth(engine):
    ids = [await engine.create(*FOREVER) for _ in range(6)]
    starts = [asyncio.create_task(engine.containers.start(id_)) for id_ in ids]
    await asyncio.wait(starts, return_when=asyncio.FIRST_COMPLETED)
    _kill_supervisor(engine)
    outcomes = await asyncio.gather(*starts, return_exceptions=True)
    assert all(outcome is True or isinstance(outcome, DaemonError) for outcome in outcomes)
    for id_, outcome in zip(ids, outcomes, strict=True):
        state = (await engine.containers.inspect(id_)).state
        assert state.running is (outcome is True)
        await engine.containers.remove(id_, force=True)
    await engine.parts.settle()
    assert engine.directories() == set()


async def test_a_container_whose_shim_was_killed_is_lost_not_a_success(engine):
    id_ = await engine.run(*FOREVER)
    pid = (await engine.containers.inspect(id_)).state.pid
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        shim = int(stat.read().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    assert await engine.result(id_) == 255
    assert (await engine.containers.inspect(id_)).state.error


async def test_everything_lost_at_once_is_255(engine):
    id_ = await engine.run(*FOREVER)
    await engine.until(lambda: not engine.containers._registry._dirty, "the start is recorded")
    pid = (await engine.containers.inspect(id_)).state.pid
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        shim = int(stat.read().rpartition(")")[2].split()[1])
    await engine.crash()
    _kill_supervisor(engine)
    os.kill(shim, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    engine = await engine.next_life()
    assert await engine.result(id_) == 255
    await engine.containers.remove(id_)


async def test_closing_leaves_containers_running(engine):
    id_ = await engine.run(*FOREVER)
    await engine.close()
    engine = await engine.next_life()
    assert (await engine.containers.inspect(id_)).state.running


async def test_closing_without_live_restore_stops_them_and_the_policy_starts_them_again(engine):
    engine = await engine.reborn(live_restore=False)
    id_ = await engine.run(*FOREVER, restart_policy=RestartPolicy(name="unless-stopped"))
    await engine.close()
    engine = await engine.next_life()
    assert (await engine.event("start"))["name"] == (await engine.containers.inspect(id_)).name.removeprefix("/")


async def test_removal_that_was_interrupted_can_be_asked_for_again(engine):
    id_ = await engine.run(*FOREVER)
    container = engine.containers._registry.find(id_)
    container.state.removing = True
    await engine.containers._registry.save(container)
    engine = await engine.reborn()
    await engine.containers.remove(id_, force=True)
    assert await engine.containers.list(all=True) == []


async def test_removal_that_was_acknowledged_stays_removed(engine):
    id_ = await engine.run(*FOREVER)
    await engine.containers.remove(id_, force=True)
    engine = await engine.reborn()
    assert await engine.containers.list(all=True) == []
    await engine.parts.settle()
    assert engine.directories() == set()
