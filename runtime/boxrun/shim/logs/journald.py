"""The ``journald`` driver: systemd's native protocol, one datagram an entry.

Source: systemd's "Native Journal Protocol" document; the fields are those of Docker's journald driver.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SCM_RIGHTS, SO_SNDBUF, SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET, socket
from errno import EMSGSIZE, ENOBUFS
from fcntl import fcntl
from struct import pack

from boxrun.container.spec import Log
from boxrun.errors import LogDriverError
from boxrun.shim.logs.entries import Entry
from boxrun.shim.logs.outlet import Pause
from boxrun.shim.logs.timestamps import rfc3339_nano

SOCKET = "/run/systemd/journal/socket"

RETRY_SECONDS = 10.0
"""How long a journal that has gone is waited for: systemd starts it again at once."""

_PAUSE = 0.2
_BUFFER = 8 << 20
_F_ADD_SEALS = 1033
_SEALS = 0xF
_PRIORITY = {"stdout": b"6", "stderr": b"3"}


class Journald:
    """Sends to the journal of this machine."""

    def __init__(self, log: Log, pause: Pause, path: str = SOCKET) -> None:
        about = log.subject
        fields = {
            "CONTAINER_ID": about.id[:12],
            "CONTAINER_ID_FULL": about.id,
            "CONTAINER_NAME": about.name,
            "CONTAINER_TAG": about.tag,
            "IMAGE_NAME": about.image_name,
            "SYSLOG_IDENTIFIER": about.tag,
            **{field_name(key): value for key, value in log.attrs.items()},
        }
        self._fields = b"".join(field(name, value.encode()) for name, value in fields.items() if name)
        self._pause = pause
        self._path = path
        self._sock: socket | None = None
        self._patient = True

    def open(self) -> None:
        """Make sure that there is a journal."""
        if not os.path.exists(self._path):
            raise LogDriverError("journald is not enabled on this host")

    def deliver(self, entries: list[Entry]) -> int:
        """Send each entry; a journal that is being restarted is waited for."""
        return sum(not self._send(self._datagram(entry)) for entry in entries)

    def close(self) -> None:
        """Nothing is held."""
        if self._sock is not None:
            self._sock.close()

    def _datagram(self, entry: Entry) -> bytes:
        parts = [field("MESSAGE", entry.line), b"PRIORITY=%s\n" % _PRIORITY[entry.stream]]
        parts.append(b"SYSLOG_TIMESTAMP=%s\n" % rfc3339_nano(entry.time))
        piece = entry.piece
        if piece is not None:
            parts.append(f"CONTAINER_PARTIAL_ID={piece.id}\nCONTAINER_PARTIAL_ORDINAL={piece.ordinal}\n".encode())
            parts.append(b"CONTAINER_PARTIAL_LAST=%s\n" % (b"true" if piece.last else b"false"))
            if not piece.last:
                parts.append(b"CONTAINER_PARTIAL_MESSAGE=true\n")
        parts.append(self._fields)
        return b"".join(parts)

    def _send(self, datagram: bytes) -> bool:
        tries = int(RETRY_SECONDS / _PAUSE) if self._patient else 1
        for attempt in range(tries):
            try:
                self._attempt(datagram)
            except OSError:
                if self._sock is not None:
                    self._sock.close()
                    self._sock = None
                if attempt == tries - 1 or not self._pause(_PAUSE):
                    break
            else:
                self._patient = True
                return True
        self._patient = False
        return False

    def _attempt(self, datagram: bytes) -> None:
        if self._sock is None:
            sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
            try:
                sock.setsockopt(SOL_SOCKET, SO_SNDBUF, _BUFFER)
                sock.connect(self._path)
            except BaseException:
                sock.close()
                raise
            self._sock = sock
        try:
            self._sock.send(datagram)
        except OSError as error:
            if error.errno not in (EMSGSIZE, ENOBUFS):
                raise
            _send_as_file(self._sock, datagram)


def _send_as_file(sock: socket, datagram: bytes) -> None:
    """Send what is too large for a datagram in a sealed file of memory."""
    fd = os.memfd_create("boxrun-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(datagram)
        while view:
            view = view[os.write(fd, view) :]
        fcntl(fd, _F_ADD_SEALS, _SEALS)
        sock.sendmsg([], [(SOL_SOCKET, SCM_RIGHTS, pack("i", fd))])
    finally:
        os.close(fd)


def field(name: str, value: bytes) -> bytes:
    """A field of an entry; a value with a newline has its length before it."""
    if b"\n" in value:
        return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def field_name(key: str) -> str:
    """A label's or variable's name as the journal takes it: upper case, digits and underscores, none of these in front."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in key.upper()).lstrip("_")
