"""The shim's side of logging: a container's output, framed, written and rotated.

Two formats. ``json-file`` is byte for byte what Docker's driver of that name writes, one JSON object a line. ``local`` is
compact: binary frames (see ``FRAME_HEAD``) that hold a whole read each. A chunk is handled at once, never line by line.

A line is kept whole up to ``MAX_LINE`` bytes; a longer one is written in pieces without the closing newline, as Docker does.
When the disk refuses a write, nothing is lost in blocking mode: what could not be written stays in the backlog, ``stalled`` is
true, and the shim stops reading the container's output until ``retry`` succeeds. In non-blocking mode what the backlog can't
hold is dropped and counted.

Runs in a process forked from the zygote, so it imports only what is already there.
"""

from __future__ import annotations

import codecs
import os
import struct
import time
import zlib
from typing import Literal, Protocol

from boxrun.container.spec import Log

Stream = Literal["stdout", "stderr"]

MAX_LINE = 1 << 20
"""Bytes that a line may have before it is written in pieces."""

SUSPEND_LIMIT = 65536
"""Bytes of an unfinished line that a suspended writer may leave to its successor."""

FRAME_HEAD = struct.Struct(">IBBQ")
"""A ``local`` frame's head: payload bytes, stream (1 stdout, 2 stderr), flags, time in ns since the epoch.

The payload follows, then its length once more (``>I``), so that a reader can walk backwards.
"""

FRAME_TAIL = struct.Struct(">I")
GZIP_HEAD = struct.Struct("<4sIBBH2sHQ")
"""The head of a compressed log: magic, mtime, flags, system, then the extra field ``BX`` with the inode it was made from."""

PARTIAL = 1
"""Flag of a ``local`` frame whose payload does not end a line."""

# What a JSON string holds unescaped in Docker's encoding, and the newline, which framing replaces anyway.
_PLAIN = bytes(b for b in range(0x20, 0x80) if b not in b'"\\<>&') + b"\n"
_ESCAPES = tuple(
    (bytes((b,)), {0x22: b'\\"', 0x5C: b"\\\\", 0x0D: b"\\r"}.get(b, b"\\u%04x" % b))
    # The backslash comes first: the other escapes bring backslashes of their own.
    for b in (0x5C, 0x22, 0x3C, 0x3E, 0x26, *(b for b in range(0x20) if b != 0x0A))
)
_LINE_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
_STREAM_NUMBER = {"stdout": 1, "stderr": 2}


