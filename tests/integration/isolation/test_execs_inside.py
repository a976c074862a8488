"""Further programs in containers of every kind: the namespaces, the cgroup and the limits are the container's own."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from boxship.types.execs import ExecCreateRequest
from support.engine import running_engine, user_namespaces

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")

KINDS = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time")


async def run_in(engine, container: str, *command: str, **settings) -> tuple[int, bytes]:
    """Run a program in a container to its end: its exit code and what it wrote."""
    execs = engine.containers.execs
    request = ExecCreateRequest(cmd=list(command), attach_stdout=True, attach_stderr=True, **settings)
    ident = execs.create(container, request)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    written = b""
    with ours:
        await execs.startable(ident).hand_over(theirs.detach(), "raw")
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(ours, 65536):
            written += data
    about = await execs.inspect(ident)
    assert not about.running
    return about.exit_code, written


async def namespaces_of(engine, container: str) -> tuple[dict[str, str], dict[str, str]]:
    """The namespaces of a container's first process and of an exec in it, by kind."""
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in KINDS)
    code, said = await run_in(engine, container, "sh", "-c", script)
    assert code == 0
    pid = (await engine.containers.inspect(container)).state.pid
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS}, dict(zip(KINDS, said.decode().split(), strict=True))


@pytest.mark.parametrize(
    "host", [{}, {"init": True}, {"pid_mode": "host"}, {"privileged": True}, {"ipc_mode": "host", "uts_mode": "host"}]
)
async def test_every_namespace_is_the_containers(engine, host):
    id_ = await engine.run("sleep", "1000", **host)
    first, inside = await namespaces_of(engine, id_)
    assert inside == first


async def test_the_cgroup_is_the_containers(engine):
    id_ = await engine.run("sleep", "1000", memory=64 << 20, pids_limit=50)
    execs = engine.containers.execs
    ident = execs.create(id_, ExecCreateRequest(cmd=["sleep", "1000"]))
    await execs.startable(ident).detached()
    first = (await engine.containers.inspect(id_)).state.pid
    mine = (await execs.inspect(ident)).pid
    assert Path(f"/proc/{mine}/cgroup").read_text() == Path(f"/proc/{first}/cgroup").read_text()
    assert id_ in Path(f"/proc/{mine}/cgroup").read_text()


async def test_one_that_shares_anothers_processes(engine):
    first = await engine.run("sleep", "1000")
    second = await engine.run("sleep", "2000", pid_mode=f"container:{first}")
    ours, inside = await namespaces_of(engine, second)
    assert inside == ours
    _, said = await run_in(engine, second, "ps")
    assert b"sleep 1000" in said and b"sleep 2000" in said  # noqa: PT018 - one list of processes


async def test_settings_of_the_container_hold_for_its_execs(engine):
    id_ = await engine.run("sleep", "1000", security_opt=["no-new-privileges"], cap_drop=["ALL"], group_add=["4321"])
    _, said = await run_in(engine, id_, "sh", "-c", "grep -E 'NoNewPrivs|CapBnd|Seccomp:' /proc/self/status; id -G")
    lines = said.decode().split("\n")
    assert lines[:3] == ["CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
    assert "4321" in lines[3].split()


async def test_what_an_exec_leaves_behind_is_reaped(engine):
    for host in ({}, {"pid_mode": "host"}, {"init": True}):
        id_ = await engine.run("sleep", "1000", **host)
        code, said = await run_in(engine, id_, "sh", "-c", "(sleep 0.05 & echo $!) ; exit 3")
        assert code == 3
        assert said.strip().isdigit()


async def test_a_terminal(engine):
    id_ = await engine.run("sleep", "1000")
    code, said = await run_in(engine, id_, "sh", "-c", "tty; stty size; ls -l /proc/self/fd/0", tty=True, console_size=[33, 77])
    assert code == 0
    assert said.split(b"\r\n")[:2] == [b"/dev/pts/0", b"33 77"]


@pytest.fixture
async def remapped(home):
    async with running_engine(home, **user_namespaces()) as engine:
        yield engine


async def test_a_user_namespace(remapped):
    id_ = await remapped.run("sleep", "1000")
    first, inside = await namespaces_of(remapped, id_)
    assert inside == first
    execs = remapped.containers.execs
    ident = execs.create(id_, ExecCreateRequest(cmd=["sleep", "1000"], user="33:44"))
    await execs.startable(ident).detached()
    mine = (await execs.inspect(ident)).pid
    status = Path(f"/proc/{mine}/status").read_text()
    assert "Uid:\t200033\t200033\t200033\t200033" in status
    assert "Gid:\t300044\t300044\t300044\t300044" in status
    code, said = await run_in(remapped, id_, "sh", "-c", "id -u; tty; touch /made; stat -c %u /made", tty=True, privileged=True)
    assert (code, said.split(b"\r\n")[:3]) == (0, [b"0", b"/dev/pts/0", b"0"])
