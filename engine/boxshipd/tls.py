"""TLS ends at the listener: behind it there are only plain sockets.

A container's streams are handed over as sockets, and one that carries TLS could not be. So each TLS connection gets a
socket pair: one end is served as if a client had connected to it, the other is relayed here. Unlike asyncio's own TLS,
this relay keeps the two directions apart: a client may end its stdin (close_notify) and go on reading.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import cast

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 10.0
"""Seconds a client gets for its handshake."""

_READ_SIZE = 256 * 1024


def server_context(certificate: str, key: str, authority: str | None) -> ssl.SSLContext:
    """TLS as a server speaks it: 1.2 or newer.

    Args:
        certificate: path of our certificate chain in PEM.
        key: path of its private key in PEM.
        authority: path of the certificates, in PEM, that clients' certificates must be signed by; None lets any client in.

    Raises:
        OSError: a file can't be read, or (ssl.SSLError) doesn't hold what it should.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if authority is not None:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class TlsRelay(asyncio.Protocol):
    """One client's TLS connection, and the relay of what it says to a plain socket."""

    def __init__(self, context: ssl.SSLContext, plain: Callable[[], asyncio.Protocol]) -> None:
        """Set up; ``plain`` makes the protocol that serves the decrypted stream."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._plain = plain
        self._client: asyncio.Transport | None = None
        self._inner: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._handshaken = False
        self._client_ended = False
        self._plain_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._client = cast(asyncio.Transport, transport)
        self._deadline = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT, self._client.abort)

    def data_received(self, data: bytes) -> None:
        """The client has sent ciphertext."""
        self._incoming.write(data)
        try:
            if not self._handshaken:
                self._shake_hands()
            elif self._inner is not None:
                self._relay()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            logger.debug("TLS connection failed: %s", error)
            self._flush()
            self._close()

    def eof_received(self) -> bool:
        """The client's TCP stream ended; without a close_notify before it, it was cut off."""
        if not self._client_ended:
            self._close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._close()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        if self._inner is not None:
            self._inner.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._inner is not None:
            self._inner.resume_reading()

    def _shake_hands(self) -> None:
        self._tls.do_handshake()
        self._handshaken = True
        self._flush()
        if self._deadline is not None:
            self._deadline.cancel()
        assert self._client is not None
        # Nothing is read until there is somebody to read for.
        self._client.pause_reading()
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        served, relayed = socket.socketpair()
        served.setblocking(False)
        relayed.setblocking(False)
        await loop.connect_accepted_socket(self._plain, served)
        transport, _ = await loop.connect_accepted_socket(lambda: _Inner(self), relayed)
        if self._client is None or self._client.is_closing():
            transport.abort()
            return
        self._inner = transport
        self._client.resume_reading()
        self.data_received(b"")

    def _relay(self) -> None:
        """Decrypt what there is and pass it on."""
        assert self._inner is not None
        while not self._client_ended:
            try:
                data = self._tls.read(_READ_SIZE)
            except ssl.SSLZeroReturnError:
                data = b""
            if data:
                self._inner.write(data)
                continue
            self._client_ended = True
            self._inner.write_eof()
        self._flush()
        self._close_if_done()

    def _flush(self) -> None:
        if self._outgoing.pending and self._client is not None and not self._client.is_closing():
            self._client.write(self._outgoing.read())

    def send(self, data: bytes) -> None:
        """Encrypt and send what the plain side said."""
        self._tls.write(data)
        self._flush()

    def end(self) -> None:
        """The plain side has no more to say; the client may."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            # The client's own close_notify is still to come.
            pass
        self._flush()
        self._plain_ended = True
        self._close_if_done()

    def pause_client(self) -> None:
        """The plain side reads too slowly."""
        if self._client is not None:
            self._client.pause_reading()

    def resume_client(self) -> None:
        """The plain side reads again."""
        if self._client is not None and not self._client.is_closing():
            self._client.resume_reading()

    def inner_lost(self) -> None:
        """The plain side is gone."""
        self._inner = None
        self._close()

    def _close_if_done(self) -> None:
        if self._client_ended and self._plain_ended:
            self._close()

    def _close(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._client is not None:
            self._client.close()
        if self._inner is not None:
            self._inner.close()


class _Inner(asyncio.Protocol):
    """Our end of the socket pair."""

    def __init__(self, relay: TlsRelay) -> None:
        self._relay = relay

    def data_received(self, data: bytes) -> None:
        self._relay.send(data)

    def eof_received(self) -> bool:
        self._relay.end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.inner_lost()

    def pause_writing(self) -> None:
        self._relay.pause_client()

    def resume_writing(self) -> None:
        self._relay.resume_client()
