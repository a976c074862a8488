"""Every container there is: looked up by id, its beginning, or name; kept in memory and in the database alike."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator

from boxshipd.containers.model import Config, Container, decode_config, decode_state, encode
from boxshipd.containers.networking.link_names import linked, split_name
from boxshipd.errors import Conflict, InternalError, InvalidParameter, NotFound
from boxshipd.state.store import Store

log = logging.getLogger(__name__)

Also = Callable[[sqlite3.Connection], object]
"""Writes something else in the same transaction."""
_LATER = 0.05
"""Seconds until a state that nobody waits for is recorded."""


class Registry:
    """The index. Names are taken in memory first, so that two requests can't get the same one."""

    def __init__(self, store: Store, directory: str) -> None:
        self._store = store
        self._directory = directory
        self._by_id: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._dirty: dict[str, Container] = {}
        self._flushed: asyncio.Future[None] | None = None
        self._flush_timer: asyncio.TimerHandle | None = None

    async def load(self) -> None:
        """Read all records."""
        rows = await self._store.read(lambda db: db.execute("SELECT id, name, config, state FROM containers").fetchall())
        for id_, name, config, state in rows:
            container = Container(name, decode_config(config), decode_state(state), f"{self._directory}/{id_}")
            # A removal that was under way has not been acknowledged: it is for the client to ask again.
            container.state.removing = False
            self._by_id[id_] = container
            self._names[name] = id_

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def names(self) -> dict[str, str]:
        """The names in use, with the ids they belong to; a container that is being created has its name here already."""
        return self._names

    def get(self, container_id: str) -> Container | None:
        """The container with this full id."""
        return self._by_id.get(container_id)

    def find(self, ref: str) -> Container:
        """The container that ``ref`` means: a full id, a name, or the beginning of an id, in this order.

        Raises:
            NotFound: there is none.
            InvalidParameter: several ids begin so.
        """
        container = self._by_id.get(ref)
        if container is not None:
            return container
        id_ = self._names.get(ref.removeprefix("/"))
        if id_ is not None:
            container = self._by_id.get(id_)
            if container is not None:
                return container
        parent, alias = split_name(ref)
        if parent in self._names:
            # A link gives whom it leads to another name.
            other = linked(self.find(parent).config.host_config.links or (), alias)
            if other:
                return self.find(other)
        found = [c for i, c in self._by_id.items() if i.startswith(ref)] if ref else []
        if not found:
            raise NotFound(f"No such container: {ref}")
        if len(found) > 1:
            raise InvalidParameter(f"multiple IDs or names found with provided prefix: {ref}")
        return found[0]

    def reserve(self, name: str, container_id: str) -> None:
        """Take a name.

        Raises:
            Conflict: it is in use.
        """
        owner = self._names.get(name)
        if owner is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        self._names[name] = container_id

    def release(self, name: str) -> None:
        """Give a reserved name back."""
        self._names.pop(name, None)

    async def add(self, container: Container, also: Also | None = None) -> None:
        """Record a new container, whose name is reserved, and what ``also`` writes; it can be found once this is durable."""
        row = (container.id, container.name, encode(container.config), encode(container.state))
        await self._store.write(lambda db: _insert(db, row, also))
        self._by_id[container.id] = container

    def save(self, container: Container) -> asyncio.Future[None]:
        """Queue the container's state, as it is now, to be recorded; await the result for it to be durable."""
        self._dirty.pop(container.id, None)
        row = (encode(container.state), container.id)
        saved = self._store.submit(lambda db: _update(db, row))
        saved.add_done_callback(_retrieve)
        return saved

    def save_later(self, container: Container) -> asyncio.Future[None]:
        """Record the container's state within a moment, for what the runtime knows as well: many share one commit.

        The result is done when it is durable, or when the container has been removed meanwhile.
        """
        if self._flushed is None:
            loop = asyncio.get_running_loop()
            self._flushed = loop.create_future()
            self._flush_timer = loop.call_later(_LATER, self.flush)
        self._dirty[container.id] = container
        return self._flushed

    def flush(self) -> None:
        """Queue what ``save_later`` has put off."""
        flushed, self._flushed = self._flushed, None
        if flushed is None:
            return
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        rows = [(encode(container.state), container.id) for container in self._dirty.values()]
        self._dirty.clear()
        if not rows:
            flushed.set_result(None)
            return
        try:
            saved = self._store.submit(lambda db: _update_many(db, rows))
        except InternalError:
            # The store has been closed meanwhile: the next start of the daemon asks the runtime.
            flushed.cancel()
            return
        saved.add_done_callback(_retrieve)
        saved.add_done_callback(lambda done: _pass_on(done, flushed))

    async def reconfigure(self, container: Container, config: Config) -> None:
        """Give the container another configuration, recorded together with its state as it is now."""
        self._dirty.pop(container.id, None)
        row = (encode(config), encode(container.state), container.id)
        await self._store.write(lambda db: _reconfigure(db, row))
        container.config = config

    async def rename(self, container: Container, name: str) -> None:
        """Give the container a name that has been reserved, and its old one back."""
        old = container.name
        await self._store.write(lambda db: _rename(db, (name, container.id)))
        container.name = name
        self.release(old)

    async def delete(self, container: Container, also: Also | None = None) -> None:
        """Forget the container: gone from the record first, with what ``also`` deletes, then from memory."""
        id_ = container.id
        self._dirty.pop(id_, None)
        await self._store.write(lambda db: _delete(db, id_, also))
        self._by_id.pop(id_, None)
        if self._names.get(container.name) == id_:
            del self._names[container.name]


def _insert(db: sqlite3.Connection, row: tuple[str, str, bytes, bytes], also: Also | None) -> None:
    db.execute("INSERT INTO containers (id, name, config, state) VALUES (?, ?, ?, ?)", row)
    if also is not None:
        also(db)


def _update(db: sqlite3.Connection, row: tuple[bytes, str]) -> None:
    db.execute("UPDATE containers SET state = ? WHERE id = ?", row)


def _update_many(db: sqlite3.Connection, rows: list[tuple[bytes, str]]) -> None:
    db.executemany("UPDATE containers SET state = ? WHERE id = ?", rows)


def _rename(db: sqlite3.Connection, row: tuple[str, str]) -> None:
    db.execute("UPDATE containers SET name = ? WHERE id = ?", row)


def _reconfigure(db: sqlite3.Connection, row: tuple[bytes, bytes, str]) -> None:
    db.execute("UPDATE containers SET config = ?, state = ? WHERE id = ?", row)


def _delete(db: sqlite3.Connection, container_id: str, also: Also | None) -> None:
    db.execute("DELETE FROM containers WHERE id = ?", (container_id,))
    if also is not None:
        also(db)


def _retrieve(saved: asyncio.Future[None]) -> None:
    """A failure that nobody waits for is still worth a line."""
    if not saved.cancelled() and saved.exception() is not None:
        log.error("recording a container's state: %s", saved.exception())


def _pass_on(saved: asyncio.Future[None], flushed: asyncio.Future[None]) -> None:
    """Settle those who wait for a flush as its write was settled."""
    if flushed.done():
        return
    if saved.cancelled():
        flushed.cancel()
    elif (error := saved.exception()) is not None:
        flushed.set_exception(error)
        flushed.exception()
    else:
        flushed.set_result(None)
