"""The supervisor's end: starts the process, finds that of an earlier supervisor, and hears of its death."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from boxrun.network.companion import wire

log = logging.getLogger(__name__)

_END_SECONDS: Final = 10.0


class Companion:
    """One process of a run directory's, there once somebody needs it."""

    def __init__(
        self,
        directory: str,
        name: str,
        module: str,
        *,
        heard: Callable[[bytes, list[socket.socket]], None],
        died: Callable[[], None],
    ) -> None:
        """Nothing is started yet.

        Args:
            directory: where its socket and its log are.
            name: of these, without ``.sock`` and ``.log``.
            module: what it runs; it is given the listening socket's descriptor and the run directory.
            heard: called with each of its messages and the sockets beside it, which are the callee's.
            died: called when it has died, and not when it was told to end.
        """
        self._directory, self._name, self._module = directory, name, module
        self._heard, self._on_death = heard, died
        self._socket: socket.socket | None = None
        self._queue: deque[tuple[msgspec.Struct, Sequence[socket.socket]]] = deque()
        self._starting = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Its number, where it is known: that of an earlier supervisor's has to say it itself."""

    @property
    def there(self) -> bool:
        """Whether there is one to talk to."""
        return self._socket is not None

    async def start(self) -> bool:
        """Have it running; whether it had to be started. Raises OSError."""
        async with self._starting:
            if self._socket is not None:
                return False
            starting = asyncio.create_task(self._start())
            try:
                await asyncio.shield(starting)
            except asyncio.CancelledError:
                # Nobody would know of a process that was begun.
                await asyncio.wait([starting])
                raise
            return True

    async def _start(self) -> None:
        path = f"{self._directory}/{self._name}.sock"
        with suppress(FileNotFoundError):
            os.unlink(path)
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
                # Through the directory's descriptor: an address has 108 bytes, whatever the path has.
                listening.bind(f"/proc/self/fd/{fd}/{self._name}.sock")
                listening.listen(4)
                self._process = await asyncio.to_thread(self._spawn, listening)
                self.pid = self._process.pid
        finally:
            os.close(fd)
        if not self.connect():
            raise OSError(f"the process {self._module} doesn't answer")

    def _spawn(self, listening: socket.socket) -> subprocess.Popen[bytes]:
        run = os.path.dirname(self._directory)
        with open(f"{self._directory}/{self._name}.log", "ab") as log_file:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", self._module, str(listening.fileno()), run],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )

    def connect(self) -> bool:
        """Find the one of an earlier supervisor; whether there is one."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{fd}/{self._name}.sock")
        except OSError:
            sock.close()
            return False
        finally:
            os.close(fd)
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._readable)
        return True

    def _readable(self) -> None:
        if self._socket is None:
            return
        try:
            received = wire.receive(self._socket)
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is None:
            self._died()
        else:
            self._heard(received[0], [socket.socket(fileno=fd) for fd in received[1]])

    def _died(self) -> None:
        if self._socket is None:
            return
        self._hang_up()
        if self._process is not None:
            self._process.poll()
        self._on_death()

    async def kill(self) -> None:
        """End one that doesn't do what it is told, and wait for its end; it counts as one that has died."""
        if (its := self._socket) is None:
            return
        # While its connection is there it is alive, and its number nobody else's.
        with suppress(OSError, TimeoutError):
            pidfd = os.pidfd_open(self.pid)
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                async with asyncio.timeout(_END_SECONDS):
                    await _ended(pidfd)
            finally:
                os.close(pidfd)
        if self._socket is its:  # else its end was heard of, and there may be another by now
            self._died()

    def _hang_up(self) -> None:
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        for _, socks in self._queue:
            _close(socks)
        self._queue.clear()

    def post(self, message: msgspec.Struct, socks: Sequence[socket.socket] = ()) -> None:
        """Send a message, now or when there is room; ``socks`` go along and are closed here. To nobody it isn't sent."""
        if self._socket is None:
            _close(socks)
            return
        self._queue.append((message, socks))
        if len(self._queue) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._queue and self._socket is not None:
            message, socks = self._queue[0]
            try:
                wire.send(self._socket, message, [sock.fileno() for sock in socks])
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._socket, self._flush)
                return
            except OSError as error:
                log.error("%s can't be told: %s", self._module, error)
            self._queue.popleft()
            _close(socks)
        if self._socket is not None:
            asyncio.get_running_loop().remove_writer(self._socket)

    async def close(self, end: msgspec.Struct | None = None) -> None:
        """Let go of the process, which goes on unless it is told to ``end``."""
        async with self._starting:
            if end is not None:
                self.post(end)
            self._hang_up()
        if end is not None and self._process is not None:
            await asyncio.to_thread(_reap, self._process)


async def _ended(pidfd: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)


def _close(socks: Sequence[socket.socket]) -> None:
    for sock in socks:
        sock.close()


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
