"""Repositories over ssh, from a real server: who may come in, and who the server must be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from boxrun.container.spec import Resources
from boxshipd.builder.cache.fetched import Fetched
from boxshipd.builder.executor import Surroundings, Work
from boxshipd.builder.graph import GitSource, Vertex
from boxshipd.builder.ops import git_program
from boxshipd.builder.ops.git import GitExecutor
from boxshipd.builder.progress import Reporter
from boxshipd.builder.results import Tree
from boxshipd.errors import NotFound
from boxshipd.images.workers import Workers
from support.building import Client
from support.daemon import Daemon
from support.git_server import Repository
from support.ssh import SSHD, SSHServer

pytestmark = pytest.mark.skipif(SSHD is None or shutil.which("ssh-agent") is None, reason="needs OpenSSH")


@pytest.fixture(scope="module")
def server() -> Iterator[SSHServer]:
    with SSHServer() as server:
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "work", tmp_path / "project.git")
    repository.commit({"file": "over ssh\n"})
    repository.publish()
    return repository


class Checkouts:
    """Carries out ``GitSource`` for a client with an agent, or without one."""

    def __init__(self, home: Path, workers: Workers) -> None:
        self.home = home / "fetched"
        self.client = Client()
        self.executor = GitExecutor(Fetched(str(self.home), "source.git.checkout"), workers)

    def use(self, path: str) -> None:
        """Have the client forward an agent."""

        def connected() -> int:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            return sock.detach()

        self.client.agents["default"] = connected

    async def file(self, remote: str, **op) -> str:
        vertex = Vertex(op=GitSource(remote=remote, **op))
        work = Work(vertex, (), Surroundings(self.client, Resources()), Reporter(vertex, lambda _: None))
        (tree,) = await self.executor.run(vertex.op, work)
        assert isinstance(tree, Tree)
        with contextlib.closing(tree), tree.directory() as directory:
            return await asyncio.to_thread(Path(directory, "file").read_text)


@pytest.fixture
async def checkouts(home: Path) -> AsyncIterator[Checkouts]:
    with Workers() as workers:
        checkouts = Checkouts(home, workers)
        yield checkouts
        left = [name for name in os.listdir(checkouts.home) if name.startswith("new-")]
        assert left == [], "neither an agent's socket nor a host's key is left"


@pytest.fixture
def agent(server: SSHServer, checkouts: Checkouts) -> Iterator[str]:
    with server.agent() as path:
        checkouts.use(path)
        yield path


def known(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Have the machine know hosts."""
    monkeypatch.setattr(git_program, "_KNOWN_HOSTS", str(path))


@pytest.mark.usefixtures("agent")
async def test_a_client_s_agent_opens_the_door(server: SSHServer, checkouts: Checkouts, repository: Repository) -> None:
    remote = f"{server.address}{repository.served}"
    assert await checkouts.file(remote) == "over ssh\n"
    repository.commit({"file": "changed\n"})
    repository.publish()
    assert await checkouts.file(remote, ref="main") == "changed\n"


async def test_without_an_agent_nobody_comes_in(server: SSHServer, checkouts: Checkouts, repository: Repository) -> None:
    with pytest.raises(NotFound, match="Permission denied"):
        await checkouts.file(f"{server.address}{repository.served}")


@pytest.mark.usefixtures("agent")
async def test_a_host_that_the_machine_knows_is_taken_by_its_key(
    server: SSHServer, checkouts: Checkouts, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, server.known)
    assert await checkouts.file(f"{server.address}{repository.served}") == "over ssh\n"


@pytest.mark.usefixtures("agent")
async def test_another_key_than_the_machine_knows_is_refused(
    server: SSHServer, checkouts: Checkouts, repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await asyncio.to_thread(
        subprocess.run, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True
    )
    (tmp_path / "known").write_text(server.known_as(tmp_path / "other.pub"))
    known(monkeypatch, tmp_path / "known")
    before = server.log.read_text().count("Accepted publickey")
    with pytest.raises(NotFound, match="Host key verification failed"):
        await checkouts.file(f"{server.address}{repository.served}")
    assert server.log.read_text().count("Accepted publickey") == before, "nobody has logged in there"


@pytest.mark.usefixtures("agent")
async def test_what_an_unknown_host_said_once_binds_no_later_build(
    server: SSHServer, checkouts: Checkouts, repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known(monkeypatch, tmp_path / "none")
    remote = f"{server.address}{repository.served}"
    assert await checkouts.file(remote) == "over ssh\n"
    assert not (tmp_path / "none").exists()
    kept = [path for path in checkouts.home.rglob("*") if path.name == "known_hosts"]
    assert kept == [], "keys that nobody vouches for aren't kept"


async def test_it_works_wherever_the_daemon_keeps_its_files(
    server: SSHServer, repository: Repository, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, server.known)
    deep = home / "a b%h" / ("deep" * 30)
    deep.mkdir(parents=True)
    with server.agent() as path, Workers() as workers:
        checkouts = Checkouts(deep, workers)
        checkouts.use(path)
        assert await checkouts.file(f"{server.address}{repository.served}") == "over ssh\n"
        assert not any(path.name in ("a", "b%h") for path in home.iterdir()), "no other path is written to"


async def test_a_build_gets_at_repositories_with_the_agent_that_it_forwards(
    own_daemon: Daemon, server: SSHServer, repository: Repository, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "Dockerfile").write_text(f"FROM busybox\nADD {server.address}{repository.served} /src\n")
    build = ("boxship", "build", "-t", "over:ssh", str(project))
    refused = await asyncio.to_thread(own_daemon.cli, *build, code=None)
    assert refused.returncode != 0
    assert b"Permission denied" in refused.stderr
    with server.agent() as path:
        await asyncio.to_thread(own_daemon.cli, *build[:2], "--ssh", f"default={path}", *build[2:])
        context = f"{server.address}{repository.served}#main"
        (repository.directory / "Dockerfile").write_text("FROM busybox\nCOPY file /file\n")
        repository.commit({})
        repository.publish()
        flags = ("--ssh", f"default={path}", "-t", "context:ssh", context)
        await asyncio.to_thread(own_daemon.cli, "boxship", "build", *flags)
    run = ("docker", "run", "--rm", "--network=none")
    shown = await asyncio.to_thread(own_daemon.cli, *run, "over:ssh", "cat", "/src/file")
    assert shown.stdout == b"over ssh\n"
    assert (await asyncio.to_thread(own_daemon.cli, *run, "context:ssh", "cat", "/file")).stdout == b"over ssh\n"
