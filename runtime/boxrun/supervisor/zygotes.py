"""The zygote's keeper: starts the fork server, asks it for shims, and starts another when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress

from boxrun.container.spec import DeviceRule
from boxrun.errors import ZygoteError
from boxrun.shim.protocol import Settle
from boxrun.shim.wire import encode, send
from boxrun.supervisor.interpreter import library_path, sealed_interpreter
from boxrun.supervisor.processes import process_end
from boxrun.zygote import END

log = logging.getLogger(__name__)

SPARES = 2
"""Shims that are forked ahead and wait for their orders, so that no start waits for a fork."""

WARM = 8
"""Shims that have served a container or an exec and wait for another, at most."""

WARM_SECONDS = 2.0
"""How long they wait: a burst is cheap, and what it took is given back after it."""

READY_SECONDS = 20.0
"""How long a zygote may take to import what shims need."""

END_SECONDS = 5.0
"""How long a zygote may take to end once its socket is closed."""

_REFILL_SECONDS = 0.002
_LONGEST_PAUSE = 5.0

_TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Where certificates of those are that log drivers trust with TLS; Go's programs know the same names."""

# Without site and environment, so that nothing but these modules is imported; the paths are the supervisor's own.
_BOOTSTRAP = "import sys; sys.path[:] = sys.argv[2:]; from boxrun.zygote import main; main(int(sys.argv[1]))"


