"""What the drivers that send have in common: what they are asked, and the connections they send over.

They run in a process of their own (``boxrun.shim.logs.sender``) and may block there. That process is forked like a shim, so
nothing may be imported later, and host names are passed as bytes: text would ask for the IDNA codec.
"""

from __future__ import annotations

from _socket import (
    AF_UNIX,
    MSG_NOSIGNAL,
    MSG_PEEK,
    SHUT_WR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_STREAM,
    gaierror,
    getaddrinfo,
    socket,
)
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import NamedTuple, Protocol

from boxrun.errors import LogDriverError
from boxrun.shim.logs.entries import Entry

CONNECT_SECONDS = 10.0
"""How long a connection may take to come about."""

HANG_UP_SECONDS = 1.0
"""How long a receiver may take to see the end of what it was sent."""

Pause = Callable[[float], bool]
"""Waits so many seconds; False where there is no time left, because the output has ended and somebody waits for that."""


class Outlet(Protocol):
    """A driver that sends."""

    def open(self) -> None:
        """Get in touch with the receiver.

        Raises:
            LogDriverError: that is not possible; its text is the one Docker's driver has.
        """

    def deliver(self, entries: list[Entry]) -> int:
        """Send entries, waiting and connecting again as the driver's options have it; how many of them were given up."""

    def close(self) -> None:
        """Send what is held and hang up."""


class Address(NamedTuple):
    """Where logs go: ``network`` is ``tcp``, ``udp``, ``tls``, ``unix`` or ``unixgram``."""

    network: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def shown(self) -> str:
        """As errors name it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"


def parse_address(text: str, default_port: int) -> Address:
    """An address out of a driver's option; the daemon has made sure that it is one."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    scheme = "tls" if scheme in ("tcp+tls", "tls") else scheme
    if scheme in ("unix", "unixgram"):
        return Address(scheme, path=rest)
    rest = rest.partition("/")[0]
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = rest.partition(":")
    return Address(scheme, host, int(port or default_port))


class TLS(NamedTuple):
    """How a receiver is to be trusted and what it is shown: paths of PEM files, empty for none."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    verify: bool = True


class Connection:
    """A socket to a receiver: connected when it is first needed, and again after it broke.

    Args:
        address: where.
        tls: for ``tls`` alone.
        timeout: seconds that one sending may take, None for no bound.
    """

    def __init__(self, address: Address, tls: TLS | None = None, timeout: float | None = None) -> None:
        self.address = address
        self._tls = tls
        self._timeout = timeout
        self._sock: socket | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._sock is not None

    def connect(self) -> None:
        """Connect, unless it is.

        Raises:
            LogDriverError: nobody answers.
        """
        if self._sock is not None:
            return
        network = "tcp" if self.address.network == "tls" else self.address.network
        try:
            self._sock = self._connect()
        except (OSError, gaierror) as error:
            reason = (error.strerror or str(error)).lower()
            raise LogDriverError(f"dial {network} {self.address.shown}: connect: {reason}") from error

    def _connect(self) -> socket:
        address = self.address
        datagrams = address.network in ("udp", "unixgram")
        kind = (SOCK_DGRAM if datagrams else SOCK_STREAM) | SOCK_CLOEXEC
        if address.path:
            return self._open(AF_UNIX, kind, 0, address.path)
        failure: OSError = OSError("no such host")
        host = (address.host or "localhost").encode()
        for family, _, protocol, _, target in getaddrinfo(host, address.port, 0, SOCK_DGRAM if datagrams else SOCK_STREAM):
            try:
                sock = self._open(family, kind, protocol, target)
            except OSError as error:
                failure = error
                continue
            return self._secure(sock) if address.network == "tls" else sock
        raise failure

    def _open(self, family: int, kind: int, protocol: int, target: object) -> socket:
        sock = socket(family, kind, protocol)
        try:
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(target)  # type: ignore[arg-type]
            sock.settimeout(self._timeout)
        except BaseException:
            sock.close()
            raise
        return sock

    def _secure(self, raw: socket) -> socket:
        """Speak TLS from here on. Only in a process that was executed for it: these modules are too dear for a fork's."""
        import socket as sockets
        import ssl

        tls = self._tls or TLS()
        context = ssl.create_default_context(cafile=tls.ca or None)
        # From Python 3.13 on authorities must say what their key is for, which those of Docker's users don't have to.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key or None)
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        sock = sockets.socket(fileno=raw.detach())
        try:
            sock.settimeout(CONNECT_SECONDS)
            secured = context.wrap_socket(sock, server_hostname=self.address.host)
            secured.settimeout(self._timeout)
        except BaseException:
            sock.close()
            raise
        return secured

    def send(self, data: bytes) -> None:
        """Connect if need be and send all of ``data``.

        Raises:
            LogDriverError: nobody answers.
            OSError: the connection broke; the next sending makes another.
        """
        if self._sock is not None and self._hung_up(self._sock):
            self.close()
        self.connect()
        assert self._sock is not None
        try:
            if self.address.network == "tls":
                self._sock.sendall(data)
            else:
                self._sock.sendall(data, MSG_NOSIGNAL)
        except OSError:
            self.close()
            raise

    def receive(self, size: int, timeout: float | None) -> bytes:
        """Up to ``size`` bytes; empty where the receiver has hung up.

        Raises:
            OSError: the connection broke, or nothing came in time.
        """
        if self._sock is None:
            return b""
        self._sock.settimeout(timeout)
        try:
            return self._sock.recv(size)
        finally:
            self._sock.settimeout(self._timeout)

    def _hung_up(self, sock: socket) -> bool:
        """Whether the receiver has closed: the first sending afterwards would seem to work and be lost."""
        if self.address.network not in ("tcp", "unix"):
            return False
        sock.settimeout(0)
        try:
            return not sock.recv(1, MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            sock.settimeout(self._timeout)

    def close(self) -> None:
        """Hang up."""
        if self._sock is None:
            return
        with suppress(OSError):
            if self.address.network == "tls":
                self._read_out()
            self._sock.close()
        self._sock = None

    def _read_out(self) -> None:
        """Wait for the receiver's end. A TLS server sends tickets that nobody asked for: a socket that is closed with those
        unread resets the connection, and what the receiver had not read yet is lost.
        """
        assert self._sock is not None
        until = monotonic() + HANG_UP_SECONDS
        self._sock.shutdown(SHUT_WR)
        while (left := until - monotonic()) > 0:
            self._sock.settimeout(left)
            if not self._sock.recv(4096):
                return
