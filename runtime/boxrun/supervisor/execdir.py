"""What a supervisor leaves of its execs for the next one, below the run directory.

execs/<id>.json         which container it is in (``ExecRecord``)
execs/<id>.sock         the seqpacket socket at which its shim answers
execs/<id>.exit         how it ended, written by its shim
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import msgspec
from msgspec import Struct

from boxrun.shim import exits
from boxrun.shim.protocol import ExitRecord
from boxrun.supervisor.sockets import connected, listening

_BACKLOG = 16
_KINDS = ("json", "sock", "exit", "exit.new")


class ExecRecord(Struct, frozen=True, kw_only=True):
    """An exec that was begun. ``run`` tells it from another of the same id."""

    id: str
    container: str
    run: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ExecRecord).decode


class ExecDirectory:
    """The directory of one supervisor's execs, made where it is missing."""

    def __init__(self, run_directory: str) -> None:
        self.path = f"{run_directory}/execs"
        with suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the directory; its files stay."""
        os.close(self._fd)

    def clear(self) -> None:
        """Remove it where it is empty."""
        with suppress(OSError):
            os.rmdir(self.path)

    def record(self, record: ExecRecord) -> None:
        """Note an exec before its shim is told. A note that a crash cut short is one of an exec that was never begun."""
        fd = os.open(f"{record.id}.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
        try:
            os.write(fd, _encode(record))
        finally:
            os.close(fd)

    def records(self) -> list[ExecRecord]:
        """Every exec noted; what belongs to none is removed."""
        records = []
        for name in os.listdir(self._fd):
            if not name.endswith(".json"):
                continue
            try:
                with open(f"{self.path}/{name}", "rb") as file:
                    records.append(_decode(file.read()))
            except (OSError, msgspec.MsgspecError):
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._fd)
        known = {record.id for record in records}
        for name in os.listdir(self._fd):
            if name.partition(".")[0] not in known:
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._fd)
        return records

    def exit(self, record: ExecRecord) -> ExitRecord | None:
        """How it ended, as its shim has put on record."""
        return exits.noted(f"{self.path}/{record.id}.exit", record.run)

    def forget(self, exec_id: str) -> None:
        """Remove everything of an exec."""
        for kind in _KINDS:
            with suppress(FileNotFoundError):
                os.unlink(f"{exec_id}.{kind}", dir_fd=self._fd)

    def listen(self, exec_id: str) -> socket.socket:
        """A new listening socket for an exec's shim.

        Raises:
            OSError: there is one already, or the file system refuses.
        """
        return listening(self._address(exec_id), _BACKLOG)

    def connect(self, exec_id: str) -> socket.socket | None:
        """A connection to an exec's shim; None where nobody listens.

        Raises:
            OSError: somebody does, but accepts nothing.
        """
        return connected(self._address(exec_id))

    def _address(self, exec_id: str) -> str:
        # Through the descriptor: sun_path has 108 bytes, whatever the run directory's path has.
        return f"/proc/self/fd/{self._fd}/{exec_id}.sock"