class ZygoteKeeper:
    """Owns one zygote at a time. Shims that a dead zygote has forked are none of its business."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._starting = asyncio.Lock()
        self._reaper: asyncio.Task[None] | None = None
        self._spares: deque[socket.socket] = deque()
        self._warm: dict[socket.socket, tuple[float, str]] = {}
        self._cooling: asyncio.TimerHandle | None = None
        self._refilling = False
        self._settled: Settle | None = None

    @property
    def _closing(self) -> bool:
        return self._ending.is_set()

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

    async def shim(self) -> socket.socket:
        """A connection to a shim that waits for its start message. If that turns out to be dead, the connection just ends.

        Raises:
            ZygoteError: there is no zygote, and none can be started.
        """
        shim = self._spares.popleft() if self._spares else await self._fork()
        if not self._refilling:
            # Off the way of the start that is waiting for this one.
            self._refilling = True
            self._loop.call_later(_REFILL_SECONDS, self._refill)
        return shim

    async def start_shim(self) -> socket.socket:
        """As ``shim``, for a container that joins no other: one whose container has ended is as good, and ready at once."""
        return self._take_warm("") or await self.shim()

    async def exec_shim(self, container: str) -> socket.socket:
        """As ``shim``, for an exec in ``container``: one that has served another there is as good, and ready at once.

        Only there: its memory has what it was told, and who may trace processes can read it in the one that it clones.
        """
        return self._take_warm(container) or await self.shim()

    def _take_warm(self, container: str) -> socket.socket | None:
        for shim, (_, served) in self._warm.items():
            if served == container:
                del self._warm[shim]
                return shim
        return None

    def recycle(self, shim: socket.socket, container: str = "") -> None:
        """Take back the connection to a shim that waits for its next order: an exec in ``container``, or a container."""
        if self._closing or len(self._warm) >= WARM:
            shim.close()
            return
        self._warm[shim] = self._loop.time(), container
        if self._cooling is None:
            self._cooling = self._loop.call_later(WARM_SECONDS, self._cool)

    def _cool(self) -> None:
        """End the shims that nobody has wanted for a while."""
        self._cooling = None
        bound = self._loop.time() - WARM_SECONDS
        for shim in [shim for shim, (since, _) in self._warm.items() if since <= bound]:
            del self._warm[shim]
            shim.close()
        if self._warm:
            oldest = min(since for since, _ in self._warm.values())
            self._cooling = self._loop.call_later(oldest - bound, self._cool)

    def settle(self, parent: str, devices: tuple[DeviceRule, ...]) -> None:
        """Have shims to come made ready for containers of this cgroup parent and with these device rules."""
        wanted = Settle(parent=parent, devices=devices)
        if wanted == self._settled:
            return
        self._settled = wanted
        self._tell_settled()
        # Those forked before were not.
        self._drop_spares()

    def settle_parent(self, parent: str) -> None:
        """Have shims to come made ready for this cgroup parent, whatever the device rules."""
        if self._settled is None or self._settled.parent != parent:
            self.settle(parent, () if self._settled is None else self._settled.devices)

    def _tell_settled(self) -> None:
        if self._sock is not None and self._settled is not None:
            with suppress(OSError):
                send(self._sock, encode(self._settled))

    def _drop_spares(self) -> None:
        while self._spares:
            self._spares.pop().close()
        while self._warm:
            self._warm.popitem()[0].close()

    async def _end_spares(self) -> None:
        """End the spares and wait for it, while the zygote is still there to reap them."""
        spares, self._spares = [*self._spares, *self._warm], deque()
        self._warm.clear()
        if self._cooling is not None:
            self._cooling.cancel()
        for spare in spares:
            spare.setblocking(False)
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    spare.shutdown(socket.SHUT_WR)
                    while await self._loop.sock_recv(spare, 64):
                        continue
            spare.close()

    async def _fork(self) -> socket.socket:
        """Have a shim forked. That it was is seen on its connection, not here."""
        for _ in range(3):
            await self.ensure()
            shim = self._ask()
            if shim is not None:
                return shim
        raise ZygoteError("the zygote takes no requests")

    def _ask(self) -> socket.socket | None:
        """Ask for a shim; None without a zygote, or where it has more to do than its queue holds."""
        if self._sock is None:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                send(self._sock, b"fork", (theirs.fileno(),))
            except OSError as error:
                ours.close()
                if not isinstance(error, BlockingIOError):
                    self._lose()
                return None
        return ours

    def _refill(self) -> None:
        """Have as many spares as there should be; what stands in the way may be gone at the next start."""
        self._refilling = False
        try:
            while len(self._spares) < SPARES and not self._closing and (shim := self._ask()) is not None:
                self._spares.append(shim)
        except OSError as error:
            log.warning("no spare shim: %s", error.strerror)

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
        self._loop.add_reader(ours.fileno(), self._readable)
        log.info("zygote %d is ready", self._process.pid)
        self._tell_settled()
        self._refill()

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
        self._reaper = self._loop.create_task(self._bury(process))

    async def _bury(self, process: subprocess.Popen[bytes]) -> None:
        status = await self._reap(process)
        if self._closing:
            return
        log.error("zygote %d died (exit status %d); starting another", process.pid, status)
        pause = 0.1
        while not self._closing:
            try:
                await self.ensure()
            except ZygoteError as error:
                log.error("no zygote: %s", error)
            else:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ending.wait()
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _reap(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the process's end, which is made certain after a while; returns its exit status."""
        if not await process_end(os.pidfd_open(process.pid), END_SECONDS):
            process.kill()
        return process.wait()

    async def close(self, *, shims: bool) -> None:
        """End the spares and the zygote, and wait for that.

        Args:
            shims: the zygote waits for its other shims as well, which are about to end.
        """
        self._ending.set()
        await self._end_spares()
        async with self._starting:
            if self._sock is not None:
                if shims:
                    with suppress(OSError):
                        send(self._sock, END)
                self._lose()
            if self._reaper is not None:
                await self._reaper


def _execute(sock: int) -> subprocess.Popen[bytes]:
    program = sealed_interpreter()
    try:
        env = {"LD_BIND_NOW": "1"}
        if libraries := library_path():
            env["LD_LIBRARY_PATH"] = libraries
        env |= {name: value for name in _TRUST if (value := os.environ.get(name))}
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
