"""Containers through their states, on the real runtime."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket

import pytest
from boxship.types.host import LogConfig, RestartPolicy
from boxshipd.containers.service import AttachOptions
from boxshipd.errors import Conflict, InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.runtime.errors import StartFailed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")

FOREVER = ("sleep", "1000")


async def test_a_container_runs_and_tells_its_exit_status(engine):
    id_ = await engine.create("sh", "-c", "exit 7", name="seven")
    waiting = await engine.containers.wait("seven", "next-exit")
    assert (await engine.containers.inspect("seven")).state.status == "created"
    assert await engine.containers.start(id_[:12]) is True
    assert (await waiting).status_code == 7
    state = (await engine.containers.inspect("/seven")).state
    assert (state.status, state.exit_code, state.running, state.pid) == ("exited", 7, False, 0)
    assert state.started_at < state.finished_at
    await engine.containers.remove("seven")
    with pytest.raises(NotFound, match="No such container: seven"):
        await engine.containers.inspect("seven")
    assert await engine.actions("destroy") == ["create", "start", "die", "destroy"]
    await engine.parts.settle()
    assert engine.directories() == set()
    assert os.listdir(f"{engine.settings.data_root}/trash") == []


async def test_die_tells_exit_code_image_name_and_labels(engine):
    await engine.run("sh", "-c", "exit 3", name="labelled", annotations={"a": "b"})
    attributes = await engine.event("die")
    assert attributes == {"image": "boxship/base", "name": "labelled", "exitCode": "3", "execDuration": "0"}


async def test_many_short_lives_at_once_all_end_and_go(engine):
    """An exit may be told before, with or after the answer to its start."""

    async def cycle(number: int) -> int:
        id_ = await engine.create("sh", "-c", f"exit {number}")
        waiting = await engine.containers.wait(id_, "next-exit")
        await engine.containers.start(id_)
        code = (await waiting).status_code
        await engine.containers.remove(id_)
        return code

    assert await asyncio.gather(*(cycle(number) for number in range(40))) == list(range(40))
    await engine.parts.settle()
    assert engine.directories() == set()


async def test_operations_on_one_container_in_any_order_keep_it_sane(engine):
    async def abuse(seed: int) -> None:
        chance = random.Random(seed)
        id_ = await engine.create(*FOREVER)
        acts = {
            "start": lambda: engine.containers.start(id_),
            "kill": lambda: engine.containers.kill(id_),
            "stop": lambda: engine.containers.stop(id_, timeout=0),
            "restart": lambda: engine.containers.restart(id_, timeout=0),
            "remove": lambda: engine.containers.remove(id_, force=chance.random() < 0.3),
            "inspect": lambda: engine.containers.inspect(id_),
        }
        outcomes = await asyncio.gather(*(acts[chance.choice(list(acts))]() for _ in range(12)), return_exceptions=True)
        odd = [error for error in outcomes if isinstance(error, BaseException) and not isinstance(error, Conflict | NotFound)]
        assert odd == []
        with contextlib.suppress(NotFound):
            await engine.containers.remove(id_, force=True)

    await asyncio.gather(*(abuse(seed) for seed in range(12)))
    await engine.parts.settle()
    assert await engine.containers.list(all=True) == []
    assert engine.directories() == set()


async def test_output_reaches_the_log(engine):
    id_ = await engine.run("echo", "hello")
    await engine.result(id_)
    with open((await engine.containers.inspect(id_)).log_path, encoding="utf-8") as log:
        assert '"log":"hello\\n","stream":"stdout"' in log.read()


async def test_starting_twice_changes_nothing(engine):
    id_ = await engine.create(*FOREVER)
    answers = await asyncio.gather(*(engine.containers.start(id_) for _ in range(5)))
    assert sorted(answers) == [False, False, False, False, True]
    assert await engine.containers.start(id_) is False


async def test_a_missing_program_is_127_and_the_container_stays_created(engine):
    id_ = await engine.create("no-such-program")
    with pytest.raises(StartFailed, match="executable file not found in \\$PATH"):
        await engine.containers.start(id_)
    state = (await engine.containers.inspect(id_)).state
    assert (state.status, state.exit_code) == ("created", 127)
    assert "no-such-program" in state.error


async def test_a_failed_start_removes_a_container_that_removes_itself(engine):
    id_ = await engine.create("no-such-program", auto_remove=True)
    waiting = await engine.containers.wait(id_, "removed")
    with pytest.raises(StartFailed):
        await engine.containers.start(id_)
    assert (await waiting).status_code == 127
    with pytest.raises(NotFound):
        await engine.containers.inspect(id_)


async def test_auto_remove_tells_the_exit_status_to_those_who_wait_for_the_removal(engine):
    id_ = await engine.create("sh", "-c", "exit 9", auto_remove=True)
    waiting = await engine.containers.wait(id_, "removed")
    await engine.containers.start(id_)
    assert (await waiting).status_code == 9
    await engine.parts.settle()
    assert engine.directories() == set()


async def test_stop_asks_and_the_container_obeys(engine):
    id_ = await engine.obedient("TERM", 5)
    assert await engine.containers.stop(id_) is True
    assert (await engine.containers.inspect(id_)).state.exit_code == 5
    assert await engine.containers.stop(id_) is False
    assert await engine.actions("stop") == ["create", "start", "kill", "die", "stop"]


async def test_stop_kills_what_does_not_obey(engine):
    id_ = await engine.run(*FOREVER)
    assert await engine.containers.stop(id_, timeout=0) is True
    assert (await engine.containers.inspect(id_)).state.exit_code == 137
    assert await engine.actions("stop") == ["create", "start", "kill", "kill", "die", "stop"]


async def test_a_stopping_container_can_be_seen_and_killed_meanwhile(engine):
    id_ = await engine.run(*FOREVER)
    stopping = asyncio.create_task(engine.containers.stop(id_, timeout=1000))
    await engine.event("kill")
    assert (await engine.containers.inspect(id_)).state.running
    assert [row.state for row in await engine.containers.list()] == ["running"]
    jobs = engine.scheduler.jobs
    await engine.until(lambda: [job.state for job in jobs() if job.kind == "stop"] == ["waiting"], "the stop waits")
    await engine.containers.kill(id_)
    assert await stopping is True
    assert (await engine.containers.inspect(id_)).state.exit_code == 137


async def test_kill_sends_any_signal(engine):
    id_ = await engine.obedient("USR1", 21)
    await engine.containers.kill(id_, "SIGUSR1")
    assert await engine.result(id_) == 21
    with pytest.raises(Conflict, match=f"cannot kill container: {id_}: container {id_} is not running"):
        await engine.containers.kill(id_)
    with pytest.raises(InvalidParameter, match="invalid signal: NOSUCH"):
        await engine.containers.kill(id_, "NOSUCH")


async def test_restart_stops_and_starts(engine):
    id_ = await engine.obedient("TERM", 0)
    before = (await engine.containers.inspect(id_)).state.pid
    await engine.containers.restart(id_)
    after = (await engine.containers.inspect(id_)).state
    assert after.running
    assert after.pid != before
    assert await engine.actions("restart") == ["create", "start", "kill", "die", "stop", "start", "restart"]


async def test_a_running_container_is_removed_only_by_force(engine):
    id_ = await engine.run(*FOREVER, name="stubborn")
    with pytest.raises(Conflict, match='cannot remove container "/stubborn": container is running: stop the container before'):
        await engine.containers.remove("stubborn")
    await engine.containers.remove("stubborn", force=True)
    assert await engine.actions("destroy") == ["create", "start", "kill", "die", "destroy"]
    with pytest.raises(NotFound):
        await engine.containers.wait(id_)


async def test_removal_by_force_wins_over_a_start_under_way(engine):
    for _ in range(5):
        id_ = await engine.create(*FOREVER)
        starting = asyncio.create_task(engine.containers.start(id_))
        await asyncio.sleep(0)
        await engine.containers.remove(id_, force=True)
        assert await asyncio.gather(starting, return_exceptions=True) in ([True],)
    await engine.parts.settle()
    assert engine.directories() == set()


async def test_many_removals_of_one_container_succeed_once(engine):
    id_ = await engine.run(*FOREVER)
    outcomes = await asyncio.gather(*(engine.containers.remove(id_, force=True) for _ in range(4)), return_exceptions=True)
    assert outcomes.count(None) == 1
    assert all(isinstance(outcome, NotFound | Conflict) for outcome in outcomes if outcome is not None)


async def test_a_name_belongs_to_one_container_and_can_be_changed(engine):
    first = await engine.create(*FOREVER, name="mine")
    with pytest.raises(Conflict) as conflict:
        await engine.create(*FOREVER, name="mine")
    assert str(conflict.value) == (
        f'Conflict. The container name "/mine" is already in use by container "{first}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    await engine.containers.rename("mine", "yours")
    assert (await engine.containers.inspect("yours")).name == "/yours"
    second = await engine.create(*FOREVER, name="mine")
    with pytest.raises(Conflict, match="Error when allocating new name: Conflict"):
        await engine.containers.rename(second, "yours")
    with pytest.raises(InvalidParameter, match="same name as its current name"):
        await engine.containers.rename(second, "mine")
    await engine.event("create")
    assert (await engine.event("rename"))["oldName"] == "/mine"


async def test_an_image_is_needed(engine):
    engine_image = "no/such:thing"
    from boxship.types.containers import CreateRequest

    with pytest.raises(NotFound, match="No such image: no/such:thing"):
        await engine.containers.create("", CreateRequest(image=engine_image, cmd=["x"]))
    assert engine.directories() == set()


async def test_a_policy_restarts_with_growing_delays_until_it_has_had_enough(engine):
    id_ = await engine.run("sh", "-c", "exit 4", restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=2))
    actions = []
    while actions.count("die") < 3:
        actions += await engine.actions("die")
    assert actions == ["create", "start", "die", "start", "die", "start", "die"]
    state = await engine.containers.inspect(id_)
    assert (state.restart_count, state.state.status, state.state.exit_code) == (2, "exited", 4)


async def test_stop_ends_a_container_that_waits_to_be_restarted(engine):
    id_ = await engine.run("sh", "-c", "exit 4", restart_policy=RestartPolicy(name="always"))
    await engine.event("die")
    await engine.event("die")
    await engine.event("die")
    assert (await engine.containers.inspect(id_)).state.status == "restarting"
    assert await engine.containers.stop(id_) is True
    assert (await engine.containers.inspect(id_)).state.status == "exited"
    await engine.containers.remove(id_)


async def test_a_stopped_container_is_not_restarted_by_its_policy(engine):
    id_ = await engine.run(*FOREVER, restart_policy=RestartPolicy(name="always"))
    await engine.containers.stop(id_, timeout=0)
    assert (await engine.containers.inspect(id_)).state.status == "exited"


async def test_prune_takes_what_does_not_run(engine):
    running = await engine.run(*FOREVER)
    ended = await engine.run("sh", "-c", "echo 12345 > /file")
    await engine.result(ended)
    created = await engine.create(*FOREVER)
    answer = await engine.containers.prune(Filters())
    assert set(answer.containers_deleted or ()) == {ended, created}
    assert answer.space_reclaimed >= 6
    assert [row.id for row in await engine.containers.list(all=True)] == [running]


async def test_ps_shows_words_and_filters_select(engine):
    running = await engine.run(*FOREVER, name="one")
    ended = await engine.run("sh", "-c", "exit 2", name="two")
    await engine.result(ended)
    created = await engine.create("echo", "a b", name="three")
    rows = await engine.containers.list(all=True)
    assert [row.id for row in rows] == [created, ended, running]
    assert [row.status for row in rows] == ["Created", "Exited (2) Less than a second ago", "Up Less than a second"]
    assert rows[0].command == "echo 'a b'"
    assert [row.id for row in await engine.containers.list()] == [running]
    assert [row.id for row in await engine.containers.list(limit=2)] == [created, ended]

    async def selected(**filters: str) -> list[str]:
        chosen = await engine.containers.list(all=True, filters=Filters({k.replace("_", "-"): [v] for k, v in filters.items()}))
        return [row.names[0] for row in chosen]

    assert await selected(name="^/t") == ["/three", "/two"]
    assert await selected(status="exited") == ["/two"]
    assert await selected(exited="2") == ["/two"]
    assert await selected(id=created[:8]) == ["/three"]
    assert await selected(before="two") == ["/one"]
    assert await selected(since="two") == ["/three"]
    assert await selected(ancestor="boxship/base") == ["/three", "/two", "/one"]
    assert await selected(ancestor="nothing") == []
    assert await selected(network="none") == ["/three", "/two", "/one"]
    with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
        await selected(colour="red")


async def test_attaching_before_the_start_sees_the_first_byte(engine):
    id_ = await engine.create("sh", "-c", "echo out; echo err >&2; exit 1")
    ours, theirs = socket.socketpair()
    slot = await engine.containers.attachable(id_, AttachOptions(stdout=True, stderr=True, stream=True))
    assert slot.tty is False
    await slot.hand_over(theirs.detach())
    await engine.containers.start(id_)
    data = await asyncio.to_thread(_read_all, ours)
    frames = {(b"\1\0\0\0\0\0\0\4", b"out\n"), (b"\2\0\0\0\0\0\0\4", b"err\n")}
    assert {(data[:8], data[8:12]), (data[12:20], data[20:])} == frames
    assert await engine.actions("die") == ["create", "attach", "start", "die"]


async def test_a_client_that_is_slow_to_read_its_head_misses_nothing_of_a_start(engine):
    id_ = await engine.create("echo", "first")
    ours, theirs = socket.socketpair()
    theirs.sendall(b"head")
    slot = await engine.containers.attachable(id_, AttachOptions(stdout=True, stream=True))
    handed_over = asyncio.create_task(slot.hand_over(theirs.detach()))
    await engine.containers.start(id_)
    assert await engine.result(id_) == 0
    await handed_over
    assert await asyncio.to_thread(_read_all, ours) == b"head\1\0\0\0\0\0\0\6first\n"


async def test_attaching_to_a_running_terminal_types_and_resizes(engine):
    id_ = await engine.run("sh", "-c", "read line; echo got $line; stty size", tty=True)
    ours, theirs = socket.socketpair()
    slot = await engine.containers.attachable(id_, AttachOptions(stdin=True, stdout=True, stream=True))
    assert slot.tty is True
    await slot.hand_over(theirs.detach(), b"")
    await engine.containers.resize(id_, 33, 77)
    ours.sendall(b"word\n")
    data = await asyncio.to_thread(_read_all, ours)
    assert b"got word\r\n" in data
    assert await engine.result(id_) == 0


async def test_a_client_that_waits_for_a_start_is_let_go_at_the_removal(engine):
    id_ = await engine.create(*FOREVER)
    ours, theirs = socket.socketpair()
    slot = await engine.containers.attachable(id_, AttachOptions(stdout=True, stream=True))
    await slot.hand_over(theirs.detach())
    await engine.containers.remove(id_)
    assert await asyncio.to_thread(_read_all, ours) == b""


async def test_attach_replays_the_log(engine):
    id_ = await engine.run("echo", "before")
    await engine.result(id_)
    ours, theirs = socket.socketpair()
    slot = await engine.containers.attachable(id_, AttachOptions(stdout=True, stderr=True, logs=True))
    await slot.hand_over(theirs.detach())
    assert await asyncio.to_thread(_read_all, ours) == b"\1\0\0\0\0\0\0\7before\n"


async def test_local_logs_are_kept(engine):
    id_ = await engine.run("echo", "hello", log_config=LogConfig(type="local"))
    await engine.result(id_)
    source = await engine.containers.log_source(id_)
    assert os.path.getsize(source.log.path) > 0


async def test_one_container_joins_the_network_of_another(engine):
    donor = await engine.run(*FOREVER, name="donor")
    pid = (await engine.containers.inspect(donor)).state.pid
    id_ = await engine.joined("container:donor")
    await engine.containers.start(id_)
    own = (await engine.containers.inspect(id_)).state.pid
    assert os.readlink(f"/proc/{own}/ns/net") == os.readlink(f"/proc/{pid}/ns/net")
    assert (await engine.containers.inspect(id_)).host_config.network_mode == f"container:{donor}"
    await engine.containers.remove(donor, force=True)
    await engine.containers.stop(id_, timeout=0)
    with pytest.raises((Conflict, NotFound)):
        await engine.containers.start(id_)


def _read_all(sock: socket.socket) -> bytes:
    with sock:
        sock.settimeout(20)
        return b"".join(iter(lambda: sock.recv(65536), b""))
