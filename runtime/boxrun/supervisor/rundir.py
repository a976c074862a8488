"""The run directory: what a supervisor leaves for the next one to find.

boxrun.sock             the bus
boxrun.pid              locked by the supervisor that is alive
shims/<id>              the seqpacket socket at which a container's shim answers
containers/<id>         what must be known of a container whose shim is gone (``RunRecord``)
paused/<id>             a container that was asked to stand still, as against one that is held for a moment
"""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from types import TracebackType
from typing import Self

import msgspec

from boxrun.errors import RunDirectoryError
from boxrun.shim.protocol import RunRecord
from boxrun.supervisor.sockets import connected, listening

_BACKLOG = 16
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RunRecord).decode


class RunDirectory:
    """A run directory, locked for this process."""

    def __init__(self, path: str) -> None:
        """Make the directory where it is missing, and lock it.

        Raises:
            RunDirectoryError: another supervisor has it, or the file system refuses.
        """
        self.path = os.path.abspath(path)
        self.bus = f"{self.path}/boxrun.sock"
        self._pid_file = f"{self.path}/boxrun.pid"
        self._containers = f"{self.path}/containers"
        self._paused = f"{self.path}/paused"
        self._parents = f"{self.path}/cgroup-parents"
        try:
            os.makedirs(self.path, 0o711, exist_ok=True)
            for name in ("shims", "containers", "paused"):
                with suppress(FileExistsError):
                    os.mkdir(f"{self.path}/{name}", 0o700)
            self._lock = os.open(self._pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._shims = os.open(f"{self.path}/shims", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise RunDirectoryError(f"run directory {self.path}: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            self.close()
            raise RunDirectoryError(f"run directory {self.path}: a supervisor is running there already (pid {owner})") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Unlock the directory; its files stay."""
        os.close(self._lock)
        os.close(self._shims)

    def clear(self) -> None:
        """Remove everything of ours that is empty or the supervisor's own; for an orderly end."""
        for path in (self.bus, self._pid_file, self._parents):
            with suppress(FileNotFoundError):
                os.unlink(path)
        for path in (f"{self.path}/shims", self._containers, self._paused):
            with suppress(OSError):
                os.rmdir(path)

    def cgroup_parents(self) -> set[str]:
        """Every cgroup that a supervisor of this directory has put containers below."""
        try:
            with open(self._parents) as file:
                return set(file.read().splitlines())
        except FileNotFoundError:
            return set()

    def note_cgroup_parent(self, parent: str) -> None:
        """Remember a cgroup parent, before anything is made in it."""
        with open(self._parents, "a") as file:
            file.write(f"{parent}\n")

    def record(self, record: RunRecord) -> None:
        """Note a container before its shim exists."""
        temporary = f"{self._containers}/.{record.id}"
        with open(temporary, "wb") as file:
            file.write(_encode(record))
        os.rename(temporary, f"{self._containers}/{record.id}")

    def records(self) -> list[RunRecord]:
        """Every container noted. What a crash left half-written is removed: its container was never started."""
        records = []
        for entry in list(os.scandir(self._containers)):
            try:
                with open(entry.path, "rb") as file:
                    records.append(_decode(file.read()))
            except (OSError, msgspec.MsgspecError):
                with suppress(OSError):
                    os.unlink(entry.path)
        return records

    def forget(self, container: str) -> None:
        """Remove a container's notes and its shim's socket."""
        for path in (f"{self._containers}/{container}", f"{self._paused}/{container}", self._address(container)):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def note_paused(self, container: str, paused: bool) -> None:
        """Note that a container is to stand still, or that it isn't any more. Raises OSError."""
        path = f"{self._paused}/{container}"
        if paused:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        else:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def is_paused(self, container: str) -> bool:
        """Whether that is noted."""
        return os.path.exists(f"{self._paused}/{container}")

    def sweep_sockets(self, known: set[str]) -> None:
        """Remove the sockets of containers that nobody noted."""
        for entry in list(os.scandir(f"{self.path}/shims")):
            if entry.name not in known:
                with suppress(OSError):
                    os.unlink(entry.path)

    def listen(self, container: str) -> socket.socket:
        """A new listening socket for a container's shim, in the place of whatever was there."""
        with suppress(FileNotFoundError):
            os.unlink(self._address(container))
        return listening(self._address(container), _BACKLOG)

    def connect(self, container: str) -> socket.socket | None:
        """A connection to a container's shim; None where nobody listens.

        Raises:
            BlockingIOError: somebody does, but accepts nothing.
        """
        return connected(self._address(container))

    def _address(self, container: str) -> str:
        # Through the directory's descriptor: sun_path has 108 bytes, whatever the run directory's path has.
        return f"/proc/self/fd/{self._shims}/{container}"
