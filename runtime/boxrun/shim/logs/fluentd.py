"""The ``fluentd`` driver: the forward protocol's message mode, in msgpack.

Source: Fluentd's Forward Protocol Specification v1; records and options are those of Docker's fluentd driver.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from struct import pack
from time import monotonic

from msgspec import DecodeError
from msgspec.msgpack import Decoder, Encoder, Ext

from boxrun.container.spec import Log
from boxrun.errors import LogDriverError
from boxrun.shim.logs.durations import seconds
from boxrun.shim.logs.entries import Entry
from boxrun.shim.logs.outlet import TLS, Connection, Pause, parse_address

PORT = 24224
LONGEST_PAUSE = 60.0
"""Seconds between attempts at most, however often they failed."""

GROWTH = 1.5
"""By how much each pause is longer than the one before."""

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_encoder = Encoder()
_decoder = Decoder()


class Fluentd:
    """Sends to a Fluentd, or to whatever speaks its protocol."""

    def __init__(self, log: Log, pause: Pause) -> None:
        options, about = log.options, log.subject
        self._pause = pause
        self._tag = about.tag
        self._record = {"container_id": about.id, "container_name": f"/{about.name}", **log.attrs}
        self._asynchronous = options.get("fluentd-async", "") in _TRUE
        self._acknowledged = options.get("fluentd-request-ack", "") in _TRUE
        self._sub_second = options.get("fluentd-sub-second-precision", "") in _TRUE
        self._retry_wait = seconds(options.get("fluentd-retry-wait", "")) or 1.0
        self._max_retries = int(options.get("fluentd-max-retries", "") or 1 << 31)
        self._reconnect_every = seconds(options.get("fluentd-async-reconnect-interval", "")) if self._asynchronous else 0.0
        self._read_timeout = seconds(options.get("fluentd-read-timeout", "")) or None
        write_timeout = seconds(options.get("fluentd-write-timeout", "")) or None
        address = parse_address(options.get("fluentd-address", "") or f"127.0.0.1:{PORT}", PORT)
        self._connection = Connection(address, TLS(), write_timeout)
        self._connected_at = 0.0

    def open(self) -> None:
        """Connect, unless that is left to the first message (``fluentd-async``)."""
        if not self._asynchronous:
            self._connection.connect()

    def deliver(self, entries: list[Entry]) -> int:
        """Send the entries together, or each by itself where it is to be acknowledged."""
        if not self._acknowledged:
            return 0 if self._send(b"".join(self._message(entry, "") for entry in entries), "") else len(entries)
        lost = 0
        for entry in entries:
            chunk = b2a_base64(os.urandom(16), newline=False).decode()
            lost += not self._send(self._message(entry, chunk), chunk)
        return lost

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _message(self, entry: Entry, chunk: str) -> bytes:
        # Docker's driver sends whatever bytes there are as a string; msgpack's are of UTF-8.
        record = {**self._record, "source": entry.stream, "log": entry.line.decode("utf-8", "replace")}
        piece = entry.piece
        if piece is not None:
            last = "true" if piece.last else "false"
            record |= {"partial_message": "true", "partial_id": piece.id, "partial_ordinal": str(piece.ordinal)}
            record["partial_last"] = last
        second, fraction = divmod(entry.time, 1_000_000_000)
        moment = Ext(0, pack(">II", second & 0xFFFFFFFF, fraction)) if self._sub_second else second
        option = {"chunk": chunk} if chunk else {}
        return _encoder.encode([self._tag, moment, record, option])

    def _send(self, data: bytes, chunk: str) -> bool:
        wait = self._retry_wait
        for _ in range(max(self._max_retries, 1)):
            try:
                self._renew()
                self._connection.send(data)
                if not chunk or self._acknowledges(chunk):
                    return True
            except (LogDriverError, OSError):
                pass
            self._connection.close()
            if not self._pause(wait):
                return False
            wait = min(wait * GROWTH, LONGEST_PAUSE)
        return False

    def _renew(self) -> None:
        """Connect anew every so often, where that is asked for, so that a balancer in between can choose again."""
        connected = self._connection.connected
        if connected and self._reconnect_every and monotonic() - self._connected_at >= self._reconnect_every:
            self._connection.close()
            connected = False
        if not connected:
            self._connection.connect()
            self._connected_at = monotonic()

    def _acknowledges(self, chunk: str) -> bool:
        """Wait for the receiver's answer to a chunk."""
        answer = b""
        while data := self._connection.receive(4096, self._read_timeout):
            answer += data
            try:
                decoded = _decoder.decode(answer)
            except DecodeError:
                # It hasn't come whole, or is not for us to understand.
                if len(answer) > 4096:
                    return False
                continue
            return isinstance(decoded, dict) and decoded.get("ack") == chunk
        return False
