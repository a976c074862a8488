"""How the daemon reaches a supervisor, and starts one where none answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Protocol

import boxrun
import msgspec
from boxrun.bus import BusError, Channel, Code, connect_unix

from boxshipd.errors import Unavailable

CONNECT_TIMEOUT = 20.0
"""Seconds a supervisor gets to come up, and a request waits for one."""

_RETRY = 0.02


class Connector(Protocol):
    """How a supervisor is reached."""

    async def connect(self) -> Channel:
        """A new connection; raises Unavailable where there is no supervisor and none can be started."""


class SupervisorConnector:
    """Connects to the supervisor of a run directory, starting one where none answers.

    Args:
        run_dir: absolute path of the supervisor's directory.
        log_level: what a new supervisor is started with.
    """

    def __init__(self, run_dir: str, log_level: str = "info") -> None:
        self._run_dir = run_dir
        self._log_level = log_level
        self._socket = f"{run_dir}/boxrun.sock"

    async def connect(self) -> Channel:
        """See Connector."""
        channel = await self._attempt()
        if channel is not None:
            return channel
        pid = self._spawn()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONNECT_TIMEOUT
        while loop.time() < deadline:
            await asyncio.sleep(_RETRY)
            channel = await self._attempt()
            if channel is not None:
                return channel
            if not _alive(pid):
                raise Unavailable(f"the supervisor ended while it was being started: see {self._run_dir}/boxrun.log")
        raise Unavailable(f"the supervisor did not answer within {CONNECT_TIMEOUT:g} s: see {self._run_dir}/boxrun.log")

    async def _attempt(self) -> Channel | None:
        try:
            channel = await connect_unix(self._socket, timeout=5.0)
        except BusError as error:
            if error.code in {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}:
                return None
            raise Unavailable(f"connect to the supervisor at {self._socket}: {error.message}") from error
        except OSError:
            return None
        return channel

    def _spawn(self) -> int:
        """Start a supervisor in a session of its own; it writes to a log of its own, for it lives longer than our stderr."""
        os.makedirs(self._run_dir, mode=0o711, exist_ok=True)
        output = os.open(f"{self._run_dir}/boxrun.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            settings = msgspec.json.encode({"run_dir": self._run_dir, "log_level": self._log_level}).decode()
            # Not by way of the runtime's command line, whose parser takes longer to import than all of the supervisor.
            paths = [os.path.dirname(os.path.dirname(boxrun.__file__)), os.environ.get("PYTHONPATH", "")]
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", "boxrun.supervisor", settings],
                os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            raise Unavailable(f"start a supervisor for {self._run_dir}: {error}") from error
        finally:
            os.close(output)
        _reap_when_ended(pid)
        return pid


def _alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}/exe")


def _reap_when_ended(pid: int) -> None:
    """Reap a child when it ends, if it does so before us."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(pid)

    def reap() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

    loop.add_reader(descriptor, reap)
