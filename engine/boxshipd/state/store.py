"""The SQLite store: one writer thread with group commit, and cheap reads on the event loop.

Writes that arrive while a commit is on its way to the disk share the next one, so that a busy daemon pays one
fsync for many acknowledged requests. The database runs in WAL mode with ``synchronous=FULL``: a write that has been
awaited survives a power cut. Source: https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from boxshipd.errors import InternalError
from boxshipd.state.migrations import migrate

T = TypeVar("T")

# Checkpoints are made by the writer when it has nothing else to do, or at the latest after the second number of commits.
_IDLE_CHECKPOINT = 128
_FORCED_CHECKPOINT = 2048

_ROOM = 2 << 20
"""Bytes of the disk that the write-ahead log has from the beginning: the commits between two checkpoints, and more. Where
the disk is full, containers can still be stopped and removed, which is what makes room."""


class _Write:
    """A queued write and where its outcome goes."""

    __slots__ = ("error", "function", "future", "result")

    def __init__(self, function: Callable[[sqlite3.Connection], Any], future: asyncio.Future[Any]) -> None:
        self.function = function
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None


def _connect(path: str) -> sqlite3.Connection:
    """A connection in autocommit mode, so that transactions are ours to begin and end."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.execute("PRAGMA cache_size = -512")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_room(path: str) -> None:
    """Have the write-ahead log take its place on the disk; what is behind its last commit is nothing to SQLite."""
    # Its locks are on other files, so closing this descriptor gives none of them up.
    with suppress(OSError):
        descriptor = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(descriptor, 0, _ROOM)
        finally:
            os.close(descriptor)


class Store:
    """The daemon's database. Open it with ``Store.open``; usable as a context manager."""

    def __init__(self, path: str, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._closed = False
        self._commits = 0
        self._thread = threading.Thread(target=self._run, name="state-writer", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: str) -> Self:
        """Open or create the database at ``path`` and bring it to the newest version.

        Raises:
            InternalError: the file can't be opened, or is of a newer version.
        """
        connections: list[sqlite3.Connection] = []
        try:
            connections.append(writer := _connect(path))
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute("PRAGMA synchronous = FULL")
            writer.execute("PRAGMA wal_autocheckpoint = 0")
            migrate(writer)
            _make_room(path)
            connections.append(reader := _connect(path))
            reader.execute("PRAGMA query_only = ON")
        except (sqlite3.Error, InternalError) as error:
            for connection in connections:
                connection.close()
            if isinstance(error, InternalError):
                raise
            raise InternalError(f"open state database {path}: {error}") from error
        return cls(path, writer, reader)

    async def write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``function`` on the writer thread in a transaction; its result once that is durable.

        An exception undoes what this function wrote, nothing else, and is raised here.

        Raises:
            InternalError: the commit failed.
        """
        return await self.submit(function)

    def submit(self, function: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """As ``write``, but queued at once: writes run in the order of these calls, whenever they are awaited."""
        if self._closed:
            raise InternalError(f"state database {self.path} is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(_Write(function, future))
        return future

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``function`` on a read-only connection, on the event loop: keep it to what takes well under a millisecond."""
        try:
            return function(self._reader)
        except sqlite3.Error as error:
            raise InternalError(f"read state database {self.path}: {error}") from error

    @property
    def commits(self) -> int:
        """How many commits, that is fsyncs, have been made since the store was opened."""
        return self._commits

    def close(self) -> None:
        """Write what is queued, then close. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self) -> None:
        """The writer thread: take what is queued, commit it together, hand out the results."""
        since_checkpoint = 0
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch = [first]
            closing = False
            while not self._queue.empty():
                write = self._queue.get()
                if write is None:
                    closing = True
                    break
                batch.append(write)
            self._commit(batch)
            since_checkpoint += 1
            if closing:
                return
            if since_checkpoint >= (_IDLE_CHECKPOINT if self._queue.empty() else _FORCED_CHECKPOINT):
                self._checkpoint()
                since_checkpoint = 0

    def _commit(self, batch: list[_Write]) -> None:
        """Run a batch in one transaction, each write in a savepoint of its own."""
        connection = self._writer
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write in batch:
                self._apply(connection, write, alone=len(batch) == 1)
            connection.execute("COMMIT")
            self._commits += 1
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = InternalError(f"commit to state database {self.path}: {error}")
            for write in batch:
                write.error = write.error or failure
        _deliver(batch)

    @staticmethod
    def _apply(connection: sqlite3.Connection, write: _Write, *, alone: bool) -> None:
        """Run one write; undo it alone where it fails."""
        if not alone:
            connection.execute("SAVEPOINT one")
        try:
            write.result = write.function(connection)
        except Exception as error:  # noqa: BLE001 - it belongs to the caller, who gets it
            write.error = error
            if alone:
                connection.execute("ROLLBACK")
                connection.execute("BEGIN")
            else:
                connection.execute("ROLLBACK TO one")
        if not alone:
            connection.execute("RELEASE one")

    def _checkpoint(self) -> None:
        """Copy the write-ahead log into the database; one that can't be made now is made another time."""
        try:
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error:
            return


def _deliver(batch: list[_Write]) -> None:
    """Wake each event loop once with all of its results."""
    loops: dict[asyncio.AbstractEventLoop, list[_Write]] = {}
    for write in batch:
        loops.setdefault(write.future.get_loop(), []).append(write)
    for loop, writes in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, writes)
        except RuntimeError:
            # The loop was closed with writes under way: they are durable, and nobody is left to hear of it.
            continue


def _resolve(writes: list[_Write]) -> None:
    """On the event loop: settle the futures that somebody still waits for."""
    for write in writes:
        if write.future.done():
            continue
        if write.error is not None:
            write.future.set_exception(write.error)
        else:
            write.future.set_result(write.result)
