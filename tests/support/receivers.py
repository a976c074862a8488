"""Receivers for the log drivers that send: what a syslog, Fluentd, Graylog server or the journal would do, and no more."""

from __future__ import annotations

import array
import json
import os
import re
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from support.daemon import wait_until


class Receiver:
    """A server in threads of its own; ``received`` grows. A context manager that ends it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received: list[Any] = []
        self.connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.closed = False

    def __enter__(self) -> Receiver:
        self._run(self._serve)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True
        for sock in (self.sock, *self.connections):
            # Closing alone leaves a thread in its call.
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(10)

    def _run(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        raise NotImplementedError

    def wait(self, count: int) -> list[Any]:
        """What has been received, once that is ``count`` of them."""
        wait_until(lambda: len(self.received) >= count, f"{count} messages received, {len(self.received)} so far")
        return self.received

    @property
    def port(self) -> int:
        return self.sock.getsockname()[1]


class Datagrams(Receiver):
    """UDP or unix datagrams, as they come."""

    def __init__(self, path: str | Path | None = None) -> None:
        sock = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind(str(path) if path else ("127.0.0.1", 0))
        # An unconnected datagram socket can't be shut down to wake its reader.
        sock.settimeout(0.2)
        super().__init__(sock)

    def _serve(self) -> None:
        while not self.closed:
            try:
                self._take(*self.sock.recvmsg(1 << 22, socket.CMSG_SPACE(16))[:2])
            except TimeoutError:
                continue
            except OSError:
                return

    def _take(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        self.received.append(data)


class Streams(Receiver):
    """TCP, TLS or unix streams, split into messages by ``_split``."""

    def __init__(self, path: str | Path | None = None, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        sock = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        if not path:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(str(path) if path else ("127.0.0.1", port))
        sock.listen()
        super().__init__(sock)
        self._tls = tls

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.sock.accept()
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                if self.closed:
                    return
                continue
            self.connections.append(connection)
            self._run(self._read, connection)

    def _read(self, connection: socket.socket) -> None:
        held = b""
        with suppress(OSError):
            while data := connection.recv(1 << 16):
                held = self._split(connection, held + data)

    def _split(self, connection: socket.socket, data: bytes) -> bytes:
        """Take the messages out of ``data``; what is left begins the next one."""
        *lines, rest = data.split(b"\n")
        self.received += lines
        return rest


class CountedStreams(Streams):
    """Syslog over TLS: each message has its length before it. Source: RFC 5425."""

    def _split(self, connection: socket.socket, data: bytes) -> bytes:
        while match := re.match(rb"(\d+) ", data):
            end = match.end() + int(match[1])
            if len(data) < end:
                break
            self.received.append(data[match.end() : end])
            data = data[end:]
        return data


class Forward(Streams):
    """Fluentd's forward protocol: ``received`` are [tag, time, record, option]; a chunk is acknowledged."""

    acknowledge = True

    def _split(self, connection: socket.socket, data: bytes) -> bytes:
        for message, end in _values(data):
            self.received.append(message)
            data = data[end:]
            if self.acknowledge and len(message) > 3 and "chunk" in message[3]:
                connection.sendall(msgspec.msgpack.encode({"ack": message[3]["chunk"]}))
        return data


def _values(data: bytes) -> Iterator[tuple[list[Any], int]]:
    """Each whole msgpack array at the front of ``data``, and its length."""
    at = 0
    while at < len(data):
        size = _size(data, at)
        if size is None:
            return
        yield msgspec.msgpack.decode(data[at : at + size]), size
        at += size


def _size(data: bytes, at: int) -> int | None:
    """The length of the msgpack value at ``at``; None where it isn't whole. Source: msgpack's specification."""
    try:
        kind = data[at]
        if kind <= 0x7F or kind >= 0xE0 or kind in (0xC0, 0xC2, 0xC3):
            return 1
        if kind in (0xCC, 0xD0, 0xCD, 0xD1, 0xCE, 0xD2, 0xCA, 0xCF, 0xD3, 0xCB):
            return {0xCC: 2, 0xD0: 2, 0xCD: 3, 0xD1: 3, 0xCE: 5, 0xD2: 5, 0xCA: 5}.get(kind, 9)
        if 0xD4 <= kind <= 0xD8:
            return 2 + (1 << (kind - 0xD4))
        if 0xA0 <= kind <= 0xBF:
            return 1 + (kind & 0x1F)
        if kind in (0xD9, 0xC4, 0xC7):
            return 2 + data[at + 1] + (kind == 0xC7)
        if kind in (0xDA, 0xC5):
            return 3 + struct.unpack_from(">H", data, at + 1)[0]
        if kind in (0xDB, 0xC6):
            return 5 + struct.unpack_from(">I", data, at + 1)[0]
        if 0x80 <= kind <= 0x9F:
            count, begin = (kind & 0xF) * (2 if kind < 0x90 else 1), 1
        elif kind in (0xDC, 0xDE):
            count, begin = struct.unpack_from(">H", data, at + 1)[0] * (2 if kind == 0xDE else 1), 3
        else:
            raise AssertionError(f"msgpack kind {kind:#x}")
    except (IndexError, struct.error):
        return None
    end = at + begin
    for _ in range(count):
        size = _size(data, end)
        if size is None or end + size > len(data):
            return None
        end += size
    return end - at


class GelfDatagrams(Datagrams):
    """Graylog over UDP: chunks are put together, whatever is compressed is not any more."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: dict[bytes, dict[int, bytes]] = {}
        self.heads: list[bytes] = []

    def _take(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        if data[:2] == b"\x1e\x0f":
            id_, at, count = data[2:10], data[10], data[11]
            parts = self.chunks.setdefault(id_, {})
            parts[at] = data[12:]
            assert len(data) <= 1420
            if len(parts) < count:
                return
            data = b"".join(parts[number] for number in range(count))
        self.heads.append(data[:2])
        if data[:2] == b"\x1f\x8b":
            data = zlib.decompress(data, 31)
        elif data[:1] == b"\x78":
            data = zlib.decompress(data)
        self.received.append(json.loads(data))


class GelfStreams(Streams):
    """Graylog over TCP: a zero byte ends each message."""

    def _split(self, connection: socket.socket, data: bytes) -> bytes:
        *messages, rest = data.split(b"\0")
        self.received += [json.loads(message) for message in messages]
        return rest


class Journal(Datagrams):
    """The journal's socket: ``received`` are fields. Source: systemd's Native Journal Protocol."""

    def _take(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        for _, _, content in ancillary:
            fds = array.array("i")
            fds.frombytes(content)
            with open(fds[0], "rb") as file:
                file.seek(0)
                data = file.read()
        fields: dict[str, bytes] = {}
        while data:
            name, separator, rest = data.partition(b"\n")
            if b"=" in name:
                key, _, value = name.partition(b"=")
                fields[key.decode()] = value
                data = rest
            else:
                assert separator
                size = int.from_bytes(rest[:8], "little")
                fields[name.decode()] = rest[8 : 8 + size]
                assert rest[8 + size : 9 + size] == b"\n"
                data = rest[9 + size :]
        self.received.append(fields)


def free_port() -> int:
    """A TCP port of the loopback interface at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def socket_path(directory: Path, name: str) -> str:
    """A path for a unix socket, which has to be short."""
    path = directory / name
    assert len(os.fsencode(path)) < 100, path
    return str(path)
