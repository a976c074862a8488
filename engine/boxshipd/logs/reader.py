"""Reading a container's log as a client asks for it.

Source: Docker Engine API v1.51, ContainerLogs and the stream format of ContainerAttach.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from typing import ParamSpec
from urllib.parse import quote_plus

from boxrun.shim.logs import Position

from boxshipd.logs.cursor import BEGINNING, cursor, seek
from boxshipd.logs.decode import Decoder, Entry, Stream, decoder, format_time
from boxshipd.logs.files import LogFile, open_after, open_all, rotated
from boxshipd.logs.options import LogOptions, LogSource
from boxshipd.logs.watch import changes

P = ParamSpec("P")

CHUNK = 1 << 20
"""Bytes of a file that make a piece, about; a longer entry is read whole all the same."""

_BLOCK = 96 << 10
"""Bytes read and decoded at a time: they stay in a processor's cache, and in memory that malloc doesn't give back each time."""

SMALL = 1 << 16
"""Up to this many bytes reading and decoding is done at once; more goes to a thread, so that nobody else waits."""

_SAMPLE = 64
"""Bytes of a file's beginning that tell whether it is still the same."""

_HEADER = struct.Struct(">BxxxI")
_STREAM_NUMBER = {"stdout": 1, "stderr": 2}


_POSITION = 4
"""The stream number of the frames that tell a reader where it is."""


class Renderer:
    """Makes the client's bytes of entries: filters, prefixes, frames."""

    def __init__(self, options: LogOptions, log_decoder: Decoder, *, multiplexed: bool) -> None:
        self._options = options
        self.decoder = log_decoder
        self._multiplexed = multiplexed
        self._prefixed = options.timestamps or options.details
        self.skip = 0
        self.finished = False

    def render(self, data: bytes) -> bytes:
        """What the client gets for ``data``, which is whole entries.

        A frame holds one line, as Docker's do and some clients expect; where there is much, it holds many.
        """
        single = self._multiplexed and len(data) <= SMALL
        if not (self._prefixed or self._options.since or self._options.until or self.skip):
            plain = self.decoder.plain(data)
            if plain is not None:
                stream, text = plain
                if not self._wanted(stream):
                    return b""
                if single:
                    # Not splitlines: a carriage return ends no line of a log.
                    return b"".join([self._frame(stream, line + b"\n") for line in text[:-1].split(b"\n")])
                return self._frame(stream, text)
        out: list[bytes] = []
        run: list[bytes] = []
        run_stream = ""
        for entry in self._selected(data):
            if run and (single or entry.stream != run_stream):
                out.append(self._frame(run_stream, b"".join(run)))
                run.clear()
            run_stream = entry.stream
            run.append(self._prefix(entry) + entry.data if self._prefixed else entry.data)
        if run:
            out.append(self._frame(run_stream, b"".join(run)))
        return b"".join(out)

    def _selected(self, data: bytes) -> Iterator[Entry]:
        since, until = self._options.since, self._options.until
        for entry in self.decoder.entries(data):
            if self.skip:
                self.skip -= 1
            elif until and entry.time > until:
                self.finished = True
                return
            elif entry.time >= since and self._wanted(entry.stream):
                yield entry

    def _wanted(self, stream: str) -> bool:
        return self._options.stdout if stream == "stdout" else self._options.stderr

    def _prefix(self, entry: Entry) -> bytes:
        words = []
        if self._options.timestamps:
            words.append(format_time(entry.time))
        if self._options.details:
            words.append(
                ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in sorted(entry.attrs.items())).encode()
            )
        return b" ".join(words) + b" "

    def position(self, file: LogFile | None) -> bytes:
        """The frame that tells where the reader of ``file`` is, where it wants to know; without a file, at the beginning."""
        if not self._options.positions:
            return b""
        text = (cursor(file) if file is not None else BEGINNING).encode()
        return _HEADER.pack(_POSITION, len(text)) + text

    def begun(self, lines: dict[Stream, bytes]) -> bytes:
        """The beginnings of lines that are not in the log yet."""
        return b"".join(self._frame(stream, data) for stream, data in lines.items() if self._wanted(stream))

    def _frame(self, stream: str, data: bytes) -> bytes:
        return _HEADER.pack(_STREAM_NUMBER[stream], len(data)) + data if self._multiplexed else data


