"""The ``syslog`` driver: RFC 3164 or 5424 over UDP, TCP, TLS or a unix socket.

Source: RFC 3164, RFC 5424, RFC 5425; formats and framing are those of Docker's syslog driver.
"""

from __future__ import annotations

import os

from boxrun.container.spec import Log
from boxrun.errors import LogDriverError
from boxrun.shim.logs.entries import Entry
from boxrun.shim.logs.outlet import TLS, Address, Connection, Pause, parse_address
from boxrun.shim.logs.timestamps import rfc3339, stamp

PORT = 514

RETRY_SECONDS = 10.0
"""How long a receiver that has gone is tried again before messages are given up; after that each gets one attempt."""

FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "security", "console", "solaris-cron",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip
"""By number. Source: RFC 5424, table 1."""

_SEVERITY = {"stdout": 6, "stderr": 3}
_PAUSE = 0.5
_SOCKETS = ("/dev/log", "/var/run/syslog", "/var/run/log")
_LOCAL = tuple(Address(network, path=path) for network in ("unixgram", "unix") for path in _SOCKETS)


class Syslog:
    """Sends to a syslog server, or to this machine's."""

    def __init__(self, log: Log, pause: Pause) -> None:
        options = log.options
        self._pause = pause
        self._format = options.get("syslog-format", "")
        facility = options.get("syslog-facility", "") or "daemon"
        self._facility = int(facility) if facility.isdigit() else FACILITIES.index(facility)
        self._tag = log.subject.tag
        self._host = os.uname().nodename
        address = options.get("syslog-address", "")
        tls = TLS(
            ca=options.get("syslog-tls-ca-cert", ""),
            certificate=options.get("syslog-tls-cert", ""),
            key=options.get("syslog-tls-key", ""),
            verify="syslog-tls-skip-verify" not in options,
        )
        self._candidates = [Connection(parse_address(address, PORT), tls)] if address else [Connection(at) for at in _LOCAL]
        self._connection = self._candidates[0]
        self._patient = True

    def open(self) -> None:
        """Connect to the server, or to the first of the places where a machine has its own."""
        failure = None
        for candidate in self._candidates:
            try:
                candidate.connect()
            except LogDriverError as error:
                failure = error
            else:
                self._connection = candidate
                return
        if len(self._candidates) > 1 or failure is None:
            raise LogDriverError("Unix syslog delivery error")
        raise failure

    def deliver(self, entries: list[Entry]) -> int:
        """Send each entry but empty ones, in one go where the connection is a stream."""
        messages = [self._message(entry) for entry in entries if entry.line]
        if self._connection.address.network in ("udp", "unixgram"):
            return sum(not self._send(message) for message in messages)
        return 0 if not messages or self._send(b"".join(messages)) else len(messages)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _send(self, data: bytes) -> bool:
        tries = int(RETRY_SECONDS / _PAUSE) if self._patient else 1
        for attempt in range(tries):
            try:
                if not self._connection.connected:
                    self.open()
                self._connection.send(data)
            except (LogDriverError, OSError):
                if attempt == tries - 1 or not self._pause(_PAUSE):
                    break
            else:
                self._patient = True
                return True
        self._patient = False
        return False

    def _message(self, entry: Entry) -> bytes:
        priority = self._facility * 8 + _SEVERITY[entry.stream]
        tag, pid = self._tag, os.getpid()
        if self._format == "":
            head = f"<{priority}>{stamp(entry.time)} {tag}[{pid}]: "
        elif self._format == "rfc3164":
            head = f"<{priority}>{stamp(entry.time)} {self._host} {tag}[{pid}]: "
        else:
            moment = rfc3339(entry.time, micro=self._format == "rfc5424micro")
            head = f"<{priority}>1 {moment} {self._host} {tag} {pid} {tag} - "
        message = head.encode() + entry.line + b"\n"
        if self._connection.address.network == "tls" and self._format.startswith("rfc5424"):
            # RFC 5425, section 4.3.1: over TLS a message has its length before it.
            return b"%d %s" % (len(message), message)
        return message
