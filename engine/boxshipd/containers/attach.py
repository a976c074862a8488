"""Attaching: a client's socket is kept until the container starts, or handed to its shim at once."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

from boxrun.shim.keys import parse_keys
from boxrun.shim.logs import Position
from boxrun.shim.websocket import BINARY, frame
from boxrun.supervisor.contract import Attachment, AttachRequest, Framing, Runtime
from msgspec import Struct

from boxshipd.containers.model import Container
from boxshipd.containers.pending import Pending
from boxshipd.errors import Conflict, InvalidParameter
from boxshipd.events import Events
from boxshipd.handover import head_read
from boxshipd.logs import LogOptions, read_logs
from boxshipd.logs.options import LogSource
from boxshipd.runtime.link import RuntimeLink

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


class AttachOptions(Struct, frozen=True, kw_only=True):
    """The query of an attach request. ``detach_keys`` is Docker's notation, None for the default ``ctrl-p,ctrl-q``."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    stream: bool = False
    logs: bool = False
    detach_keys: str | None = None


class AttachSlot:
    """A place at a container's streams, taken before the client is told so."""

    def __init__(
        self, container: Container, options: AttachOptions, framing: Framing, runtime: RuntimeLink, events: Events
    ) -> None:
        self.tty = container.config.config.tty
        self._container = container
        self._options = options
        self._framing: Framing = "raw" if self.tty and framing == "multiplexed" else framing
        self._runtime = runtime
        self._events = events
        keys = DEFAULT_DETACH_KEYS if options.detach_keys is None else options.detach_keys
        try:
            parse_keys(keys)
        except ValueError as error:
            raise InvalidParameter(f"Invalid detach keys ({keys}) provided") from error
        state = container.state
        if state.restarting:
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
        if state.paused:
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        self._keys = keys

    async def hand_over(self, fd: int, received: bytes = b"") -> None:
        """Give the client's socket away: ``fd`` belongs to the container from here on, whatever happens.

        Args:
            fd: the client's connected socket.
            received: what the HTTP parser had already read past the request's head.
        """
        pending = Pending(self._attachment(received), fd)
        options, container = self._options, self._container
        waits = options.stream and not container.state.running and not container.removed
        if waits:
            # In line before the first pause: the client may start the container at once, and is to miss nothing of it.
            self._line_up(pending)
        try:
            if waits:
                await self._replay_in_line(pending)
                attached = True
            elif options.stream and not container.removed:
                attached = await self._replay_and_follow(pending)
            else:
                await self._replay(fd)
                attached = False
            if attached:
                self._events.publish("container", "attach", self._container.id, self._container.attributes())
        finally:
            pending.replayed.set()
            if not waits:
                pending.close()

    async def _replay_in_line(self, pending: Pending) -> None:
        """Make a client that waits for the start ready for it."""
        # Its place in line may be lost meanwhile, and the descriptor's number be another file's.
        descriptor = os.dup(pending.descriptor)
        try:
            await self._replay(descriptor)
        finally:
            os.close(descriptor)
        pending.replayed.set()

    async def _replay_and_follow(self, pending: Pending) -> bool:
        """Attach first, behind a gate; send what was written up to then; open the gate. So nothing is missed or comes twice.

        Also without a replay: what the container writes from the head on is the client's. False where the container has
        ended meanwhile: then what it wrote is all.
        """
        gate, ours = os.pipe2(os.O_CLOEXEC)
        try:
            request = AttachRequest(id=self._container.id, attachment=pending.attachment)
            what = f"attach to container {self._container.id}"
            try:
                reply = await self._runtime.call(Runtime.attach_gated, request, what, descriptors=[pending.descriptor, gate])
            except Conflict:
                await self._replay(pending.descriptor)
                return False
            if await self._replay(pending.descriptor, reply.log):
                os.write(ours, b"g")
            return True
        finally:
            # Without a byte the shim lets the client go.
            os.close(gate)
            os.close(ours)

    def abandon(self) -> None:
        """Give the place up without a socket; nothing is held before ``hand_over``."""

    def _attachment(self, received: bytes) -> Attachment:
        options = self._options
        return Attachment(
            framing=self._framing,
            stdin=options.stdin and self._container.config.config.open_stdin,
            stdout=options.stdout,
            stderr=options.stderr,
            detach_keys=self._keys,
            received=received,
        )

    def _line_up(self, pending: Pending) -> None:
        """Have a client wait for the container's start; those that have gone meanwhile make room."""
        container = self._container
        for waiting in [other for other in container.attachments if other.hung_up]:
            container.attachments.remove(waiting)
            waiting.close()
        container.attachments.append(pending)

    async def _replay(self, fd: int, end: Position | None = None) -> bool:
        """Once the client has read its head: what was written so far, or up to ``end``, where ``logs=1`` asks for it.

        False where the client has gone.
        """
        await head_read(fd)
        if not self._options.logs:
            return True
        container = self._container
        source = LogSource(log=container.config.log, terminal=self.tty, ended=container.ended)
        options = LogOptions(stdout=self._options.stdout, stderr=self._options.stderr)
        client = socket.socket(fileno=os.dup(fd))
        client.setblocking(False)
        try:
            pieces = read_logs(source, options, multiplexed=self._framing.endswith("multiplexed"), end=end)
            return await _send_all(client, pieces, messages=self._framing.startswith("websocket"))
        finally:
            client.close()


async def _send_all(client: socket.socket, pieces: AsyncIterator[bytes], *, messages: bool) -> bool:
    """Write to a client for as long as it takes them, each piece as a websocket message where it expects those.

    False where it has gone.
    """
    loop = asyncio.get_running_loop()
    try:
        async for piece in pieces:
            await loop.sock_sendall(client, frame(BINARY, piece) if messages else piece)
    except OSError:
        return False
    return True
