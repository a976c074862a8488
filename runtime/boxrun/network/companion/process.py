"""The process's end: a socket at which supervisors come, one after the other, and what they order."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec

from boxrun.network.companion import wire

log = logging.getLogger(__name__)


class Orders:
    """Takes orders of whoever is the supervisor, and does them one after the other."""

    def __init__(self, listening: socket.socket, obey: Callable[[bytes, list[socket.socket]], Awaitable[None]]) -> None:
        """Nothing is heard before ``run``.

        Args:
            listening: where supervisors connect.
            obey: does what a message says; the sockets beside it are the callee's. It may raise OSError,
                ValueError, MsgspecError.
        """
        self._listening = listening
        self._obey = obey
        self._supervisor: socket.socket | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._ended = asyncio.Event()
        self._queue: asyncio.Queue[tuple[bytes, list[socket.socket]]] = asyncio.Queue()

    async def run(self) -> None:
        """Serve until ``end``."""
        loop = asyncio.get_running_loop()
        self._listening.setblocking(False)
        loop.add_reader(self._listening, self._accept)
        worker = loop.create_task(self._work())
        await self._ended.wait()
        worker.cancel()

    def end(self) -> None:
        """Serve no longer."""
        self._ended.set()

    async def answer(self, message: msgspec.Struct, socks: Sequence[socket.socket] = ()) -> None:
        """Say something to the supervisor, where there is one, once it has room. Raises OSError."""
        supervisor = self._supervisor
        while supervisor is not None and supervisor is self._supervisor:
            try:
                wire.send(supervisor, message, [sock.fileno() for sock in socks])
            except BlockingIOError:
                await self._room(supervisor)
            else:
                return

    async def _room(self, supervisor: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        room = loop.create_future()
        loop.add_writer(supervisor, _settle, room)
        self._waiting = room
        try:
            await room
        finally:
            self._waiting = None
            if supervisor is self._supervisor:
                loop.remove_writer(supervisor)

    def _accept(self) -> None:
        with suppress(OSError):
            sock, _ = self._listening.accept()
            sock.setblocking(False)
            self._leave()  # there is one supervisor; an older one has died
            self._supervisor = sock
            asyncio.get_running_loop().add_reader(sock, self._hear)

    def _leave(self) -> None:
        if self._supervisor is not None:
            asyncio.get_running_loop().remove_reader(self._supervisor)
            asyncio.get_running_loop().remove_writer(self._supervisor)
            self._supervisor.close()
            self._supervisor = None
            if self._waiting is not None:
                _settle(self._waiting)

    def _hear(self) -> None:
        if self._supervisor is None:
            return
        try:
            received = wire.receive(self._supervisor)
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is None:
            self._leave()
            return
        self._queue.put_nowait((received[0], [socket.socket(fileno=fd) for fd in received[1]]))

    async def _work(self) -> None:
        while True:
            data, socks = await self._queue.get()
            try:
                await self._obey(data, socks)
            except msgspec.MsgspecError as error:  # a newer supervisor's
                log.warning("an order that nobody understands: %s", error)
                for sock in socks:
                    sock.close()
            except (OSError, ValueError) as error:
                log.error("%s", error)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def run(serve: Callable[[socket.socket], Awaitable[None]]) -> int:
    """Be such a process: ``python -m MODULE FD RUN-DIRECTORY``, listening for supervisors at the descriptor."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def serving(listening: socket.socket) -> None:
        await serve(listening)

    with socket.socket(fileno=int(sys.argv[1])) as listening:
        asyncio.run(serving(listening))
    return 0
