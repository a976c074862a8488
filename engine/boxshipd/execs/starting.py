"""The start of an exec, from the moment it is taken to the client's socket handed over or answered."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable

from boxrun.shim.websocket import BINARY, NORMAL_CLOSURE, close_frame, frame
from boxrun.supervisor.contract import Attachment, ExecRequest, Framing
from msgspec import structs

from boxshipd.errors import DaemonError
from boxshipd.execs.model import Exec
from boxshipd.handover import head_read

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_STDOUT = b"\1\0\0\0"

Run = Callable[[Exec, ExecRequest, Attachment | None, int], Awaitable[None]]


class ExecStart:
    """An exec that was taken to be started, and must be: attached, detached, or given back."""

    def __init__(self, run: Run, exec_: Exec, request: ExecRequest, give_back: Callable[[Exec], None]) -> None:
        self._run = run
        self._exec = exec_
        self._request = request
        self._give_back = give_back

    async def detached(self) -> None:
        """Start it with nobody listening; answered when its program has been executed.

        Raises:
            ExecFailed, ExecError, Conflict, Unavailable: as ``Execs.start`` has them.
        """
        await self._run(self._exec, structs.replace(self._request, open_stdin=False), None, -1)

    async def hand_over(self, fd: int, framing: Framing, received: bytes = b"") -> None:
        """Start it with a client's socket, which belongs to it from here on; what goes wrong is told there.

        Args:
            fd: the client's connected socket.
            framing: how output is written to it.
            received: what the HTTP parser had already read past the request's head.
        """
        config = self._exec.config
        attachment = Attachment(
            framing=framing,
            stdin=config.attach_stdin,
            stdout=config.attach_stdout,
            stderr=config.attach_stderr,
            detach_keys=config.detach_keys or DEFAULT_DETACH_KEYS,
            received=received,
        )
        try:
            await head_read(fd)
            await self._run(self._exec, self._request, attachment, fd)
        except DaemonError as error:
            _tell(fd, framing, f"{error}\r\n".encode())
        finally:
            os.close(fd)

    def abandon(self) -> None:
        """Give it back: the client has gone before its socket could be handed over."""
        self._give_back(self._exec)


def _tell(fd: int, framing: Framing, message: bytes) -> None:
    """Write to a client in its framing what it would have got as an error, had its stream not begun."""
    if framing.endswith("multiplexed"):
        message = _STDOUT + len(message).to_bytes(4, "big") + message
    if framing.startswith("websocket"):
        message = frame(BINARY, message) + close_frame(NORMAL_CLOSURE)
    with contextlib.suppress(OSError):
        os.write(fd, message)