def _replace_invalid(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\\ufffd" * (error.end - error.start), error.end


# Go's encoder writes one escape for each byte that is not UTF-8.
codecs.register_error("boxrun.jsonlog", _replace_invalid)


class LogWriter(Protocol):
    """Where a container's output goes."""

    dropped: int
    """Bytes given up in non-blocking mode, or at close with a disk that refused to the end."""

    @property
    def stalled(self) -> bool:
        """True while the disk refuses: in blocking mode read no more output until ``retry`` returned True."""

    @property
    def pending(self) -> bool:
        """True while so much is held that is not in the file yet that the writer can't be suspended."""

    def suspend(self) -> dict[Stream, bytes]:
        """Close the file, and return the beginnings of lines that are held: a successor is to be given them first."""

    def write(self, stream: Stream, data: bytes) -> None:
        """Take ``data`` as read from ``stream``. Never raises for a full disk."""

    def retry(self) -> bool:
        """Try the backlog again; True when nothing is left of it."""

    def close(self) -> None:
        """Write what is held back (a last line without its newline) and close."""


class NoLog:
    """The ``none`` driver: output is only for attached clients."""

    dropped = 0
    stalled = False
    pending = False

    def suspend(self) -> dict[Stream, bytes]:
        """Nothing is ever held."""
        return {}

    def write(self, stream: Stream, data: bytes) -> None:
        """Forget ``data``."""

    def retry(self) -> bool:
        """Nothing is ever held."""
        return True

    def close(self) -> None:
        """Nothing is open."""


class FileLog:
    """What both file drivers share: whole lines, rotation, the backlog.

    Args:
        log: the file, its rotation and its mode.

    Raises:
        OSError: the file can't be opened.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.dropped = 0
        self._held: dict[Stream, list[bytes]] = {"stdout": [], "stderr": []}
        self._held_size: dict[Stream, int] = {"stdout": 0, "stderr": 0}
        self._backlog: list[bytes] = []
        self._compressors: list[int] = []
        self._second = -1
        self._second_text = b""
        self._open()

    @property
    def stalled(self) -> bool:
        """True while the disk refuses and the mode is blocking."""
        return bool(self._backlog) and self._log.blocking

    @property
    def pending(self) -> bool:
        """True while so much is held that is not in the file yet that the writer can't be suspended."""
        self._reap_compressors()
        return bool(self._backlog or self._compressors) or max(self._held_size.values()) > SUSPEND_LIMIT

    def suspend(self) -> dict[Stream, bytes]:
        """Close the file, and return the beginnings of lines that are held."""
        begun = {stream: b"".join(held) for stream, held in self._held.items() if held}
        for held in self._held.values():
            held.clear()
        self.close()
        return begun

    def write(self, stream: Stream, data: bytes) -> None:
        """Frame the lines that ``data`` completes and write them; hold back the start of the next one."""
        held = self._held[stream]
        end = data.rfind(b"\n") + 1
        if end == 0:
            held.append(data)
            self._held_size[stream] += len(data)
        else:
            if held:
                held.append(data[:end])
                whole = b"".join(held)
            else:
                whole = data if end == len(data) else data[:end]
            held.clear()
            self._held_size[stream] = 0
            if end < len(data):
                held.append(data[end:])
                self._held_size[stream] = len(data) - end
            self._put(self._frame(stream, whole))
        if self._held_size[stream] >= MAX_LINE:
            self._write_pieces(stream)

    def _write_pieces(self, stream: Stream) -> None:
        """Write a line that has grown past MAX_LINE in pieces that end between characters."""
        held = self._held[stream]
        whole = b"".join(held)
        held.clear()
        while len(whole) >= MAX_LINE:
            cut = MAX_LINE
            while cut > MAX_LINE - 4 and cut < len(whole) and whole[cut] & 0xC0 == 0x80:
                cut -= 1
            self._put(self._frame(stream, whole[:cut]))
            whole = whole[cut:]
        self._held_size[stream] = len(whole)
        if whole:
            held.append(whole)

    def _frame(self, stream: Stream, data: bytes) -> bytes:
        raise NotImplementedError

    def _break(self, framed: bytes, room: int) -> int:
        """Where ``framed`` may be cut so that the first part has at most ``room`` bytes (0: not at all)."""
        raise NotImplementedError

    def _put(self, framed: bytes) -> None:
        if self._backlog:
            self._hold(framed)
            return
        limit = self._log.max_size
        while limit > 0 and self._size + len(framed) > limit:
            cut = self._break(framed, limit - self._size)
            if cut:
                self._append(framed[:cut])
                framed = framed[cut:]
            elif self._size == 0:
                # A single line larger than the limit: it gets a file of its own, a little too large.
                cut = self._break(framed, -1)
                self._append(framed[:cut])
                framed = framed[cut:]
            if not framed:
                return
            if self._backlog:
                self._hold(framed)
                return
            if self._size and not self._rotated():
                break
        self._append(framed)

    def _append(self, framed: bytes) -> None:
        view = memoryview(framed)
        while view:
            try:
                written = os.write(self._fd, view)
            except InterruptedError:
                continue
            except OSError:
                self._hold(bytes(view))
                return
            self._size += written
            view = view[written:]

    def _hold(self, framed: bytes) -> None:
        # A frame that was begun must be finished, or the file would be torn: the first entry is never dropped.
        if not self._log.blocking and self._backlog and sum(map(len, self._backlog)) + len(framed) > self._log.buffer_size:
            self.dropped += len(framed)
        else:
            self._backlog.append(framed)

    def retry(self) -> bool:
        """Try to write the backlog; True when nothing is left of it."""
        backlog, self._backlog = self._backlog, []
        for index, framed in enumerate(backlog):
            self._append(framed)
            if self._backlog:
                self._backlog.extend(backlog[index + 1 :])
                return False
        return True

    def close(self) -> None:
        """Write the last lines without their newline, try the backlog once more, and close the file."""
        for stream, held in self._held.items():
            if held:
                self._put(self._frame(stream, b"".join(held)))
                held.clear()
        if not self.retry():
            self.dropped += sum(map(len, self._backlog))
        os.close(self._fd)
        if self._log.compress:
            try:
                _adopt_compressed(self._log.path, self._log.max_files)
            except OSError:
                # It stays beside the file it was made from, and the next rotation tries again.
                pass

    def _open(self) -> None:
        self._fd = os.open(self._log.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _rotated(self) -> bool:
        """Rotate, if that is possible: rather a file that is too large than a container that dies of its log."""
        try:
            self._rotate()
        except OSError:
            return False
        return True

    def _rotate(self) -> None:
        """Move the full file to ``.1``, the older ones one further, and begin a new one."""
        path, keep = self._log.path, self._log.max_files
        if keep <= 1:
            # A follower sees that the file shrank; nothing older is kept, which is what max-file=1 asks for.
            os.ftruncate(self._fd, 0)
            self._size = 0
            return
        if self._log.compress:
            _adopt_compressed(path, keep)
        for suffix in ("", ".gz"):
            _unlink_if_there(f"{path}.{keep - 1}{suffix}")
            for number in range(keep - 2, 0, -1):
                _rename_if_there(f"{path}.{number}{suffix}", f"{path}.{number + 1}{suffix}")
        os.rename(path, f"{path}.1")
        full = self._fd
        try:
            self._open()
        except OSError:
            os.rename(f"{path}.1", path)
            raise
        os.close(full)
        if self._log.compress:
            self._reap_compressors()
            self._compressors.append(_compress_aside(path))

    def _reap_compressors(self) -> None:
        self._compressors = [pid for pid in self._compressors if _runs(pid)]

    def _timestamp(self, now: int) -> bytes:
        second, fraction = divmod(now, 1_000_000_000)
        if second != self._second:
            t = time.gmtime(second)
            self._second = second
            self._second_text = b"%04d-%02d-%02dT%02d:%02d:%02d." % (t[0], t[1], t[2], t[3], t[4], t[5])
        return self._second_text + b"%09dZ" % fraction


class JSONFileLog(FileLog):
    """The ``json-file`` driver. Source: Docker's jsonfilelog and its jsonlog encoding."""

    def __init__(self, log: Log) -> None:
        attrs = b",".join(b'"%s":"%s"' % (escape(k.encode()), escape(v.encode())) for k, v in sorted(log.attrs.items()))
        self._attrs = b'"attrs":{%s},' % attrs if attrs else b""
        super().__init__(log)

    def _frame(self, stream: Stream, data: bytes) -> bytes:
        # For a chunk without anything to escape, translate leaves nothing: one pass at memory speed.
        if data.translate(None, _PLAIN):
            data = escape(data)
        tail = b'","stream":"%s",%s"time":"%s"}\n' % (stream.encode(), self._attrs, self._timestamp(time.time_ns()))
        if data.endswith(b"\n"):
            return b'{"log":"' + data[:-1].replace(b"\n", b"\\n" + tail + b'{"log":"') + b"\\n" + tail
        return b'{"log":"' + data.replace(b"\n", b"\\n" + tail + b'{"log":"') + tail

    def _break(self, framed: bytes, room: int) -> int:
        return framed.find(b"\n") + 1 if room < 0 else framed.rfind(b"\n", 0, room) + 1


class LocalLog(FileLog):
    """The ``local`` driver: compact binary frames, a whole read in each."""

    def _frame(self, stream: Stream, data: bytes) -> bytes:
        flags = 0 if data.endswith(b"\n") else PARTIAL
        head = FRAME_HEAD.pack(len(data), _STREAM_NUMBER[stream], flags, time.time_ns())
        return head + data + FRAME_TAIL.pack(len(data))

    def _break(self, framed: bytes, room: int) -> int:
        # One call brings one frame; it goes whole into the next file.
        return len(framed) if room < 0 or room >= len(framed) else 0


def escape(data: bytes) -> bytes:
    """Return ``data`` as Docker escapes it inside a JSON string, its newlines left as they are.

    What is not UTF-8 becomes ``\\ufffd``, one for each byte. Source: Docker's jsonlogbytes.go.
    """
    present = set(data.translate(None, _PLAIN))
    for plain, escaped in _ESCAPES:
        if plain[0] in present:
            data = data.replace(plain, escaped)
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            data = data.decode("utf-8", "boxrun.jsonlog").encode()
        for plain, escaped in _LINE_SEPARATORS:
            data = data.replace(plain, escaped)
    return data


def open_log(log: Log) -> LogWriter:
    """Open the log that ``log`` describes.

    Raises:
        OSError: its file can't be opened.
    """
    if log.driver == "none":
        return NoLog()
    return JSONFileLog(log) if log.driver == "json-file" else LocalLog(log)


def _compress_aside(path: str) -> int:
    """Compress ``path.1`` in a process of its own, so that the container's output goes on meanwhile.

    The files may be rotated on while it runs, so it leaves its result under the file's inode number; only the writer,
    which alone rotates, gives it its name (``_adopt_compressed``).
    """
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        # The container's pipes and its clients' sockets among them, whose end would otherwise wait for this process.
        os.closerange(3, 65536)
        fd = os.open(f"{path}.1", os.O_RDONLY | os.O_CLOEXEC)
        inode = os.fstat(fd).st_ino
        _gzip(fd, f"{path}.tmp-{inode}")
        os.rename(f"{path}.tmp-{inode}", f"{path}.gz-{inode}")
        status = 0
    finally:
        os._exit(status)


def _runs(pid: int) -> bool:
    """Whether a child still runs; reaps it if not."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def _adopt_compressed(path: str, keep: int) -> None:
    """Put each finished compressed file in the place of the file it was made from."""
    for number in range(1, keep):
        try:
            inode = os.stat(f"{path}.{number}").st_ino
            os.rename(f"{path}.gz-{inode}", f"{path}.{number}.gz")
        except FileNotFoundError:
            continue
        os.unlink(f"{path}.{number}")


def _gzip(fd: int, target: str) -> None:
    """Write a gzip member of ``fd``'s content, with the file's inode number in the header's extra field.

    A follower that reads on after a rotation knows files by inode number; the field tells it that this is one it has read.
    Source: RFC 1952, section 2.3.1.1; the subfield id is ours.
    """
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    _write_all(out, GZIP_HEAD.pack(b"\x1f\x8b\x08\x04", 0, 0, 255, 12, b"BX", 8, os.fstat(fd).st_ino))
    packer, checksum, size = zlib.compressobj(1, zlib.DEFLATED, -15), 0, 0
    while chunk := os.read(fd, 1 << 18):
        checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
        _write_all(out, packer.compress(chunk))
    _write_all(out, packer.flush() + struct.pack("<II", checksum, size & 0xFFFFFFFF))
    os.close(out)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _rename_if_there(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        pass
