"""Sockets in directories, one for each name, at which shims and helpers of containers answer later supervisors."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from contextlib import suppress

_BACKLOG = 4


class SocketDirectory:
    """The directory at ``path``, made where it is missing. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._path = path
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def names(self) -> list[str]:
        """Every socket's name."""
        return os.listdir(self._fd)

    def listen(self, name: str) -> socket.socket:
        """A new listening socket, in the place of whatever was there. Raises OSError."""
        self.forget(name)
        return listening(self._address(name), _BACKLOG)

    def connect(self, name: str) -> socket.socket | None:
        """A connection; None where nobody listens. Raises OSError."""
        return connected(self._address(name))

    def forget(self, name: str) -> None:
        """Remove a socket, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def sweep(self, known: Collection[str]) -> None:
        """Remove every socket that isn't ``known``."""
        for name in self.names():
            if name not in known:
                self.forget(name)

    def close(self) -> None:
        """Let go of the directory, which goes itself where it is empty."""
        with suppress(OSError):
            os.rmdir(self._path)
        os.close(self._fd)

    def _address(self, name: str) -> str:
        # Through the directory's descriptor: sun_path has 108 bytes, whatever the run directory's path has.
        return f"/proc/self/fd/{self._fd}/{name}"


def listening(address: str, backlog: int) -> socket.socket:
    """A new listening socket.

    Raises:
        OSError: there is something at ``address`` already, or the file system refuses.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def connected(address: str) -> socket.socket | None:
    """A connection to whoever listens at ``address``; None where nobody does.

    Raises:
        OSError: somebody does, but accepts nothing (BlockingIOError), or can't be reached.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        sock.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except BaseException:
        sock.close()
        raise
    return sock
