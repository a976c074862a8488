"""The zygote's keeper: starts the fork server, asks it for shims, and starts another when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys

from boxrun.errors import ZygoteError
from boxrun.shim.protocol import send
from boxrun.supervisor.interpreter import library_path, sealed_interpreter

log = logging.getLogger(__name__)

READY_SECONDS = 20.0
"""How long a zygote may take to import what shims need."""

END_SECONDS = 5.0
"""How long a zygote may take to end once its socket is closed."""

# Without site and environment, so that nothing but these modules is imported; the paths are the supervisor's own.
_BOOTSTRAP = "import sys; sys.path[:] = sys.argv[2:]; from boxrun.zygote import main; main(int(sys.argv[1]))"


class ZygoteKeeper:
    """Owns one zygote at a time. Shims that a dead zygote has forked are none of its business."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._starting = asyncio.Lock()
        self._dead = asyncio.Event()
        self._closing = False

    @property
    def pid(self) -> int:
        """The zygote's process, 0 while there is none."""
        return self._process.pid if self._process is not None and self._sock is not None else 0

    async def ensure(self) -> None:
        """Have a zygote ready.

        Raises:
            ZygoteError: it doesn't start.
        """
        async with self._starting:
            if self._sock is None and not self._closing:
                await self._start()

    async def fork(self, control: socket.socket) -> None:
        """Have a shim forked whose connection is ``control``; that it was is seen there, not here.

        Raises:
            ZygoteError: there is no zygote, and none can be started.
        """
        for _ in range(3):
            await self.ensure()
            if self._sock is None:
                break
            try:
                send(self._sock, b"fork", (control.fileno(),))
            except BlockingIOError:
                # More forks are asked for than a socket's queue holds: the zygote is busy, not dead.
                await asyncio.sleep(0.001)
            except OSError:
                self._lose()
            else:
                return
        raise ZygoteError("the zygote takes no requests")

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = _execute(theirs.fileno())
            except OSError as error:
                ours.close()
                raise ZygoteError(f"execute the zygote: {error}") from error
        ours.setblocking(False)
        try:
            async with asyncio.timeout(READY_SECONDS):
                ready = await self._loop.sock_recv(ours, 16)
        except TimeoutError:
            ready = b""
        if not ready:
            ours.close()
            status = await self._reap(self._process)
            raise ZygoteError(f"the zygote did not get ready (exit status {status})")
        self._sock = ours
        self._dead.clear()
        self._loop.add_reader(ours.fileno(), self._readable)
        log.info("zygote %d is ready", self._process.pid)

    def _readable(self) -> None:
        """A zygote says nothing after its first message, so this is its end."""
        self._lose()

    def _lose(self) -> None:
        sock, process = self._sock, self._process
        if sock is None or process is None:
            return
        self._loop.remove_reader(sock.fileno())
        sock.close()
        self._sock = None
        self._dead.set()
        self._reaper = self._loop.create_task(self._bury(process))

    async def _bury(self, process: subprocess.Popen[bytes]) -> None:
        status = await self._reap(process)
        if self._closing:
            return
        log.error("zygote %d died (exit status %d); starting another", process.pid, status)
        try:
            await self.ensure()
        except ZygoteError as error:
            log.error("no zygote: %s", error)

    async def _reap(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the process's end, which is made certain after a while."""
        pidfd = os.pidfd_open(process.pid)
        ended = self._loop.create_future()
        self._loop.add_reader(pidfd, lambda: ended.done() or ended.set_result(None))
        try:
            async with asyncio.timeout(END_SECONDS):
                await ended
        except TimeoutError:
            process.kill()
        finally:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        return process.wait()

    async def close(self) -> None:
        """End the zygote and wait for it."""
        self._closing = True
        async with self._starting:
            process = self._process
            if self._sock is not None and process is not None:
                self._lose()
            if self._dead.is_set():
                await self._reaper


def _execute(sock: int) -> subprocess.Popen[bytes]:
    program = sealed_interpreter()
    try:
        env = {"LD_BIND_NOW": "1"}
        if libraries := library_path():
            env["LD_LIBRARY_PATH"] = libraries
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP, str(sock), *(path for path in sys.path if path)],
            executable=f"/proc/self/fd/{program}",
            pass_fds=(sock, program),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(program)
