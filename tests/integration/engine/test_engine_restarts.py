"""Restart policies under stress, and what clients see of them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest
from boxship.types.host import RestartPolicy
from boxship.types.update import UpdateRequest
from boxshipd.errors import Conflict, NotFound

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")

ALWAYS = RestartPolicy(name="always")


async def test_next_exit_is_told_for_every_run_of_a_container_that_restarts(engine):
    id_ = await engine.create("sh", "-c", "echo >> /n; exit $(wc -l < /n)", restart_policy=ALWAYS)
    waiting = await engine.containers.wait(id_, "next-exit")
    await engine.containers.start(id_)
    codes = []
    for _ in range(3):
        codes.append((await waiting).status_code)
        waiting = await engine.containers.wait(id_, "next-exit")
    assert codes == [1, 2, 3]
    assert (await engine.containers.inspect(id_)).restart_count >= 2
    removed = await engine.containers.wait(id_, "removed")
    await engine.containers.remove(id_, force=True)
    assert (await removed).status_code >= 3
    await waiting


async def test_a_policy_that_has_had_enough_begins_anew_with_a_client(engine):
    id_ = await engine.run("sh", "-c", "exit 5", restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=1))
    for _ in range(2):
        await engine.until(lambda: not engine.containers._registry.find(id_).state.running, "it has had enough")
        shown = await engine.containers.inspect(id_)
        assert (shown.state.status, shown.state.exit_code, shown.restart_count) == ("exited", 5, 1)
        await engine.containers.start(id_)
    await engine.until(lambda: not engine.containers._registry.find(id_).state.running, "it has had enough")


async def test_a_restart_that_can_not_be_is_the_last(engine, tmp_path: Path):
    program = tmp_path / "once"
    program.write_text("#!/bin/sh\nrm /shared/once\nexit 3\n")
    program.chmod(0o755)
    id_ = await engine.run("/shared/once", restart_policy=ALWAYS, binds=[f"{tmp_path}:/shared"])
    await engine.until(lambda: not engine.containers._registry.find(id_).state.running, "it has failed to start")
    shown = await engine.containers.inspect(id_)
    assert (shown.state.status, shown.state.exit_code, shown.restart_count) == ("exited", 127, 1)
    assert "/shared/once" in shown.state.error


async def test_events_of_a_restarting_container(engine):
    id_ = await engine.run("sh", "-c", "exit 5", restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=1))
    await engine.until(lambda: not engine.containers._registry.find(id_).state.running, "it has had enough")
    await engine.containers.remove(id_)
    assert await engine.actions("destroy") == ["create", "start", "die", "start", "die", "destroy"]


async def test_crash_loops_and_clients_at_once(engine):
    """Whatever clients do to containers that keep crashing: nothing hangs, and what was stopped last stays stopped."""

    async def abuse(seed: int) -> None:
        chance = random.Random(seed)
        id_ = await engine.run("sh", "-c", "exit 1", restart_policy=ALWAYS)
        acts = [
            lambda: engine.containers.start(id_),
            lambda: engine.containers.stop(id_, timeout=0),
            lambda: engine.containers.kill(id_),
            lambda: engine.containers.restart(id_, timeout=0),
            lambda: engine.containers.inspect(id_),
        ]
        for _ in range(3):
            outcomes = await asyncio.gather(*(chance.choice(acts)() for _ in range(6)), return_exceptions=True)
            odd = [
                error for error in outcomes if isinstance(error, BaseException) and not isinstance(error, Conflict | NotFound)
            ]
            assert odd == []
        await engine.containers.stop(id_, timeout=0)
        container = engine.containers._registry.find(id_)
        await engine.until(lambda: not container.state.running, "it stays stopped")
        assert engine.parts.timers.pending().count(id_) == 0
        await engine.containers.remove(id_)

    async with asyncio.timeout(60):
        await asyncio.gather(*(abuse(seed) for seed in range(8)))


async def test_a_policy_that_is_changed_counts_from_the_next_exit(engine):
    id_ = await engine.run("sh", "-c", "exit 1", restart_policy=ALWAYS)
    await (await engine.containers.wait(id_, "next-exit"))
    await engine.containers.update(id_, UpdateRequest(restart_policy=RestartPolicy(name="no")))
    await engine.until(lambda: not engine.containers._registry.find(id_).state.running, "it has ended for good")
    id_ = await engine.run("sleep", "1000")
    await engine.containers.update(id_, UpdateRequest(restart_policy=ALWAYS))
    os.kill((await engine.containers.inspect(id_)).state.pid, signal.SIGKILL)
    await engine.until(lambda: engine.containers._registry.find(id_).state.restart_count == 1, "it is started again")


async def test_a_restart_that_was_due_when_the_daemon_died_comes_with_the_next(engine):
    script = "[ -e /go ] && exec sleep 1000; while [ ! -e /go ]; do usleep 5000; done; exit 1"
    id_ = await engine.run("sh", "-c", script, restart_policy=ALWAYS)
    exited = await engine.containers.wait(id_, "next-exit")
    Path(f"/proc/{(await engine.containers.inspect(id_)).state.pid}/root/go").touch()
    await exited
    next_life = await engine.reborn()
    container = next_life.containers._registry.find(id_)
    await next_life.until(lambda: container.state.running and not container.state.restarting and container.state.pid, "it runs")
    assert container.state.restart_count >= 1
