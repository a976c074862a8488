"""Repositories as contexts and for ADD: checked out once for each commit, and kept.

Source: BuildKit source/git/source.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from boxshipd.builder.cache.fetched import Fetched
from boxshipd.builder.errors import SourceMissing
from boxshipd.builder.executor import Work
from boxshipd.builder.graph import GitSource
from boxshipd.builder.ops.fetched import FetchedTree
from boxshipd.builder.ops.git_program import Git, git_for, program, shown
from boxshipd.builder.results import Result, Tree
from boxshipd.builder.trees.directory import DirectoryTree
from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.images.unpack.removal import remove_tree
from boxshipd.images.workers import Workers

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_CHECKSUM = re.compile(r"[0-9a-f]{7,64}")
_TREE, _REPOSITORY = "tree", "repository"


class GitExecutor:
    """Carries out ``GitSource``.

    Args:
        fetched: where checkouts are kept.
        workers: threads.
        proxies: variables that name proxies.
    """

    def __init__(self, fetched: Fetched, workers: Workers, proxies: Callable[[], Mapping[str, str]] = dict) -> None:
        self._fetched = fetched
        self._workers = workers
        self._proxies = proxies

    async def key(self, op: GitSource, work: Work) -> str:
        """See Executor. Which commit a branch is has to be asked for; what is made of it depends on its content alone."""
        if not _COMMIT.fullmatch(op.ref):
            return ""
        return f"sha256:{hashlib.sha256(msgspec.json.encode(['git', op], order='deterministic')).hexdigest()}"

    async def run(self, op: GitSource, work: Work) -> list[Result]:
        """See Executor.

        Raises:
            InvalidParameter: it isn't a repository, or not the commit that the checksum says.
            NotFound: there is no such repository, branch, tag or commit.
            SourceMissing: it hasn't the directory.
            NotImplementedHere: git isn't installed.
        """
        program()
        if op.checksum and not _CHECKSUM.fullmatch(op.checksum):
            raise InvalidParameter(f"invalid checksum {op.checksum!r}: expected 7 to 64 hexadecimal digits")
        # At once: a thread would make it even where nobody waits for it any more, and nobody would remove it.
        new = self._fetched.new()
        try:
            home = f"{new}/home"
            os.mkdir(home, 0o700)
            tell = partial(work.report.log, 2)
            async with git_for(op.remote, work.around.session, home, self._proxies(), tell) as git:
                return [await self._checked_out(op, git, new)]
        except NotFound as error:
            if isinstance(error, SourceMissing):
                raise
            raise NotFound(f"failed to fetch {shown(op.remote)}: {error}") from error
        finally:
            await self._workers.run(lambda: remove_tree(new))

    async def _checked_out(self, op: GitSource, git: Git, new: str) -> Tree:
        commit, name = await _resolve(op, git, new)
        if op.checksum and not commit.startswith(op.checksum):
            raise InvalidParameter(f"expected checksum to match {op.checksum}, got {commit}")
        keep = op.keep_git_dir and not op.directory.strip("/")
        parts = (op.remote, commit, str(keep), name if keep else "", *(() if op.submodules else ("alone",)))
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        directory = await self._workers.run(lambda: self._fetched.find(key))
        if directory is None:
            await _fetch(op, git, new, commit, name)
            await _check_out(git, new, commit, submodules=op.submodules)
            about = f"git snapshot for {shown(op.remote)}#{commit}"
            directory = await self._workers.run(lambda: self._kept(new, key, about, keep=keep))
        return await self._workers.run(lambda: self._tree(op, f"{directory}/{_TREE}", key))

    def _kept(self, new: str, key: str, about: str, *, keep: bool) -> str:
        """Put a checkout where others find it. The repository itself is only wanted in it where it is to stay."""
        _drop_repositories(f"{new}/{_TREE}")
        if keep:
            _tidy(f"{new}/{_REPOSITORY}")
            os.rename(f"{new}/{_REPOSITORY}", f"{new}/{_TREE}/.git")
        made = self._fetched.new()
        os.rename(f"{new}/{_TREE}", f"{made}/{_TREE}")
        return self._fetched.keep(made, key, about)

    def _tree(self, op: GitSource, path: str, key: str) -> Tree:
        try:
            inside = op.directory.strip("/")
            if inside:
                whole = DirectoryTree(path)
                try:
                    place = whole.resolve(os.fsencode(inside))
                    entry = whole.entry(place)
                finally:
                    whole.close()
                if entry is None or entry.kind != "directory":
                    raise SourceMissing(f'{shown(op.remote)}: no such directory: "{op.directory}"')
                path = os.path.join(path, os.fsdecode(place))
            return FetchedTree(path, lambda: self._fetched.give_back(key))
        except BaseException:
            self._fetched.give_back(key)
            raise


async def _resolve(op: GitSource, git: Git, new: str) -> tuple[str, str]:
    """The commit that is meant, and the name by which the repository has it; empty where it is a commit's number."""
    if _COMMIT.fullmatch(op.ref):
        return op.ref, ""
    ref = op.ref or "HEAD"
    if ref.startswith("-") or any(character in ref for character in "\0\n*?[\\ ^~:"):
        raise InvalidParameter(f"invalid git reference {ref!r}")
    listed = await git.run("ls-remote", "origin", ref, f"{ref}^{{}}", directory=f"{new}/none")
    lines = [line.partition("\t") for line in listed.decode(errors="replace").splitlines()]
    found = {name: commit for commit, _, name in lines}
    # A branch comes before a tag, as with git-checkout; of a tag that says something, the commit that it is of counts.
    for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}"):
        commit = found.get(f"{name}^{{}}") or found.get(name)
        if commit is not None and _COMMIT.fullmatch(commit) and (name == "HEAD" or name.startswith("refs/")):
            return commit, name
    raise NotFound(f"repository does not contain ref {ref}")


