"""What the API and containers ask of volumes."""

from __future__ import annotations

import asyncio
import builtins
import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from boxship.types import volumes as api
from msgspec import structs

from boxshipd.directory_size import size_of
from boxshipd.errors import Conflict, InternalError, InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.state.store import Store
from boxshipd.times import rfc3339
from boxshipd.volumes.directories import VolumeDirectories
from boxshipd.volumes.model import ANONYMOUS, DRIVER, Volume, decode, encode
from boxshipd.volumes.names import make_name, validate_name
from boxshipd.volumes.options import shares_directory, validate_options

log = logging.getLogger(__name__)

Publish = Callable[[str, str, str, Mapping[str, str]], object]
"""Publishes an event: its type, its action, what it happened to, and attributes."""
Uses = Callable[[], Mapping[str, Sequence[str]]]
"""The ids of the containers that use each volume that is used."""

LIST_FILTERS = frozenset({"dangling", "driver", "label", "name"})
PRUNE_FILTERS = frozenset({"all", "label", "label!"})


class _Lock:
    """A volume's lock, there as long as somebody wants it."""

    __slots__ = ("lock", "wanted")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = 0


class Volumes:
    """All volumes of a daemon. ``open`` it before the first request; to be used on the event loop.

    ``uses`` is set once there are containers.
    """

    def __init__(self, store: Store, data_root: str, publish: Publish) -> None:
        self._store = store
        self._publish = publish
        self._volumes: dict[str, Volume] = {}
        self._locks: dict[str, _Lock] = {}
        self._held: Counter[tuple[str, str]] = Counter()
        self._pruning = False
        self.directories = VolumeDirectories(f"{data_root}/volumes")
        self.uses: Uses = dict

    async def open(self) -> None:
        """Load the records and settle what a crash has left.

        Raises:
            InternalError: a directory can't be read or moved.
        """
        rows = await self._store.read(lambda db: db.execute("SELECT record FROM volumes").fetchall())
        self._volumes = {volume.name: volume for volume in (decode(row[0]) for row in rows)}
        try:
            strangers = self.directories.recover(self._volumes)
        except OSError as error:
            raise InternalError(f"settle volumes below {self.directories.root}: {error}") from error
        found = [Volume(name=name, created=time.time_ns()) for name in strangers if os.path.isdir(self.directories.path(name))]
        if found:
            await self._store.write(lambda db: insert(db, found))
            self.add(found)
            log.warning("took up volumes without a record: %s", ", ".join(volume.name for volume in found))

    def close(self) -> None:
        """Finish what is under way."""
        self.directories.close()

    def find(self, name: str) -> Volume | None:
        """The volume of a name."""
        return self._volumes.get(name)

    def source(self, volume: Volume) -> str:
        """The directory in the host that holds its content, whatever its options make of it in containers."""
        return self.directories.path(volume.name)

    async def create(self, request: api.VolumeCreateRequest) -> api.Volume:
        """Create a volume; one that exists is returned as it is.

        Raises:
            InvalidParameter: its name or an option can't be.
            NotFound: there is no such driver.
        """
        if request.cluster_volume_spec is not None:
            raise InvalidParameter("cluster volumes need Swarm, which Boxship doesn't have")
        volume = self.draft(request.name, request.driver, request.labels, request.driver_opts)
        async with self.locked([volume.name]):
            existing = self._volumes.get(volume.name)
            if existing is None:
                try:
                    self.directories.stage(volume.name)
                except OSError as error:
                    self.directories.unstage(volume.name)
                    raise InternalError(f"create {volume.name}: {error}") from error
                try:
                    await asyncio.shield(self._record(volume))
                except InternalError:
                    self.directories.unstage(volume.name)
                    raise
        return self.describe(existing or volume)

    async def _record(self, volume: Volume) -> None:
        await self._store.write(lambda db: insert(db, [volume]))
        self.established([volume])

    def draft(self, name: str, driver: str, labels: Mapping[str, str] | None, options: Mapping[str, str] | None) -> Volume:
        """A volume as it is to be; nothing is made yet.

        Args:
            name: its name, empty for one made up.
            driver: its driver, empty for the local one.
            labels: its labels.
            options: the driver's options.

        Raises:
            InvalidParameter: the name or an option can't be.
            NotFound: there is no such driver.
        """
        check_driver(driver, name)
        labels = dict(labels or {})
        if name:
            validate_name(name)
        else:
            name = make_name()
            labels[ANONYMOUS] = ""
        validate_options(name, options or {})
        return Volume(name=name, created=time.time_ns(), labels=labels, options=dict(options or {}))

    def established(self, volumes: Iterable[Volume]) -> None:
        """Take up volumes whose directories are staged and whose records have just become durable.

        Raises:
            InternalError: a directory can't be moved; the next start of the daemon tries again.
        """
        for volume in volumes:
            try:
                self.directories.publish(volume.name)
            except OSError as error:
                raise InternalError(f"create {volume.name}: {error}") from error
            self.add([volume])
            self._publish("volume", "create", volume.name, {"driver": DRIVER})

    def add(self, volumes: Iterable[Volume]) -> None:
        """Make volumes known that are on record and in their places."""
        self._volumes.update((volume.name, volume) for volume in volumes)

    def inspect(self, name: str) -> api.Volume:
        """A volume as clients see it.

        Raises:
            NotFound: there is no such volume.
        """
        return self.describe(self._existing(name))

    def list(self, filters: Filters) -> api.VolumeListResponse:
        """The volumes that the filters (``dangling``, ``driver``, ``label``, ``name``) select.

        Raises:
            InvalidParameter: a filter is unknown or malformed.
        """
        filters.validate(LIST_FILTERS)
        dangling = filters.boolean("dangling", False) if "dangling" in filters else None
        used = self.uses() if dangling is not None else {}
        chosen = [
            self.describe(volume)
            for volume in sorted(self._volumes.values(), key=lambda volume: volume.name)
            if filters.pattern("name", volume.name)
            and filters.exact("driver", DRIVER)
            and filters.labels("label", volume.labels)
            and (dangling is None or dangling == (volume.name not in used))
        ]
        return api.VolumeListResponse(volumes=chosen, warnings=None)

    async def remove(self, name: str, *, force: bool) -> None:
        """Remove a volume.

        Args:
            name: which one.
            force: one that isn't there is fine.

        Raises:
            NotFound: there is no such volume.
            Conflict: containers use it.
        """
        async with self.locked([name]):
            volume = self._volumes.get(name)
            if volume is None:
                if force:
                    return
                raise NotFound(f"get {name}: no such volume")
            if users := self._users(name):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            await asyncio.shield(self._remove([volume]))

    async def prune(self, filters: Filters, *, everything: bool = False) -> api.VolumePruneResponse:
        """Remove volumes that no container uses: those with names of the engine's, or with ``all`` every one.

        Raises:
            InvalidParameter: a filter is unknown or malformed.
            Conflict: another prune is under way.
        """
        filters.validate(PRUNE_FILTERS)
        everything = filters.boolean("all", everything)
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        try:
            removed, reclaimed = await self._prune(filters, everything)
        finally:
            self._pruning = False
        self._publish("volume", "prune", "", {"reclaimed": str(reclaimed)})
        return api.VolumePruneResponse(volumes_deleted=removed, space_reclaimed=reclaimed)

    async def _prune(self, filters: Filters, everything: bool) -> tuple[builtins.list[str], int]:
        removed: builtins.list[str] = []
        reclaimed = 0
        used = self.uses()
        for volume in builtins.list(self._volumes.values()):
            chosen = filters.labels("label", volume.labels) and filters.not_labels("label!", volume.labels)
            if volume.name in used or not chosen or not (everything or volume.anonymous):
                continue
            size = await self._size(volume)
            try:
                await self.remove(volume.name, force=False)
            except (Conflict, NotFound, InternalError) as error:
                log.info("prune: volume %s stays: %s", volume.name, error)
                continue
            removed.append(volume.name)
            reclaimed += size
        return removed, reclaimed

    async def _size(self, volume: Volume) -> int:
        path = self.directories.path(volume.name)
        return await asyncio.get_running_loop().run_in_executor(self.directories.workers, size_of, path)

    async def measured(self) -> builtins.list[api.Volume]:
        """All volumes with the bytes that each holds and the number of containers that use it."""
        volumes = sorted(self._volumes.values(), key=lambda volume: volume.name)
        used = self.uses()
        sizes = [await self._size(volume) for volume in volumes]
        return [
            structs.replace(self.describe(volume), usage_data=api.VolumeUsage(size, len(used.get(volume.name, ()))))
            for volume, size in zip(volumes, sizes, strict=True)
        ]

    @asynccontextmanager
    async def locked(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Have volumes, there or not, to oneself."""
        taken: builtins.list[_Lock] = []
        wanted = sorted(set(names))
        for name in wanted:
            self._locks.setdefault(name, _Lock()).wanted += 1
        try:
            for name in wanted:
                await self._locks[name].lock.acquire()
                taken.append(self._locks[name])
            yield
        finally:
            for held in taken:
                held.lock.release()
            for name in wanted:
                self._locks[name].wanted -= 1
                if not self._locks[name].wanted:
                    del self._locks[name]

    def hold(self, name: str, container_id: str) -> None:
        """Keep a volume for a container that isn't on record yet."""
        self._held[name, container_id] += 1

    def let_go(self, name: str, container_id: str) -> None:
        """Take back a ``hold``."""
        self._held[name, container_id] -= 1
        if not self._held[name, container_id]:
            del self._held[name, container_id]

    def set_aside(self, names: Iterable[str], container_id: str) -> builtins.list[Volume]:
        """Take volumes that only this container uses out of their places, before its record and theirs go together.

        Args:
            names: its volumes'.
            container_id: its id.

        Returns:
            Those that were taken; ``forget`` or ``bring_back`` them.
        """
        taken: builtins.list[Volume] = []
        used = self.uses()
        for name in names:
            volume = self._volumes.get(name)
            users = {*used.get(name, ()), *(holder for held, holder in self._held if held == name)}
            if volume is None or users - {container_id} or name in self._locks:
                continue
            try:
                self.directories.set_aside(name)
            except OSError as error:
                log.error("remove volume %s: %s", name, error)
                continue
            taken.append(volume)
            del self._volumes[name]
        return taken

    def bring_back(self, volumes: Iterable[Volume]) -> None:
        """Undo ``set_aside``."""
        for volume in volumes:
            self.directories.bring_back(volume.name)
            self.add([volume])

    def forget(self, volumes: Iterable[Volume]) -> None:
        """Finish removing what was set aside and is on record no more."""
        for volume in volumes:
            self.directories.discard(volume.name)
            self._publish("volume", "destroy", volume.name, {"driver": DRIVER})

    def describe(self, volume: Volume) -> api.Volume:
        """A volume as clients see it."""
        return api.Volume(
            name=volume.name,
            driver=DRIVER,
            mountpoint=self.directories.path(volume.name),
            labels=volume.labels or None,
            scope="local",
            options=volume.options or None,
            created_at=rfc3339(volume.created // 1_000_000_000 * 1_000_000_000),
        )

    async def _remove(self, volumes: Sequence[Volume]) -> None:
        """Set aside, forget on record, then for good; a failure on the way brings back what was."""
        moved: builtins.list[Volume] = []
        try:
            for volume in volumes:
                # Gone for everybody from here on: whoever asks for the name waits for its lock, and makes another.
                self.directories.set_aside(volume.name)
                moved.append(self._volumes.pop(volume.name))
            await self._store.write(lambda db: delete(db, volumes))
        except (OSError, InternalError) as error:
            self.bring_back(moved)
            raise InternalError(f"remove {volumes[0].name}: {error}") from error
        self.forget(volumes)

    def _existing(self, name: str) -> Volume:
        volume = self._volumes.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def _users(self, name: str) -> builtins.list[str]:
        return [*self.uses().get(name, ()), *(holder for held, holder in self._held if held == name)]

    def content(self, volume: Volume) -> str | None:
        """The directory that the volume's content is in and that the engine can reach; None for a file system of its own."""
        if shares_directory(volume.options):
            return volume.options["device"]
        return None if "type" in volume.options else self.directories.path(volume.name)


def check_driver(driver: str, name: str) -> None:
    """Refuse any driver but ``local``.

    Raises:
        NotFound: with Docker's message.
    """
    if driver not in {"", DRIVER}:
        raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')


def insert(db: sqlite3.Connection, volumes: Iterable[Volume]) -> None:
    """Record volumes, within a transaction."""
    db.executemany("INSERT INTO volumes (name, record) VALUES (?, ?)", [(volume.name, encode(volume)) for volume in volumes])


def delete(db: sqlite3.Connection, volumes: Iterable[Volume]) -> None:
    """Forget volumes on record, within a transaction."""
    db.executemany("DELETE FROM volumes WHERE name = ?", [(volume.name,) for volume in volumes])
