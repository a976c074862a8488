"""A connected byte stream to the daemon, over whatever carries it."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

from boxship.errors import ProtocolError

if TYPE_CHECKING:
    import ssl
    import subprocess


class Stream:
    """A blocking byte stream; a context manager that closes it.

    Args:
        sock: the connected socket, owned from here on.
        process: the program at the socket's other end (ssh), ended on close.
    """

    def __init__(self, sock: socket.socket, process: subprocess.Popen[bytes] | None = None) -> None:
        self._sock = sock
        self._process = process

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor to wait on for input."""
        return self._sock.fileno()

    def send(self, data: bytes) -> None:
        """Send all of ``data``.

        Raises:
            ProtocolError: the connection is broken.
        """
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise ProtocolError(f"sending to the daemon: {error}") from error

    def send_now(self, data: memoryview) -> int:
        """Send as much of ``data`` as the stream takes without waiting; how many bytes that was.

        Raises:
            ProtocolError: the connection is broken.
        """
        try:
            return self._sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ProtocolError(f"sending to the daemon: {error}") from error

    def receive(self, limit: int = 65536) -> bytes:
        """Wait for bytes; empty at the end of the stream.

        Raises:
            ProtocolError: the connection is broken.
        """
        try:
            return self._sock.recv(limit)
        except ConnectionResetError:
            # The peer closed without reading all we sent, which is its right.
            return b""
        except OSError as error:
            raise ProtocolError(f"receiving from the daemon: {error}") from error

    def receive_now(self, limit: int = 65536) -> bytes | None:
        """What is there now: None for nothing yet, empty at the end of the stream.

        Raises:
            ProtocolError: the connection is broken.
        """
        try:
            return self._sock.recv(limit, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""
        except OSError as error:
            raise ProtocolError(f"receiving from the daemon: {error}") from error

    @property
    def stale(self) -> bool:
        """Whether the peer has closed, or spoken unasked, while nothing was going on."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        return bool(poller.poll(0))

    @property
    def buffered(self) -> bool:
        """Whether bytes are waiting that no poll of the descriptor would show."""
        return False

    def finish_sending(self) -> bool:
        """Close the sending direction; False where the stream can't (TLS)."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the stream and end the program that carries it."""
        self._sock.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


class TLSStream(Stream):
    """A byte stream inside TLS."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        self._tls = sock

    def send_now(self, data: memoryview) -> int:
        """Send as much of ``data`` as the stream takes without waiting; how many bytes that was."""
        import ssl

        self._tls.setblocking(False)
        try:
            # TLS must be offered the same bytes again after a refusal, so the piece is small and its start fixed.
            return self._tls.send(data[:16384])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise ProtocolError(f"sending to the daemon: {error}") from error
        finally:
            self._tls.setblocking(True)

    def receive_now(self, limit: int = 65536) -> bytes | None:
        """What is there now: None for nothing yet, empty at the end of the stream."""
        import ssl

        self._tls.setblocking(False)
        try:
            return self._tls.recv(limit)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError as error:
            raise ProtocolError(f"receiving from the daemon: {error}") from error
        finally:
            self._tls.setblocking(True)

    @property
    def buffered(self) -> bool:
        """Whether decrypted bytes are waiting."""
        return self._tls.pending() > 0

    def finish_sending(self) -> bool:
        """TLS has no half-closed state that servers honour."""
        return False