async def _fetch(op: GitSource, git: Git, new: str, commit: str, name: str) -> None:
    """Have a repository with the commit: by itself where the other side gives it so, else with everything."""
    repository = f"{new}/{_REPOSITORY}"
    kind = ("--object-format=sha256",) if len(commit) == 64 else ()
    await git.run("init", "--quiet", "--template=", *kind, "--", repository, directory=repository)
    for setting, value in (("remote.origin.url", shown(op.remote)), ("core.bare", "false")):
        await git.run("config", setting, value, directory=repository)
    fetch = ("fetch", "--quiet", "--no-recurse-submodules", "--force", "--update-shallow")
    wanted = [commit] if not name else [f"{name}:{name}" if name != "HEAD" else "HEAD"]
    with contextlib.suppress(NotFound):
        await git.run(*fetch, "--depth=1", "--no-tags", "origin", *wanted, directory=repository)
        if await _has(git, repository, commit):
            return
    # A branch that has moved on since it was asked for, or a server that gives out no commit by its number.
    everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    shallow = ("--unshallow",) if os.path.exists(f"{repository}/shallow") else ()
    await git.run(*fetch, *shallow, "origin", *everything, directory=repository)
    if not await _has(git, repository, commit):
        raise NotFound(f"repository does not contain commit {commit}")


async def _has(git: Git, repository: str, commit: str) -> bool:
    try:
        await git.run("cat-file", "-e", f"{commit}^{{commit}}", directory=repository)
    except NotFound:
        return False
    return True


async def _check_out(git: Git, new: str, commit: str, *, submodules: bool) -> None:
    repository, tree = f"{new}/{_REPOSITORY}", f"{new}/{_TREE}"
    os.mkdir(tree, 0o755)
    await git.run("checkout", "--quiet", "--force", "--detach", commit, directory=repository, tree=tree)
    if submodules and await asyncio.to_thread(_has_submodules, tree):
        update = ("submodule", "update", "--init", "--recursive", "--depth=1", "--quiet")
        await git.run(*update, directory=repository, tree=tree)


def _has_submodules(tree: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(f"{tree}/.gitmodules").st_mode)
    except FileNotFoundError:
        return False


def _drop_repositories(tree: str) -> None:
    """Remove what submodules have of their repositories among the files: a ``.git`` that says where on this machine it was."""
    pending = [tree]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.name == ".git":
                    if entry.is_dir(follow_symlinks=False):
                        remove_tree(entry.path)
                    else:
                        os.unlink(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


def _tidy(repository: str) -> None:
    """Take out of a repository what is only of this fetch."""
    for name in ("FETCH_HEAD", "ORIG_HEAD"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{repository}/{name}")
    for name in ("logs", "modules"):
        remove_tree(f"{repository}/{name}")
