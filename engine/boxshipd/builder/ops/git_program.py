"""The ``git`` program, run so that neither this machine's configuration nor a repository's content has a say in what it does.

Sources: git-config(1), git(1) (environment variables); BuildKit util/gitutil/git_cli.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import urlsplit

from boxshipd.builder.ops import authorization
from boxshipd.builder.ops.execution_agents import agent_socket
from boxshipd.builder.session import Session
from boxshipd.errors import InternalError, InvalidParameter, NotFound, NotImplementedHere

_PROTOCOLS = "http:https:ssh:git"
_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
"""As ssh has it: the keys of hosts that this machine's administrator knows."""
_SECONDS = 1800.0
_TOLD = 2000
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^\0\n]+")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")

# No hooks, no helpers, no programs of anybody's configuration, and no links to objects elsewhere.
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.fsmonitor": "false",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "credential.helper": "",
    "init.defaultBranch": "master",
    "advice.detachedHead": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.version": "2",
    "transfer.bundleURI": "false",
}


class Git:
    """The program, for one repository.

    Args:
        home: a directory of the caller's, for what the program keeps for itself.
        variables: what it is told beside that.
        tell: gets what it says while it works.
    """

    def __init__(self, home: str, variables: Mapping[str, str], tell: Callable[[bytes], None]) -> None:
        self._home = home
        self._variables = variables
        self._tell = tell

    async def run(self, *args: str, directory: str, tree: str = "") -> bytes:
        """Run it; what it prints.

        Args:
            args: its arguments.
            directory: the repository.
            tree: where its files are to be; empty for nowhere.

        Raises:
            NotFound: what was asked for isn't there, in git's words.
            InternalError: it can't be run, or takes too long.
        """
        environment = {
            "PATH": _PATH,
            "HOME": self._home,
            "LC_ALL": "C",
            "GIT_DIR": directory,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
            "GIT_LFS_SKIP_SMUDGE": "1",
            **self._variables,
        }
        if tree:
            environment["GIT_WORK_TREE"] = tree
        try:
            process = await asyncio.create_subprocess_exec(
                # uvloop has no way to set a program's umask.
                *("/bin/sh", "-c", 'umask 022; exec "$@"', "sh", program(), *args),
                cwd=tree or self._home,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise InternalError(f"run git: {error.strerror}") from error
        try:
            async with asyncio.timeout(_SECONDS):
                printed, said = await asyncio.gather(self._printed(process), self._said(process))
                code = await process.wait()
        except TimeoutError as error:
            raise InternalError(f"git {args[0]} takes more than {_SECONDS:g} s") from error
        finally:
            await _end(process)
        if code:
            raise NotFound(f"git {args[0]}: {said or f'exit status {code}'}")
        return printed

    @staticmethod
    async def _printed(process: asyncio.subprocess.Process) -> bytes:
        assert process.stdout is not None
        return await process.stdout.read()

    async def _said(self, process: asyncio.subprocess.Process) -> str:
        """Pass on what it says; the end of it."""
        assert process.stderr is not None
        kept = b""
        while piece := await process.stderr.read(1 << 16):
            piece = _CREDENTIALS.sub("", piece.decode(errors="replace")).encode()
            self._tell(piece)
            kept = (kept + piece)[-_TOLD:]
        return " ".join(kept.decode(errors="replace").split())


async def _end(process: asyncio.subprocess.Process) -> None:
    """Have the program and all it has started be gone."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    waiting = asyncio.ensure_future(process.wait())
    while not waiting.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([waiting])


def program() -> str:
    """Where git is.

    Raises:
        NotImplementedHere: it isn't installed.
    """
    found = shutil.which("git", path=_PATH)
    if found is None:
        raise NotImplementedHere("building from a git repository needs the git program, which isn't installed on this machine")
    return found


@contextlib.asynccontextmanager
async def git_for(
    remote: str, session: Session, home: str, proxies: Mapping[str, str], tell: Callable[[bytes], None]
) -> AsyncIterator[Git]:
    """The program, with whatever the client has to get at a repository, inside the block.

    Args:
        remote: the repository's URL.
        session: the client's side: secrets ``GIT_AUTH_TOKEN`` and ``GIT_AUTH_HEADER``, and its SSH agent ``default``.
        home: an empty directory.
        proxies: variables that name proxies.
        tell: gets what the program says.
    """
    check_remote(remote)
    settings = {**_SETTINGS, "remote.origin.url": remote}
    header = await authorization.of_repository(remote, session)
    if header:
        parts = urlsplit(remote)
        settings[f"http.{parts.scheme}://{parts.netloc.rpartition('@')[2]}/.extraHeader"] = f"Authorization: {header}"
    # Not as arguments, which everybody on this machine can read, with the passwords in them.
    variables = {**proxies, "GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"], variables[f"GIT_CONFIG_VALUE_{number}"] = name, value
    async with contextlib.AsyncExitStack() as stack:
        if _speaks_ssh(remote):
            variables["GIT_SSH_COMMAND"] = _ssh(home)
            with contextlib.suppress(NotFound):
                await stack.enter_async_context(agent_socket(session, "default", f"{home}/agent", 0o600, 0, 0))
                # By its directory's descriptor: a socket's path may be 107 bytes long, and a daemon's directory is anywhere.
                directory = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, directory)
                variables["SSH_AUTH_SOCK"] = f"/proc/{os.getpid()}/fd/{directory}/agent"
        yield Git(home, variables, tell)


def check_remote(remote: str) -> None:
    """Refuse what isn't a repository of the network.

    Raises:
        InvalidParameter: it isn't.
    """
    said = f"invalid git repository {shown(remote)!r}: it must be a URL of http, https, ssh or git"
    if "://" not in remote:
        if not _SCP.fullmatch(remote):
            raise InvalidParameter(said)
        return
    try:
        parts = urlsplit(remote)
        host = parts.hostname or ""
    except ValueError as error:
        raise InvalidParameter(f"{said}: {error}") from None
    # What begins with a dash would be an option to ssh.
    if parts.scheme not in _PROTOCOLS.split(":") or not host or host.startswith("-") or set(remote) & {"\0", "\n"}:
        raise InvalidParameter(said)


def shown(remote: str) -> str:
    """A repository's URL as it may be shown."""
    return _CREDENTIALS.sub("", remote)


def _ssh(home: str) -> str:
    """How to call ssh: a host that this machine knows must be that; of others nobody has said who they are."""
    # Quoted for ssh, to which % and spaces say something, and then for the shell that git calls it by.
    own = os.path.join(home, "known_hosts").replace("%", "%%")
    options = (
        "StrictHostKeyChecking=accept-new",
        "BatchMode=yes",
        f"GlobalKnownHostsFile {_KNOWN_HOSTS}",
        f'UserKnownHostsFile "{own}"',
    )
    return " ".join(["ssh -F /dev/null", *(f"-o {shlex.quote(option)}" for option in options)])


def _speaks_ssh(remote: str) -> bool:
    return "://" not in remote or remote.startswith("ssh://")
