"""Reading a container's log as a client asks for it.

Source: Docker Engine API v1.51, ContainerLogs and the stream format of ContainerAttach.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager

from boxshipd.logs.decode import Decoder, Entry, decoder, format_time
from boxshipd.logs.files import LogFile, open_after, open_all, rotated
from boxshipd.logs.options import LogOptions, LogSource
from boxshipd.logs.watch import changes

CHUNK = 1 << 20
"""Bytes read at a time; a longer entry is read whole all the same."""

SMALL = 1 << 16
"""Up to this many bytes reading and decoding is done at once; more goes to a thread, so that nobody else waits."""

_HEADER = struct.Struct(">BxxxI")
_STREAM_NUMBER = {"stdout": 1, "stderr": 2}


class _Renderer:
    """Makes the client's bytes of entries: filters, prefixes, frames."""

    def __init__(self, options: LogOptions, log_decoder: Decoder, *, multiplexed: bool) -> None:
        self._options = options
        self.decoder = log_decoder
        self._multiplexed = multiplexed
        self._prefixed = options.timestamps or options.details
        self.skip = 0
        self.finished = False

    def render(self, data: bytes) -> bytes:
        """What the client gets for ``data``, which is whole entries."""
        if not (self._prefixed or self._options.since or self._options.until or self.skip):
            plain = self.decoder.plain(data)
            if plain is not None:
                stream, text = plain
                return self._frame(stream, text) if self._wanted(stream) else b""
        out: list[bytes] = []
        run: list[bytes] = []
        run_stream = ""
        for entry in self._selected(data):
            if entry.stream != run_stream and run:
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
            words.append(",".join(f"{key}={value}" for key, value in sorted(entry.attrs.items())).encode())
        return b" ".join(words) + b" "

    def _frame(self, stream: str, data: bytes) -> bytes:
        return _HEADER.pack(_STREAM_NUMBER[stream], len(data)) + data if self._multiplexed else data


@asynccontextmanager
async def open_logs(source: LogSource, options: LogOptions, *, multiplexed: bool) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open a log now, so that all of it can be read even if the container is removed meanwhile.

    Within the context: the log's bytes for a client, ready to be sent, in pieces of about a megabyte at most.

    Args:
        source: the container's log.
        options: what is asked for; with ``follow`` the iteration goes on until the container has ended.
        multiplexed: frame with Docker's 8-byte headers; else the bare bytes.

    Raises:
        OSError: a file can't be read.
    """
    renderer = _Renderer(options, decoder(source.log), multiplexed=multiplexed)
    with ExitStack() as stack:
        if source.log.driver == "none" or (options.tail == 0 and not options.follow):
            pieces = _read_through([], renderer)
        else:
            changed = stack.enter_context(changes(source.log.path)) if options.follow else None
            files = await asyncio.to_thread(open_all, source.log.path, source.log.max_files)
            stack.callback(_close, files)
            await asyncio.to_thread(_seek_tail, files, options.tail, renderer)
            pieces = _follow(source, options, renderer, files, changed) if changed else _read_through(files, renderer)
        async with aclosing(pieces):
            yield pieces


async def read_logs(source: LogSource, options: LogOptions, *, multiplexed: bool) -> AsyncIterator[bytes]:
    """The log's bytes, as ``open_logs`` has them, opened when they are first asked for."""
    async with open_logs(source, options, multiplexed=multiplexed) as pieces:
        async for piece in pieces:
            yield piece


def _close(files: list[LogFile]) -> None:
    for file in files:
        file.close()


def _seek_tail(files: list[LogFile], tail: int | None, renderer: _Renderer) -> None:
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


async def _read_through(files: list[LogFile], renderer: _Renderer) -> AsyncGenerator[bytes, None]:
    """Everything up to where the newest file ends now, however fast it grows."""
    ends = [file.size() for file in files]
    for file, end in zip(files, ends, strict=True):
        while file.position < end and not renderer.finished:
            piece = await _next_piece(file, renderer, end)
            if piece is None:
                break
            if piece:
                yield piece


async def _follow(
    source: LogSource, options: LogOptions, renderer: _Renderer, files: list[LogFile], changed: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    """Everything, and then what comes, until the container has ended or ``until`` has passed."""
    path, keep = source.log.path, source.log.max_files
    while not renderer.finished:
        # Both are looked at before reading: what was written before either is then surely read.
        changed.clear()
        ended = source.ended.is_set()
        while len(files) > 1 or (files and files[0].size() != files[0].position):
            file = files[0]
            if file.size() < file.position:
                # Truncated: with a single file, that is how it is rotated.
                file.position = 0
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
            newer = await asyncio.to_thread(open_after, path, keep, inode)
            # The old file may have got its last lines between our last read and its rotation.
            files.extend(newer)
            continue
        if ended or not await _wait(changed, source.ended, options.until):
            return


async def _next_piece(file: LogFile, renderer: _Renderer, end: int) -> bytes | None:
    """Render the next entries of ``file`` below ``end``; None where no whole entry is there yet."""
    if end - file.position <= SMALL:
        return _render_next(file, renderer, end)
    return await asyncio.to_thread(_render_next, file, renderer, end)


def _render_next(file: LogFile, renderer: _Renderer, end: int) -> bytes | None:
    size = CHUNK
    while True:
        room = min(size, end - file.position)
        data = file.read_at(file.position, room) if room > 0 else b""
        whole = renderer.decoder.whole(data)
        if whole:
            file.position += whole
            return renderer.render(data if whole == len(data) else data[:whole])
        if len(data) < size:
            return None
        size *= 2


async def _wait(changed: asyncio.Event, ended: asyncio.Event, until: int) -> bool:
    """Wait for a change or the container's end; False when ``until`` comes first."""
    timeout = (until - time.time_ns()) / 1e9 if until else None
    if timeout is not None and timeout <= 0:
        return False
    waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(ended.wait())]
    try:
        done, _ = await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for wait in waits:
            wait.cancel()
