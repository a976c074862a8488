"""SSH agents of the client, as sockets that a command can connect to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator

from boxshipd.builder.session import Session
from boxshipd.errors import DaemonError

log = logging.getLogger(__name__)

_CONNECTIONS = 64
"""How many a command may have at once; more wait."""

_READ = 1 << 16


@contextlib.asynccontextmanager
async def agent_socket(  # noqa: PLR0917 - the socket's own attributes
    session: Session, agent_id: str, path: str, mode: int, uid: int, gid: int
) -> AsyncIterator[None]:
    """Inside the block there is a socket whose connections are relayed to an agent.

    Args:
        session: the client's side.
        agent_id: which agent.
        path: where the socket is to be.
        mode: its permission bits.
        uid: its owner.
        gid: its group.

    Raises:
        NotFound: the client has no such agent.
    """
    # Made at once, to know that there is an agent; it serves the first that connects.
    ready = [await session.agent(agent_id)]
    try:
        listener = _listen(path, mode, uid, gid)
        serving = asyncio.create_task(_serve(listener, session, agent_id, ready))
        try:
            yield
        finally:
            serving.cancel()
            await asyncio.wait([serving])
            listener.close()
    finally:
        for descriptor in ready:
            os.close(descriptor)


def _listen(path: str, mode: int, uid: int, gid: int) -> socket.socket:
    directory, name = os.path.split(path)
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # By its directory's descriptor: a socket's path may be 107 bytes long, and a daemon's directory is anywhere.
        listener.bind(f"/proc/self/fd/{directory_fd}/{name}")
        os.chown(name, uid, gid, dir_fd=directory_fd)
        os.chmod(name, mode, dir_fd=directory_fd)
        listener.setblocking(False)
        listener.listen(_CONNECTIONS)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(directory_fd)
    return listener


async def _serve(listener: socket.socket, session: Session, agent_id: str, ready: list[int]) -> None:
    loop = asyncio.get_running_loop()
    places = asyncio.Semaphore(_CONNECTIONS)

    async def serve(connection: socket.socket) -> None:
        try:
            with connection:
                await _relay(connection, session, agent_id, ready)
        finally:
            places.release()

    async with asyncio.TaskGroup() as group:
        while True:
            await places.acquire()
            connection, _ = await loop.sock_accept(listener)
            group.create_task(serve(connection))


async def _relay(connection: socket.socket, session: Session, agent_id: str, ready: list[int]) -> None:
    """One connection, until both sides have said all they want."""
    connection.setblocking(False)
    try:
        agent = socket.socket(fileno=ready.pop() if ready else await session.agent(agent_id))
    except DaemonError as error:
        log.info("connect to SSH agent %s: %s", agent_id, error)
        return
    with agent:
        agent.setblocking(False)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(connection, agent))
            group.create_task(_pump(agent, connection))


async def _pump(source: socket.socket, destination: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(source, _READ):
            await loop.sock_sendall(destination, data)
    with contextlib.suppress(OSError):
        destination.shutdown(socket.SHUT_WR)
