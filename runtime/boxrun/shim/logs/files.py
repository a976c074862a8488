"""What the drivers that write files share: whole frames, rotation, and what happens when the disk refuses.

When the disk refuses a write, nothing is lost in blocking mode: what could not be written stays in the backlog, ``stalled`` is
true, and the shim stops reading the container's output until ``retry`` succeeds. In non-blocking mode what the backlog can't
hold is dropped and counted. That it refuses, and why, is complained of once, and so is the end of it.
"""

from __future__ import annotations

import os

from boxrun.container.spec import Log
from boxrun.shim.complaints import complain
from boxrun.shim.logs.backlog import Backlog
from boxrun.shim.logs.rotation import adopt_compressed, compress_aside, remove_strays, runs, shift, uncompressed
from boxrun.shim.logs.writer import LineLog, Position, Stream


class FileLog(LineLog):
    """A log in files.

    Args:
        log: the file, its rotation and its mode.

    Raises:
        OSError: the file can't be opened.
    """

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log
        self._backlog = Backlog(None if log.blocking else log.buffer_size)
        self._compressor = 0
        self._tried: set[int] = set()
        self._torn_at = 0
        self._refused = False
        self._open()
        if self._size:
            self._mend()

    @property
    def stalled(self) -> bool:
        """True while the disk refuses and the mode is blocking."""
        return self._log.blocking and bool(self._backlog)

    @property
    def waiting(self) -> bool:
        """True while the disk refuses."""
        return bool(self._backlog)

    @property
    def pending(self) -> bool:
        """True while so much is held that is not in the file yet that the writer can't be suspended."""
        if self._compressor:
            self._compress()
        return bool(self._backlog or self._compressor) or self._begun_is_large

    def position(self) -> Position:
        """How far the log is written."""
        return Position(inode=os.fstat(self._fd).st_ino, offset=self._size, begun=self._begun())

    def suspend(self) -> dict[Stream, bytes]:
        """Close the file, and return the beginnings of lines that are held."""
        begun = self._release_begun()
        self.close()
        return begun

    def _take(self, stream: Stream, data: bytes, *, final: bool = False) -> None:
        self.put(self._frame(stream, data, final=final))

    def _frame(self, stream: Stream, data: bytes, *, final: bool) -> bytes:
        raise NotImplementedError

    def _break(self, framed: bytes, room: int) -> int:
        """Where ``framed`` may be cut so that the first part has at most ``room`` bytes (0: not at all)."""
        raise NotImplementedError

    def _messages(self, framed: bytes) -> int:
        """How many messages ``framed`` holds."""
        raise NotImplementedError

    def put(self, framed: bytes) -> None:
        """Write what is framed already, into this file and the next as it fits."""
        if self._backlog:
            self._hold(framed, self._messages(framed))
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
                self._hold(framed, self._messages(framed))
                return
            if self._size and not self._rotated():
                break
        self._append(framed)

    def _append(self, framed: bytes, count: int | None = None) -> None:
        """Write a frame; what the disk refuses is held.

        Args:
            framed: the frame, or the rest of one that was held.
            count: for a held one: how many messages go with it if it is given up.
        """
        start, view = self._size, memoryview(framed)
        while view:
            try:
                written = os.write(self._fd, view)
            except InterruptedError:
                continue
            except OSError as error:
                self._complain_of(error)
                written = len(framed) - len(view)
                whole = self._break(framed, written)
                if whole or count is None:
                    self._torn_at = start + whole
                left = self._left(framed, written, self._messages(framed) if count is None else count)
                self._hold(bytes(view), left, begun=count is not None or written > 0)
                return
            self._size += written
            view = view[written:]

    def _left(self, framed: bytes, written: int, count: int) -> int:
        """How many of a frame's ``count`` messages are lost if only so many of its bytes are ``written``."""
        raise NotImplementedError

    def _hold(self, framed: bytes, count: int, *, begun: bool = False) -> None:
        if not self._backlog.add(framed, count, begun=begun):
            self.dropped += count

    def retry(self) -> bool:
        """Try to write the backlog; True when nothing is left of it."""
        frames = self._backlog.take()
        for index, (framed, held) in enumerate(frames):
            self._append(framed, held)
            if self._backlog:
                # The first of them may have been begun, and the others were there before it.
                for later, count in frames[index + 1 :]:
                    self._backlog.add(later, count, begun=True)
                return False
        if self._refused:
            self._refused = False
            self._complain("goes on")
        return True

    def _complain_of(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            then = "the container waits for it" if self._log.blocking else "what there is no room for is dropped"
            self._complain(f"{error.strerror}: {then}")

    def _complain(self, text: str) -> None:
        complain("boxrun-shim", f"log {self._log.path}: {text}")

    def close(self) -> None:
        """Write the last lines without their newline, try the backlog once more, and close the file."""
        self._write_last_lines()
        if not self.retry():
            self.dropped += self._backlog.messages
            self._complain(f"{self._backlog.messages} messages were given up at the container's end")
            # The next run writes on here, and an entry without its end would take the next one with it.
            os.ftruncate(self._fd, self._torn_at)
        os.close(self._fd)
        if self._log.compress:
            try:
                adopt_compressed(self._log.path, self._log.max_files)
                if not self._compressor:
                    remove_strays(self._log.path, self._log.max_files)
            except OSError:
                # It stays beside the file it was made from, and the next rotation tries again.
                pass

    def _open(self) -> None:
        self._fd = os.open(self._log.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _mend(self) -> None:
        """Cut off an entry that an earlier writer died in: what follows would be taken for its rest."""
        fd = os.open(self._log.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            whole = self._whole(fd, self._size)
        finally:
            os.close(fd)
        if whole < self._size:
            os.ftruncate(self._fd, whole)
            self._size = whole

    def _whole(self, fd: int, size: int) -> int:
        """How many of the ``size`` bytes of the file ``fd`` are whole entries."""
        raise NotImplementedError

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
        shift(path, keep, compressed=self._log.compress)
        full = self._fd
        try:
            self._open()
        except OSError:
            os.rename(f"{path}.1", path)
            raise
        os.close(full)
        if self._log.compress:
            self._compress()

    def _compress(self) -> None:
        """Have one file at a time compressed, the newest first, and each tried once.

        A container may fill files faster than they can be compressed. Then some are rotated away as they are, which keeps the
        disk within what was asked for, and processes from piling up.
        """
        if self._compressor and runs(self._compressor):
            return
        self._compressor = 0
        path, keep = self._log.path, self._log.max_files
        try:
            remove_strays(path, keep)
            waiting = uncompressed(path, keep)
            self._tried &= waiting.keys()
            inode = next((inode for inode in waiting if inode not in self._tried), 0)
            if inode:
                self._tried.add(inode)
                self._compressor = compress_aside(path, inode, waiting[inode])
        except OSError as error:
            self._complain(f"{error.strerror}: rotated files stay as they are")
