"""The ``gelf`` driver: Graylog's extended log format, over UDP in chunks or over TCP.

Source: the GELF 1.1 payload specification; the fields are those of Docker's gelf driver.
"""

from __future__ import annotations

import os
import zlib

from msgspec.json import Encoder

from boxrun.container.spec import Log
from boxrun.errors import LogDriverError
from boxrun.shim.logs.entries import Entry
from boxrun.shim.logs.outlet import Connection, Pause, parse_address

PORT = 12201

CHUNK = 1420
"""Bytes of a datagram, so that none is cut up on its way."""

MAX_CHUNKS = 128
_CHUNK_HEAD = b"\x1e\x0f"
_PAYLOAD = CHUNK - 12
_LEVEL = {"stdout": 6, "stderr": 3}
# The window's size says which head and tail zlib writes. Source: zlib's deflateInit2.
_WINDOW = {"gzip": 31, "zlib": 15}
_encoder = Encoder()


class Gelf:
    """Sends to a Graylog server."""

    def __init__(self, log: Log, pause: Pause) -> None:
        options, about = log.options, log.subject
        self._pause = pause
        self._host = os.uname().nodename
        extra = {
            "_container_id": about.id,
            "_container_name": about.name,
            "_image_id": about.image_id,
            "_image_name": about.image_name,
            "_command": about.command,
            "_tag": about.tag,
            "_created": about.created,
        }
        self._extra = extra | {key if key.startswith("_") else f"_{key}": value for key, value in log.attrs.items()}
        self._connection = Connection(parse_address(options.get("gelf-address", ""), PORT))
        self._stream = self._connection.address.network == "tcp"
        self._window = _WINDOW.get(options.get("gelf-compression-type", "") or "gzip", 0)
        self._level = int(options.get("gelf-compression-level", "") or 1)
        self._max_reconnect = int(options.get("gelf-tcp-max-reconnect", "") or 3)
        self._delay = float(options.get("gelf-tcp-reconnect-delay", "") or 1)

    def open(self) -> None:
        """Connect; over UDP that finds out where the name leads."""
        try:
            self._connection.connect()
        except LogDriverError as error:
            raise LogDriverError(f"gelf: cannot connect to GELF endpoint: {self._connection.address.shown} {error}") from error

    def deliver(self, entries: list[Entry]) -> int:
        """Send each entry but empty ones."""
        messages = [self._message(entry) for entry in entries if entry.line]
        if self._stream:
            return 0 if not messages or self._send(b"\0".join([*messages, b""])) else len(messages)
        return sum(not self._send_datagrams(message) for message in messages)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _message(self, entry: Entry) -> bytes:
        return _encoder.encode(
            {
                "version": "1.1",
                "host": self._host,
                "short_message": entry.line.decode("utf-8", "replace"),
                "timestamp": entry.time // 1_000_000 / 1000,
                "level": _LEVEL[entry.stream],
                **self._extra,
            }
        )

    def _send(self, data: bytes) -> bool:
        for attempt in range(self._max_reconnect + 1):
            try:
                self._connection.send(data)
            except (LogDriverError, OSError):
                if attempt == self._max_reconnect or not self._pause(self._delay):
                    return False
            else:
                return True
        return False

    def _send_datagrams(self, message: bytes) -> bool:
        if self._window:
            packer = zlib.compressobj(self._level, zlib.DEFLATED, self._window)
            message = packer.compress(message) + packer.flush()
        if len(message) <= CHUNK:
            return self._send_datagram(message)
        count = -(-len(message) // _PAYLOAD)
        if count > MAX_CHUNKS:
            return False
        head = _CHUNK_HEAD + os.urandom(8)
        pieces = (message[at * _PAYLOAD : (at + 1) * _PAYLOAD] for at in range(count))
        return all(self._send_datagram(head + bytes((at, count)) + piece) for at, piece in enumerate(pieces))

    def _send_datagram(self, datagram: bytes) -> bool:
        # An error of UDP's is the answer to an earlier datagram; this one is worth a second attempt.
        for _ in range(2):
            try:
                self._connection.send(datagram)
            except (LogDriverError, OSError):
                continue
            return True
        return False
