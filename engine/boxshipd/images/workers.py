"""The threads that heavy work is done on, and the streams between them and the event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from boxshipd.images.unpack.compression import CHUNK

T = TypeVar("T")


class Cancelled(Exception):  # noqa: N818 - an outcome, not an error
    """The work was given up at its owner's wish."""


class Cancellation:
    """Tells a thread to give up."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._callbacks: list[Callable[[], object]] = []

    def cancel(self) -> None:
        """Give up, now."""
        self._event.set()
        for callback in self._callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called when the work is given up."""
        self._callbacks.append(callback)

    def check(self) -> None:
        """Raise Cancelled if the work was given up."""
        if self._event.is_set():
            for callback in self._callbacks:
                callback()
            raise Cancelled


class Workers:
    """A few threads of our own, so that heavy work never takes those that others wait for."""

    def __init__(self, count: int = 3, name: str = "images") -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The threads themselves, for those who see to the end of their work on their own."""
        return self._pool

    async def run(self, function: Callable[[], T], cancellation: Cancellation | None = None) -> T:
        """Run ``function`` on a thread. If the caller is cancelled, the thread is told, and waited for."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if cancellation is not None:
                cancellation.cancel()
            # However often: the thread may still be using what its owner is about to close.
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled():
                # Retrieved, so that it isn't reported as lost.
                future.exception()
            raise

    async def iterate(self, chunks: Iterator[bytes], cancellation: Cancellation | None = None) -> AsyncGenerator[bytes, None]:
        """An iterator that works on a thread, one step ahead, as an asynchronous one; it is closed when this is."""

        def step() -> asyncio.Future[bytes]:
            return asyncio.ensure_future(self.run(lambda: next(chunks, b""), cancellation))

        coming = step()
        try:
            while chunk := await coming:
                coming = step()
                yield chunk
        finally:
            if not coming.done():
                coming.cancel()
                await asyncio.wait([coming])
            elif not coming.cancelled():
                # Retrieved, so that it isn't reported as lost.
                coming.exception()
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def close(self) -> None:
        """Wait for what is under way, then end the threads."""
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class StreamSource:
    """Chunks that arrive on the event loop, read from a thread; the next are fetched while the last are worked on."""

    def __init__(self, chunks: AsyncIterator[bytes], cancellation: Cancellation) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._cancellation = cancellation
        self._next: concurrent.futures.Future[bytes] | None = None
        self._rest = b""
        cancellation.on_cancel(self._cancel)

    def read(self, size: int, /) -> bytes:
        """The next bytes.

        Raises:
            Cancelled: the work was given up.
        """
        self._cancellation.check()
        if not self._rest:
            pending = self._next or self._fetch()
            try:
                self._rest = pending.result()
            except concurrent.futures.CancelledError:
                raise Cancelled from None
            if self._rest:
                self._fetch()
        out, self._rest = self._rest[:size], self._rest[size:]
        return out

    def _fetch(self) -> concurrent.futures.Future[bytes]:
        self._next = future = asyncio.run_coroutine_threadsafe(self._gather(), self._loop)
        # Whoever cancels sets the flag first and then looks for the future: one of us sees the other.
        self._cancellation.check()
        return future

    async def _gather(self) -> bytes:
        """Small chunks are put together, since every trip between threads costs."""
        pieces: list[bytes] = []
        length = 0
        async for piece in self._chunks:
            pieces.append(piece)
            length += len(piece)
            if length >= CHUNK:
                break
        return b"".join(pieces)

    def _cancel(self) -> None:
        if self._next is not None:
            self._next.cancel()
