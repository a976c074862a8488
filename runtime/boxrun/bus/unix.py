"""The unix-socket transport.

uvloop's own transports don't know SCM_RIGHTS, so the socket is read and written here, and the event loop only tells when.
"""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from struct import Struct as Layout
from typing import Final

from boxrun.bus.client import Channel
from boxrun.bus.connection import DEFAULT_LIMITS, Limits, log
from boxrun.bus.context import Peer, close_fds
from boxrun.bus.frames import MAX_FDS
from boxrun.bus.server import Server
from boxrun.bus.service import Service
from boxrun.bus.status import BusError, Code
from boxrun.bus.transport import Receiver, Transport

_FD_SIZE: Final = array.array("i").itemsize
_CONTROL: Final = socket.CMSG_SPACE(MAX_FDS * _FD_SIZE)
_BACKLOG: Final = 128
_ACCEPT_PAUSE: Final = 0.1
_UCRED: Final = Layout("iII")


def peer_of(sock: socket.socket) -> Peer:
    """Who connected. Source: SO_PEERCRED in unix(7)."""
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


class UnixTransport(Transport):
    """A connected, non-blocking unix stream socket, which it owns."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, peer_of(sock))
        self._sock = sock
        self._fd = sock.fileno()
        self._reading = False
        self._writing = False

    def start(self, receiver: Receiver) -> None:
        """Begin to read."""
        self._receiver = receiver
        self.resume_reading()

    def pause_reading(self) -> None:
        """Leave what the peer sends with the kernel for now."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Read again."""
        if not self._reading and not self.closed:
            self._reading = True
            self._loop.add_reader(self._fd, self.receive_now)

    def receive_now(self) -> None:
        """Deliver what has already arrived, at most a buffer's worth."""
        receiver = self._receiver
        if self.closed or receiver is None:
            return
        try:
            count, control, flags, _ = self._sock.recvmsg_into(
                (receiver.reader.room(),), _CONTROL, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.abort(f"read: {error.strerror}")
            return
        fds = _received_fds(control) if control else []
        if flags & socket.MSG_CTRUNC:
            close_fds(fds)
            self.abort("file descriptors got lost on the way: more than allowed at once, or none free here")
        elif count:
            receiver.received(count, fds)
        else:
            close_fds(fds)
            self.abort("the peer closed the connection")

    def _write(self) -> None:
        queue = self._queue
        while queue:
            chunk = queue[0]
            try:
                if chunk.fds:
                    count = self._sock.sendmsg(
                        (chunk.data,),
                        ((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", chunk.fds)),),
                        socket.MSG_DONTWAIT,
                    )
                elif chunk.sent:
                    with memoryview(chunk.data) as view, view[chunk.sent :] as rest:
                        count = self._sock.send(rest, socket.MSG_DONTWAIT)
                else:
                    count = self._sock.send(chunk.data, socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self.abort(f"write: {error.strerror}")
                return
            if chunk.fds:
                close_fds(chunk.fds)
                chunk.fds = ()
            chunk.sent += count
            self._queued -= count
            if chunk.sent == len(chunk.data):
                queue.popleft()
        if bool(queue) is not self._writing:
            self._writing = not self._writing
            if self._writing:
                self._loop.add_writer(self._fd, self._writable)
            else:
                self._loop.remove_writer(self._fd)

    def _writable(self) -> None:
        self._write()
        if not self.closed:
            self._progress()

    def _release(self) -> None:
        self.pause_reading()
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)
        self._sock.close()


def _received_fds(control: list[tuple[int, int, bytes]]) -> list[int]:
    """The file descriptors in a message's control data."""
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % _FD_SIZE])
    return fds.tolist()


class SocketPath:
    """A unix socket's path, usable beyond the 107 bytes that fit into ``sun_path``.

    A context manager whose value is an address for bind and connect: the path, or one through the directory's descriptor.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._directory = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) < 108:
            return self._path
        directory, name = os.path.split(self._path)
        self._directory = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._directory}/{name}"

    def __exit__(self, *_: object) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1


async def connect_unix(path: str, *, timeout: float = 10.0, limits: Limits = DEFAULT_LIMITS) -> Channel:
    """Connect to the server at ``path`` and wait, at most ``timeout`` seconds, until it has answered.

    Raises BusError with UNAVAILABLE if nobody answers there, or DEADLINE_EXCEEDED if not in time.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            sock = await _connected(path)
            channel = Channel(UnixTransport(sock, loop), limits, loop)
            try:
                channel.start()
                await channel.wait_ready()
            except BaseException:
                channel.close()
                raise
    except TimeoutError as error:
        raise BusError(Code.DEADLINE_EXCEEDED, f"connect {path}: no answer within {timeout:g} s") from error
    except OSError as error:
        raise BusError(Code.UNAVAILABLE, f"connect {path}: {error.strerror}") from error
    return channel


async def _connected(path: str) -> socket.socket:
    """A connected socket. A full backlog shows as EAGAIN, for which the kernel has no notification."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        with SocketPath(path) as address:
            while True:
                try:
                    sock.connect(address)
                except BlockingIOError:
                    await asyncio.sleep(0.01)
                else:
                    return sock
    except BaseException:
        sock.close()
        raise


@asynccontextmanager
async def serve_unix(
    path: str, services: Iterable[Service], *, mode: int = 0o600, limits: Limits = DEFAULT_LIMITS, drain: float = 5.0
) -> AsyncIterator[Server]:
    """Serve ``services`` at ``path``; leaving the block closes the server, with ``drain`` seconds for open calls.

    A socket left behind by a dead server is replaced. Raises OSError (EADDRINUSE where a live one listens).
    """
    server = Server(services, limits=limits)
    with _bound(path, mode) as listener:
        loop = asyncio.get_running_loop()
        loop.add_reader(listener.fileno(), _accept, listener, server, loop)
        try:
            yield server
        finally:
            loop.remove_reader(listener.fileno())
            await server.close(drain)


def _accept(listener: socket.socket, server: Server, loop: asyncio.AbstractEventLoop) -> None:
    try:
        sock, _ = listener.accept()
    except (BlockingIOError, InterruptedError, ConnectionAbortedError):
        return
    except OSError as error:
        log.error("bus: accept: %s", error.strerror)
        # Out of descriptors, most likely: the connection stays in the backlog, and the event loop must not spin on it.
        loop.remove_reader(listener.fileno())
        loop.call_later(_ACCEPT_PAUSE, _accept_again, listener, server, loop)
        return
    sock.setblocking(False)
    server.accept(UnixTransport(sock, loop))


def _accept_again(listener: socket.socket, server: Server, loop: asyncio.AbstractEventLoop) -> None:
    if listener.fileno() >= 0:
        loop.add_reader(listener.fileno(), _accept, listener, server, loop)


@contextmanager
def _bound(path: str, mode: int) -> Iterator[socket.socket]:
    """A listening socket at ``path``, never accessible to more than ``mode`` says; unlinked at the end if it is still there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with sock, SocketPath(path) as address:
        os.fchmod(sock.fileno(), mode)  # the file that bind makes takes it over, less the umask
        try:
            sock.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or _alive(address):
                raise OSError(error.errno, error.strerror, path) from error
            os.unlink(address)
            sock.bind(address)
        os.chmod(address, mode)
        made = os.stat(address)
        sock.listen(_BACKLOG)
        try:
            yield sock
        finally:
            with suppress(FileNotFoundError):
                now = os.stat(address)
                if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
                    os.unlink(address)


def _alive(address: str) -> bool:
    """Whether somebody listens at ``address``, or it isn't a socket at all (which then isn't ours to remove)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            return not stat.S_ISSOCK(os.lstat(address).st_mode)
        except BlockingIOError:
            return True
        return True
