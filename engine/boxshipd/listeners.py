"""Where the API is served: unix sockets, TCP with mutual TLS, and sockets that systemd opened for us.

Source: dockerd's ``-H`` notation; sd_listen_fds(3).
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import grp
import logging
import os
import socket
import ssl
import stat
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from boxshipd.api.security import BrowserGuard
from boxshipd.config import Config, ConfigError

logger = logging.getLogger(__name__)

DEFAULT_SOCKET = "/var/run/boxship.sock"
_FIRST_INHERITED = 3
_BACKLOG = 1024


class ListenError(Exception):
    """An address can't be listened at; the text says which and why."""


class Address(NamedTuple):
    """Where to listen: ``unix`` with a path, ``tcp`` with a host and port, or ``fd`` with a number or all (empty)."""

    scheme: str
    host: str
    port: int = 0

    def __str__(self) -> str:
        if self.scheme != "tcp":
            return f"{self.scheme}://{self.host}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


class ProtocolFactory(Protocol):
    """Makes a protocol for each client, and ends those that are left."""

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a new client."""

    async def shutdown(self, timeout: float | None = None) -> None:
        """Let requests under way end for ``timeout`` seconds, then cut the connections."""


ServeFactory = Callable[[BrowserGuard | None], ProtocolFactory]


def parse_address(text: str, tls: bool = False) -> Address:
    """Read dockerd's notation of an address.

    Args:
        text: such as ``unix:///run/x.sock``, ``tcp://127.0.0.1:2376``, ``fd://``; a bare ``host:port`` means TCP.
        tls: decides the default port.

    Raises:
        ConfigError: it is none of these.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = ("unix", scheme) if scheme.startswith("/") else ("tcp", scheme)
    if scheme == "unix":
        return Address("unix", os.path.abspath(rest) if rest else DEFAULT_SOCKET)
    if scheme == "fd":
        if rest not in ("", "*") and not rest.isdigit():
            raise ConfigError(f"invalid bind address format: {text}")
        return Address("fd", "" if rest == "*" else rest)
    if scheme != "tcp" or "/" in rest.rstrip("/"):
        raise ConfigError(f"invalid bind address format: {text}")
    host, colon, port = rest.rstrip("/").rpartition(":")
    if not colon or host.endswith(":") or "]" in port:
        host, port = rest.rstrip("/"), ""
    host = host.strip("[]") or "127.0.0.1"
    if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigError(f"invalid port in bind address: {text}")
    return Address("tcp", host, int(port) if port else 2376 if tls else 2375)


class Listener:
    """One open address."""

    def __init__(self, address: Address, sock: socket.socket) -> None:
        self.address = address
        self.socket = sock
        self._identity: tuple[int, int] | None = None
        self._server: asyncio.Server | None = None
        self._factory: ProtocolFactory | None = None
        if address.scheme == "unix":
            status = os.stat(address.host)
            self._identity = status.st_dev, status.st_ino

    async def serve(self, serve: ServeFactory, config: Config) -> None:
        """Begin to take clients."""
        loop = asyncio.get_running_loop()
        if self.socket.family == socket.AF_UNIX:
            self._factory = serve(None)
            # The file is ours to remove, unless the socket is systemd's; Python 3.13 would remove any.
            keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            self._server = await loop.create_unix_server(self._factory, sock=self.socket, backlog=_BACKLOG, **keep)
            return
        self._factory = plain = serve(BrowserGuard(tls=config.tls))
        if not config.tls:
            self._server = await loop.create_server(plain, sock=self.socket, backlog=_BACKLOG)
            return
        from boxshipd.tls import TlsRelay

        context = _tls_context(config)
        self._server = await loop.create_server(lambda: TlsRelay(context, plain), sock=self.socket, backlog=_BACKLOG)

    def stop_accepting(self) -> None:
        """Take no more clients; a socket file that is still ours goes."""
        if self._server is not None:
            self._server.close()
        if self._identity is not None:
            try:
                status = os.stat(self.address.host)
                if (status.st_dev, status.st_ino) == self._identity:
                    os.unlink(self.address.host)
            except FileNotFoundError:
                pass

    async def drain(self, timeout: float) -> None:
        """Let requests under way end for ``timeout`` seconds, then cut the connections."""
        if self._factory is not None:
            await self._factory.shutdown(timeout)

    def close(self) -> None:
        """Close the socket of a listener that never served."""
        self.stop_accepting()
        if self._server is None:
            self.socket.close()