@asynccontextmanager
async def open_logs(
    source: LogSource, options: LogOptions, *, multiplexed: bool, end: Position | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open a log now, so that all of it can be read even if the container is removed meanwhile.

    Within the context: the log's bytes for a client, ready to be sent, in pieces of about a megabyte at most.

    Args:
        source: the container's log.
        options: what is asked for; with ``follow`` the iteration goes on until the container has ended.
        multiplexed: frame with Docker's 8-byte headers; else the bare bytes.
        end: where to stop, the beginnings of lines included that the log's writer holds there.

    Raises:
        OSError: a file can't be read.
        InvalidParameter: ``after`` is no place in a log.
    """
    renderer = Renderer(options, decoder(source.log), multiplexed=multiplexed)
    with ExitStack() as stack:
        if not source.log.path or (options.tail == 0 and not options.follow):
            pieces = _read_through([], renderer, end)
        else:
            wake = _Wake(stack.enter_context(changes(source.log.path)), source.ended) if options.follow else None
            if wake:
                stack.callback(wake.close)
            files = await _opened(open_all, source.log.path, source.log.max_files)
            stack.callback(_close, files)
            if options.after:
                seek(files, options.after)
            else:
                await asyncio.to_thread(_seek_tail, files, options.tail, renderer)
            pieces = _follow(source, options, renderer, files, wake) if wake else _read_through(files, renderer, end)
        async with aclosing(pieces):
            yield pieces


async def read_logs(
    source: LogSource, options: LogOptions, *, multiplexed: bool, end: Position | None = None
) -> AsyncIterator[bytes]:
    """The log's bytes, as ``open_logs`` has them, opened when they are first asked for."""
    async with open_logs(source, options, multiplexed=multiplexed, end=end) as pieces:
        async for piece in pieces:
            yield piece


async def _opened(work: Callable[P, list[LogFile]], *args: P.args, **kwargs: P.kwargs) -> list[LogFile]:
    """The files that ``work`` opens in a thread; they are closed if the reader leaves meanwhile."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_forget)
        raise


def _forget(task: asyncio.Task[list[LogFile]]) -> None:
    if not task.cancelled() and task.exception() is None:
        _close(task.result())


def _close(files: list[LogFile]) -> None:
    for file in files:
        file.close()


def _seek_tail(files: list[LogFile], tail: int | None, renderer: Renderer) -> None:
    """Leave in ``files`` what holds the last ``tail`` lines, positioned at the first of them."""
    if tail is None:
        return
    wanted = tail
    for index in range(len(files) - 1, -1, -1):
        file = files[index]
        size = file.size()
        file.position, found = renderer.decoder.tail(file.read_at, size, wanted) if wanted else (size, 0)
        wanted -= found
        if wanted <= 0:
            renderer.skip = -wanted
            for older in files[:index]:
                older.close()
            del files[:index]
            return


async def _read_through(files: list[LogFile], renderer: Renderer, last: Position | None) -> AsyncGenerator[bytes, None]:
    """Everything up to ``last``, or to where the newest file ends now, however fast it grows."""
    ends = [file.size() for file in files]
    if last is not None:
        here = next((index for index, file in enumerate(files) if file.inode == last.inode), -1)
        # Where that file is gone, all that is there came later.
        files, ends = files[: here + 1], [*ends[:here], last.offset] if here >= 0 else []
    for file, end in zip(files, ends, strict=True):
        while file.position < end and not renderer.finished:
            piece = await _next_piece(file, renderer, end)
            if piece is None:
                break
            if piece:
                yield piece
    if last is not None and last.begun:
        yield renderer.begun(last.begun)


async def _follow(
    source: LogSource, options: LogOptions, renderer: Renderer, files: list[LogFile], wake: _Wake
) -> AsyncGenerator[bytes, None]:
    """Everything, and then what comes, until the container has ended or ``until`` has passed."""
    path, keep = source.log.path, source.log.max_files
    sample = b""
    if place := renderer.position(files[0] if files else None):
        yield place
    while not renderer.finished:
        # Both are looked at before reading: what was written before either is then surely read.
        ended = wake.look()
        while len(files) > 1 or (files and files[0].size() != files[0].position):
            file = files[0]
            if keep <= 1:
                # With a single file, rotating is truncating, and it may have grown past our place since.
                if file.size() < file.position or not file.begins_with(sample):
                    file.position = 0
                sample = file.read_at(0, _SAMPLE)
            piece = await _next_piece(file, renderer, file.size())
            if piece:
                yield piece
            if renderer.finished:
                return
            if piece is None:
                if len(files) == 1:
                    break
                files.pop(0).close()
        inode = files[0].inode if files else 0
        if rotated(path, inode):
            newer = await _opened(open_after, path, keep, inode)
            # The old file may have got its last lines between our last read and its rotation.
            files.extend(newer)
            continue
        if ended or not await wake.wait(options.until):
            return


async def _next_piece(file: LogFile, renderer: Renderer, end: int) -> bytes | None:
    """Render the next entries of ``file`` below ``end``; None where no whole entry is there yet."""
    if end - file.position <= SMALL:
        return _render_next(file, renderer, end)
    return await asyncio.to_thread(_render_next, file, renderer, end)


def _render_next(file: LogFile, renderer: Renderer, end: int) -> bytes | None:
    pieces: list[bytes] = []
    limit = min(end, file.position + CHUNK)
    while file.position < limit and not renderer.finished:
        data = _next_entries(file, renderer.decoder, end)
        if not data:
            break
        file.position += len(data)
        pieces.append(renderer.render(data))
    if not pieces:
        return None
    if any(pieces):
        pieces.append(renderer.position(file))
    return b"".join(pieces)


def _next_entries(file: LogFile, log_decoder: Decoder, end: int) -> bytes:
    """The next whole entries of ``file`` below ``end``; empty where there is none."""
    size = _BLOCK
    while True:
        room = min(size, end - file.position)
        data = file.read_at(file.position, room) if room > 0 else b""
        if whole := log_decoder.whole(data):
            return data if whole == len(data) else data[:whole]
        if len(data) < size:
            return b""
        size *= 2


class _Wake:
    """What a follower waits for, of whom there may be many: one event for the log's change and for the container's end."""

    def __init__(self, changed: asyncio.Event, ended: asyncio.Event) -> None:
        self._changed = changed
        self._ended = ended
        self._task: asyncio.Task[bool] | None = None

    def look(self) -> bool:
        """Whether the container has ended; what happens from here on ends the next ``wait``."""
        self._changed.clear()
        if self._ended.is_set():
            return True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._ended.wait())
            self._task.add_done_callback(lambda _: self._changed.set())
        return False

    async def wait(self, until: int) -> bool:
        """Wait for something to happen; False when ``until`` (ns since the epoch, 0 for never) comes first."""
        if not until:
            await self._changed.wait()
            return True
        try:
            async with asyncio.timeout((until - time.time_ns()) / 1e9):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Wait no more."""
        if self._task is not None:
            self._task.cancel()
