"""What a command prints, on its way from the runtime to whoever follows the build.

Source: the framing is Docker's of attached streams (Engine API, ContainerAttach).
"""

from __future__ import annotations

import asyncio
import socket

from boxshipd.builder.progress import Reporter

_HEADER = 8
_READ = 1 << 18


class Output:
    """Both ends of what a command prints. Use it as a context manager; the command's end is ``theirs``.

    Args:
        report: who is told.
    """

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ours.setblocking(False)
        self._buffer = bytearray()

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self.theirs.close()

    def handed_over(self) -> None:
        """The runtime has its end, which from now on is the only one: what is printed ends when the command does."""
        self.theirs.close()

    async def relay(self) -> None:
        """Pass everything on until it ends. The command waits while this does."""
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self._ours, _READ):
                self._buffer += data
                self._tell()
                # Others get their turn even where a command never stops to print.
                await asyncio.sleep(0)
        except ConnectionError:
            # The runtime's side is gone with its process; the command's end tells the rest.
            pass

    def _tell(self) -> None:
        """Tell what is complete; of one stream's frames that follow one another, as one."""
        position, stream = 0, 0
        pieces: list[bytes] = []
        buffer = self._buffer
        while len(buffer) - position >= _HEADER:
            end = position + _HEADER + int.from_bytes(buffer[position + 4 : position + _HEADER], "big")
            if end > len(buffer):
                break
            if buffer[position] != stream and pieces:
                self._report.log(stream, b"".join(pieces))
                pieces = []
            stream = buffer[position]
            pieces.append(bytes(buffer[position + _HEADER : end]))
            position = end
        if pieces:
            self._report.log(stream, b"".join(pieces))
        del buffer[:position]