def _tls_context(config: Config) -> ssl.SSLContext:
    from boxshipd.tls import server_context

    try:
        return server_context(config.tlscert, config.tlskey, config.tlscacert if config.tlsverify else None)
    except OSError as error:
        files = f"{config.tlscert}, {config.tlskey}, {config.tlscacert}"
        raise ListenError(f"can't set up TLS from {files}: {error}") from error


def open_listeners(config: Config) -> list[Listener]:
    """Open every address of the configuration, so that clients can connect (and wait) from here on.

    Raises:
        ConfigError: an address can't be understood, or is TCP without a way to know the clients.
        ListenError: an address can't be had, or TLS is asked for and can't be set up, whether an address needs it or not.
    """
    addresses = [parse_address(text, config.tls) for text in config.hosts or (f"unix://{DEFAULT_SOCKET}",)]
    listeners: list[Listener] = []
    try:
        for address in addresses:
            if address.scheme == "unix":
                listeners.append(Listener(address, _open_unix(address.host, config.group)))
            elif address.scheme == "tcp":
                require_known_clients(address, config)
                listeners.append(_open_tcp(address))
            else:
                listeners += _inherited(address, config)
        if config.tls:
            _tls_context(config)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def require_known_clients(address: Address, config: Config) -> None:
    """Refuse TCP where anybody could connect, unless that was asked for in so many words.

    Raises:
        ConfigError: clients aren't made to show a certificate, and ``--insecure-tcp`` isn't given.
    """
    if config.tls and config.tlsverify:
        return
    danger = (
        f"whoever can reach {address}, every program and user on this machine and possibly web pages in a browser on it "
        "included, can start privileged containers and so is root here"
    )
    if not config.insecure_tcp:
        raise ConfigError(
            f"{address} without client certificates is refused: {danger}. "
            "Give --tlsverify with --tlscacert, --tlscert and --tlskey, or --insecure-tcp if that is what you want"
        )
    logger.warning("serving without client certificates (--insecure-tcp): %s", danger)


def _open_unix(path: str, group: str) -> socket.socket:
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    owner = _group_id(group)
    # Two daemons that start at once must not both find the socket stale: the directory is locked for the while.
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_stale(path)
        mask = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(mask)
        os.chown(path, -1, owner)
        os.chmod(path, 0o660)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"can't listen at unix://{path}: {error}") from error
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(lock)
    return sock


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ListenError(f"can't listen at unix://{path}: it exists and isn't a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                os.unlink(path)
                return
            raise ListenError(f"can't listen at unix://{path}: {error}") from error
    raise ListenError(f"can't listen at unix://{path}: another daemon serves it")


def _group_id(group: str) -> int:
    """The group that may use the socket. ``docker`` is only a default: without such a group it is root's alone."""
    name = group or "docker"
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if name.isdigit():
            return int(name)
        if group:
            raise ListenError(f"group {group} not found") from None
        logger.debug("no group docker here: the API's socket belongs to group root")
        return 0


def _open_tcp(address: Address) -> Listener:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, number, _, where = found[0]
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, number)
    except OSError as error:
        raise ListenError(f"can't listen at {address}: {error}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"can't listen at {address}: {error}") from error
    bound = sock.getsockname()
    return Listener(Address("tcp", address.host, bound[1]), sock)


def _inherited(address: Address, config: Config) -> list[Listener]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise ListenError("no sockets found via socket activation: make sure the service was started by systemd")
    last = _FIRST_INHERITED + int(os.environ.get("LISTEN_FDS", "0"))
    numbers: Sequence[int] = range(_FIRST_INHERITED, last) if not address.host else (int(address.host),)
    if not numbers or any(not _FIRST_INHERITED <= number < last for number in numbers):
        raise ListenError(f"{address}: systemd passed {last - _FIRST_INHERITED} sockets, from 3 on")
    listeners = []
    for number in numbers:
        sock = socket.socket(fileno=number)
        sock.setblocking(False)
        os.set_inheritable(number, False)
        if sock.family != socket.AF_UNIX:
            require_known_clients(address, config)
        listeners.append(Listener(Address("fd", str(number)), sock))
    return listeners
