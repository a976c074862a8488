"""Repositories as sources: what is checked out, how seldom, and that hostile ones do nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from boxrun.container.spec import Resources
from boxshipd.builder.cache.fetched import Fetched
from boxshipd.builder.errors import SourceMissing
from boxshipd.builder.executor import Surroundings, Work
from boxshipd.builder.graph import GitSource, Vertex
from boxshipd.builder.ops import git_program
from boxshipd.builder.ops.git import GitExecutor
from boxshipd.builder.progress import Reporter
from boxshipd.builder.results import Tree
from boxshipd.errors import InvalidParameter, NotFound, NotImplementedHere
from boxshipd.images.workers import Workers
from support.building import Client
from support.git_server import GitServer, Repository


class Checkouts:
    """Carries out ``GitSource``."""

    def __init__(self, home: Path, workers: Workers) -> None:
        self.home = home / "fetched"
        self.client = Client()
        self.printed = b""
        self.executor = GitExecutor(Fetched(str(self.home), "source.git.checkout"), workers)

    async def get(self, remote: str, **op) -> Tree:
        source = GitSource(remote=remote, **op)
        vertex = Vertex(op=source)
        work = Work(vertex, (), Surroundings(self.client, Resources()), Reporter(vertex, self._sink))
        (tree,) = await self.executor.run(source, work)
        assert isinstance(tree, Tree)
        return tree

    def _sink(self, progress) -> None:
        self.printed += b"".join(log.data for log in progress.logs)

    async def files(self, remote: str, **op) -> dict[str, str]:
        """What a checkout has, by its path."""
        tree = await self.get(remote, **op)
        found = {}
        with tree.directory() as directory:
            for top, directories, names in os.walk(directory):
                for name in (*names, *directories):
                    path = Path(top, name)
                    if ".git" not in path.parts and (path.is_symlink() or path.is_file()):
                        found[str(path.relative_to(directory))] = os.readlink(path) if path.is_symlink() else path.read_text()
        tree.close()
        return found


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[GitServer]:
    server = GitServer(tmp_path / "served")
    server.root.mkdir()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def repository(tmp_path: Path, server: GitServer) -> Repository:
    """One with two commits, a branch and two tags."""
    repository = Repository(tmp_path / "work", server.root / "project.git")
    repository.commit({"file": "first\n", "sub/inner": "inner\n"})
    repository.git("tag", "plain")
    repository.git("tag", "--annotate", "--message", "said", "spoken")
    repository.git("branch", "side")
    repository.commit({"file": "second\n"})
    repository.publish()
    return repository


@pytest.fixture
async def checkouts(tmp_path: Path) -> AsyncIterator[Checkouts]:
    with Workers() as workers:
        checkouts = Checkouts(tmp_path, workers)
        yield checkouts
        assert not [name for name in os.listdir(checkouts.home) if name.startswith("new-")]


async def test_a_branch_a_tag_and_a_commit_are_checked_out(
    checkouts: Checkouts, server: GitServer, repository: Repository
) -> None:
    remote = f"{server.url}/project.git"
    first = {"file": "first\n", "sub/inner": "inner\n"}
    assert await checkouts.files(remote) == {**first, "file": "second\n"}
    for ref in ("side", "plain", "spoken", "refs/heads/side", "refs/tags/spoken", repository.git("rev-parse", "plain")):
        assert await checkouts.files(remote, ref=ref) == first
    tree = await checkouts.get(remote, ref="main")
    entry = tree.entry(b"file")
    assert entry is not None
    assert (entry.mode, entry.uid, entry.gid) == (0o644, 0, 0)
    assert tree.entry(b".git") is None
    tree.close()


async def test_a_commit_that_is_here_is_not_fetched_again(
    checkouts: Checkouts, server: GitServer, repository: Repository
) -> None:
    remote = f"{server.url}/project.git"
    before = await checkouts.get(remote)
    server.asked.clear()
    again = await checkouts.get(remote)
    assert again.digest == before.digest
    # The references are listed, and nothing is fetched.
    assert len(server.asked) == 2
    server.asked.clear()
    await checkouts.files(remote, ref=repository.git("rev-parse", "main"))
    assert server.asked == []
    repository.commit({"file": "third\n"})
    repository.publish()
    assert (await checkouts.files(remote))["file"] == "third\n"
    for tree in (before, again):
        tree.close()


async def test_a_directory_of_it_is_the_tree_and_leads_nowhere_else(
    checkouts: Checkouts, server: GitServer, repository: Repository
) -> None:
    (repository.directory / "out").symlink_to("/etc")
    (repository.directory / "up").symlink_to("../../../../../etc")
    (repository.directory / "in").symlink_to("sub")
    repository.commit({})
    repository.publish()
    remote = f"{server.url}/project.git"
    for directory in ("sub", "/sub/", "in", "../../sub"):
        assert await checkouts.files(remote, directory=directory) == {"inner": "inner\n"}
    for directory in ("none", "file", "out", "up", "../../../etc"):
        with pytest.raises(SourceMissing):
            await checkouts.files(remote, directory=directory)
    assert (await checkouts.files(remote))["out"] == "/etc"


async def test_its_git_directory_is_kept_on_request_without_any_account(
    checkouts: Checkouts, server: GitServer, repository: Repository
) -> None:
    remote = f"{server.url.replace('://', '://me:password@')}/project.git"
    tree = await checkouts.get(remote, keep_git_dir=True)
    with tree.directory() as directory:
        status = await asyncio.to_thread(_status, directory)
        assert status == ""
        config = Path(directory, ".git/config").read_text()
        assert f"{server.url}/project.git" in config
        assert not any(Path(directory, ".git").glob("hooks/*"))
        for top, _, names in os.walk(directory):
            for name in names:
                assert b"password" not in Path(top, name).read_bytes()
    tree.close()


def _status(directory: str) -> str:
    command = ["git", "-c", "safe.directory=*", "status", "--porcelain"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


async def test_a_checksum_is_the_beginning_of_the_commit(
    checkouts: Checkouts, server: GitServer, repository: Repository
) -> None:
    remote, commit = f"{server.url}/project.git", repository.git("rev-parse", "side")
    assert (await checkouts.files(remote, ref="side", checksum=commit[:12]))["file"] == "first\n"
    with pytest.raises(InvalidParameter, match=f"expected checksum to match 0000000, got {commit}"):
        await checkouts.files(remote, ref="side", checksum="0000000")


async def test_a_token_is_sent_where_it_belongs_and_shown_nowhere(
    checkouts: Checkouts, server: GitServer, repository: Repository
) -> None:
    remote = f"{server.url}/project.git"
    server.token = "very-secret-token"
    with pytest.raises(NotFound, match="failed to fetch"):
        await checkouts.files(remote)
    checkouts.client.secrets["GIT_AUTH_TOKEN"] = b"very-secret-token\n"
    assert (await checkouts.files(remote))["file"] == "second\n"
    checkouts.client.secrets = {f"GIT_AUTH_TOKEN.{server.url.removeprefix('http://')}": b"very-secret-token"}
    assert (await checkouts.files(remote, keep_git_dir=True))["file"] == "second\n"
    assert b"very-secret-token" not in checkouts.printed
    for path in checkouts.home.rglob("*"):
        assert path.is_dir() or b"very-secret-token" not in path.read_bytes()


def with_submodule(repository: Repository, server: GitServer, tmp_path: Path) -> Repository:
    """Give a repository another one for a submodule, which is returned."""
    other = Repository(tmp_path / "other", server.root / "other.git")
    other.commit({"module": "module\n"})
    other.publish()
    repository.git("submodule", "--quiet", "add", str(other.served), "deps/other")
    repository.git("config", "--file", ".gitmodules", "submodule.deps/other.url", "../other.git")
    repository.commit({})
    repository.publish()
    return other


async def test_submodules_come_along_from_the_network_only(
    checkouts: Checkouts, server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    other = with_submodule(repository, server, tmp_path)
    remote = f"{server.url}/project.git"
    files = await checkouts.files(remote)
    assert files["deps/other/module"] == "module\n"
    for hostile in (str(other.served), f"file://{other.served}", "ext::sh -c touch% /tmp/boxship-hostile", "-u/x"):
        repository.git("config", "--file", ".gitmodules", "submodule.deps/other.url", hostile)
        repository.commit({"change": hostile})
        repository.publish()
        with pytest.raises(NotFound):
            await checkouts.files(remote)
    assert not os.path.exists("/tmp/boxship-hostile")


async def test_submodules_stay_away_where_they_are_not_wanted(
    checkouts: Checkouts, server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    with_submodule(repository, server, tmp_path)
    remote = f"{server.url}/project.git"
    # In both orders: neither is taken for the other.
    for submodules in (False, True, False):
        server.asked.clear()
        there = "deps/other/module" in await checkouts.files(remote, submodules=submodules)
        assert there == submodules
        assert any("other.git" in path for path in server.asked) == submodules


async def test_neither_the_machine_nor_a_repository_says_what_git_runs(
    checkouts: Checkouts, server: GitServer, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {marker}\n")
    script.chmod(0o755)
    configuration = tmp_path / "gitconfig"
    configuration.write_text(
        f'[core]\n\thooksPath = {tmp_path}\n[filter "evil"]\n\tsmudge = {script}\n[init]\n\ttemplateDir = {tmp_path}\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    monkeypatch.setenv("GIT_EXEC_PATH", str(tmp_path))
    monkeypatch.setenv("GIT_SSH_COMMAND", str(script))
    (tmp_path / "post-checkout").symlink_to(script)
    repository.commit({".gitattributes": "file filter=evil\n", "hooks/post-checkout": script.read_text()})
    repository.publish()
    assert (await checkouts.files(f"{server.url}/project.git"))["file"] == "second\n"
    assert not marker.exists()


@pytest.mark.parametrize(
    "remote", ["/etc", "file:///etc", "ext::sh -c id", "ssh://-oProxyCommand=id/x", "--upload-pack=id", "http://", "a\nb@c:d"]
)
async def test_what_is_no_repository_of_the_network_is_refused(checkouts: Checkouts, remote: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid git repository"):
        await checkouts.get(remote)


async def test_what_is_not_there_is_named(checkouts: Checkouts, server: GitServer, repository: Repository) -> None:
    remote = f"{server.url}/project.git"
    with pytest.raises(NotFound, match="does not contain ref none"):
        await checkouts.get(remote, ref="none")
    with pytest.raises(NotFound, match="failed to fetch"):
        await checkouts.get(remote, ref="0" * 40)
    with pytest.raises(NotFound, match="failed to fetch"):
        await checkouts.get(f"{server.url}/none.git")
    for ref in ("--all", "a b", "x*"):
        with pytest.raises(InvalidParameter, match="invalid git reference"):
            await checkouts.get(remote, ref=ref)


async def test_without_git_it_says_so(checkouts: Checkouts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_program, "_PATH", "/nonexistent")
    with pytest.raises(NotImplementedHere, match="git program"):
        await checkouts.get("https://example.com/x.git")
