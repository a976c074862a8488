"""The build cache, as solver, executors and API know it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Self

from boxship.types.build_cache import BuildCache as BuildCacheInfo
from boxship.types.build_cache import BuildPruneResponse, CacheKind

from boxshipd.builder.cache import rows
from boxshipd.builder.cache.fetched import Fetched
from boxshipd.builder.cache.layers import KeptLayers
from boxshipd.builder.cache.listing import listing
from boxshipd.builder.cache.model import Record, record_id
from boxshipd.builder.cache.mounts import CacheMounts
from boxshipd.builder.cache.pruning import PruneOptions, choose
from boxshipd.builder.results import Snapshot
from boxshipd.errors import DaemonError
from boxshipd.images.assembly import Stores
from boxshipd.images.service import Images
from boxshipd.images.unpack.removal import remove_tree
from boxshipd.images.workers import Workers
from boxshipd.state.store import Store

logger = logging.getLogger(__name__)

SETTLE = 5.0
"""Seconds that a build's steps wait for being put on the disk together; its end puts them there at once."""


async def kept(store: Store) -> tuple[set[str], set[str]]:
    """What the cache keeps in the images' stores, for ``Images.open``: digests of blobs, and chain ids of snapshots."""
    return await store.read(rows.named)


class Use:
    """Layers that are in use: they stay, and their record does, until ``release``.

    Attributes:
        snapshots: the file systems that they are.
        record: the record's id; empty where they are only held.
    """

    def __init__(
        self, cache: BuildCache, outputs: Sequence[str], snapshots: tuple[Snapshot, ...], record: Record | None
    ) -> None:
        self._cache = cache
        self._outputs = outputs
        self._record = record
        self.snapshots = snapshots
        self.record = record.id if record is not None else ""
        if record is not None:
            record.holders += 1

    def release(self) -> None:
        """Let go. Idempotent."""
        outputs, self._outputs = self._outputs, ()
        record, self._record = self._record, None
        if record is not None:
            record.holders -= 1
        self._cache.drop(outputs)


class BuildCache:
    """What is kept of builds. Make it with ``BuildCache.open``; to be used on the event loop.

    Attributes:
        mounts: the directories of cache mounts.
        repositories: what was checked out.
        downloads: what came of URLs.
    """

    def __init__(self, images: Images, store: Store, root: str, rules: Sequence[PruneOptions]) -> None:
        self._images = images
        self._store = store
        self._root = root
        self._rules = rules
        self._workers = Workers(2, "build-cache")
        self._layers = KeptLayers(images.stores)
        self.mounts = CacheMounts(os.path.join(root, "mounts"), self, self._workers)
        self.repositories = Fetched(os.path.join(root, "repositories"), "source.git.checkout")
        self.downloads = Fetched(os.path.join(root, "downloads"), "regular")
        self._records: dict[str, Record] = {}
        self._keys: dict[str, Record] = {}
        # What the database hasn't yet: new records, and those whose use or size has changed.
        self._fresh: dict[str, Record] = {}
        self._touched: dict[str, Record] = {}
        self._settling = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._background: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, images: Images, store: Store, data_root: str, rules: Sequence[PruneOptions] = ()) -> Self:
        """Open the cache; what isn't complete is forgotten, what nothing names is removed.

        Args:
            images: the images, opened with what ``kept`` names, and not used since.
            store: the daemon's database.
            data_root: the daemon's; the cache takes ``build`` in it.
            rules: what is removed by itself, after builds.
        """
        root = os.path.join(data_root, "build")
        os.makedirs(root, mode=0o710, exist_ok=True)
        cache = cls(images, store, root, rules)
        layers, records = await store.read(rows.select)
        content, snapshots = images.stores.content, images.stores.snapshots
        there = await cache._workers.run(lambda: (content.digests(), snapshots.chains()))
        gone = cache._layers.restore(layers, there)
        of_mounts = [record for record in records if record.kind == "exec.cachemount"]
        missing = set(await cache._workers.run(lambda: cache.mounts.restore(of_mounts)))
        for record in records:
            if record.id not in missing and not cache._restore(record):
                missing.add(record.id)
            elif record.id not in missing:
                cache._records[record.id] = cache._keys[record.key] = record
        cache._layers.drop_unused()
        await cache._forget([*gone, *(row.name for row in cache._layers.left())], sorted(missing))
        await images.let_go({row.layer.blob for row in layers}, {row.layer.chain for row in layers})
        return cache

    async def close(self) -> None:
        """Have everything on the disk, then end the threads."""
        if self._timer is not None:
            self._timer.cancel()
        while self._background:
            await asyncio.wait([*self._background])
        await self.mounts.close()
        await self._settle_logged()
        self._workers.close()

    @property
    def stores(self) -> Stores:
        """Where layers are kept."""
        return self._images.stores

    def verified(self, blob: str, diff: str) -> bool:
        """Whether a blob is known to uncompress to the content of digest ``diff``."""
        return self._images.stores.catalogue.verified(blob, diff) or self._layers.verified(blob, diff)

    # What steps have made

    def find(self, key: str) -> Use | None:
        """What a key gives, to be released; None where nothing is known of it."""
        record = self._keys.get(key)
        if record is None:
            return None
        for name in record.outputs:
            self._layers.take(name)
        self._used(record)
        return self._use(record.outputs, record)

    def record(
        self,
        key: str,
        snapshots: Sequence[Snapshot],
        *,
        description: str,
        parents: Sequence[str] = (),
        kind: CacheKind = "regular",
    ) -> Use | None:
        """Keep what a step has made, in place of what its key gave before.

        Args:
            key: names it.
            snapshots: its outputs, all of whose layers are there.
            description: the step's name.
            parents: the ids of the records that it was made of.
            kind: what it is.

        Returns:
            What it gives from now on, to be released; None where some layer isn't there any more, and nothing is kept.
        """
        outputs = self._keep(snapshots)
        if outputs is None:
            return None
        record = Record(
            record_id(key),
            key,
            kind,
            description,
            time.time(),
            tuple(dict.fromkeys(parents)),
            outputs,
            self._added(outputs, parents),
        )
        before = self._keys.get(key)
        self._records[record.id] = self._keys[key] = self._fresh[record.id] = record
        if before is not None:
            self.drop(before.outputs)
        # The record itself keeps them once, its use once more.
        for name in outputs:
            self._layers.take(name)
        self._used(record)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SETTLE, self._begin, self._settle_logged)
        return self._use(outputs, record)

    def hold(self, snapshots: Sequence[Snapshot]) -> Use | None:
        """Keep file systems while a build uses them; to be released. None where some layer isn't there any more."""
        outputs = self._keep(snapshots)
        return None if outputs is None else self._use(outputs, None)

    def drop(self, outputs: Iterable[str]) -> None:
        """Let go of stacks of layers, as ``Use`` does."""
        for name in outputs:
            self._layers.drop(name)
        self._remove_left()

    async def settle(self) -> None:
        """Have everything that has been recorded on the disk, and in the database.

        Raises:
            OSError: the disk has failed.
            InternalError: the database can't be written.
        """
        async with self._settling:
            fresh, self._fresh = self._fresh, {}
            touched, self._touched = self._touched, {}
            try:
                if fresh:
                    await self._workers.run(self._sync)
                await self._write(fresh, touched)
            except BaseException:
                self._fresh = {**fresh, **self._fresh}
                self._touched = {**touched, **self._touched}
                raise

    def build_ended(self) -> None:
        """A build has ended: what it has recorded is put on the disk, and what is too much goes, in the background."""
        self._begin(self._after_build)

    # Cache mounts

    async def add(self, record: Record) -> None:
        """Record a directory of a cache mount; for ``CacheMounts``."""
        await self._store.write(lambda connection: rows.write(connection, (), (record,)))
        record.durable = True
        self._records[record.id] = record

    def changed(self, record: Record) -> None:
        """A record's use or size has changed; for ``CacheMounts``."""
        if self._records.get(record.id) is record:
            self._touched[record.id] = record

    # What clients see and do

    def usage(self) -> list[BuildCacheInfo]:
        """Everything that is kept, as ``GET /system/df`` lists it."""
        return listing(self._everything(), self._sharing())

    async def prune(self, options: PruneOptions) -> BuildPruneResponse:
        """Remove what isn't in use.

        Raises:
            InvalidParameter: a filter can't be.
        """
        options.check()
        removed = await self._remove(choose(self._everything(), options, self._sharing(), self._free()))
        return BuildPruneResponse([record.id for record in removed] or None, sum(record.size for record in removed))

    def reconfigure(self, rules: Sequence[PruneOptions]) -> None:
        """Remove by other rules from now on."""
        self._rules = rules

    # Inside

    def _everything(self) -> list[Record]:
        return [*self._records.values(), *self.repositories.records(), *self.downloads.records()]

    def _restore(self, record: Record) -> bool:
        """At start: keep a record's layers; whether they are there."""
        taken: list[str] = []
        for name in record.outputs:
            if not self._layers.take(name):
                for other in taken:
                    self._layers.drop(other)
                return False
            taken.append(name)
        return True

    def _keep(self, snapshots: Sequence[Snapshot]) -> tuple[str, ...] | None:
        outputs: list[str] = []
        for snapshot in snapshots:
            name = self._layers.keep(snapshot.layers)
            if name is None:
                self.drop(outputs)
                return None
            outputs.append(name)
        return tuple(outputs)

    def _use(self, outputs: Sequence[str], record: Record | None) -> Use:
        return Use(self, outputs, tuple(Snapshot(self._layers.layers(name)) for name in outputs), record)

    def _used(self, record: Record) -> None:
        record.used = time.time()
        record.uses += 1
        if record.durable:
            self._touched[record.id] = record

    def _added(self, outputs: Sequence[str], parents: Iterable[str]) -> int:
        """Bytes of the layers that none of the parents has."""
        known = {
            name
            for parent in parents
            if parent in self._records
            for output in self._records[parent].outputs
            for name in self._layers.names(output)
        }
        new = {name for output in outputs for name in self._layers.names(output)} - known
        return sum(self._layers.size(name) for name in new)

    def _sharing(self) -> Callable[[Record], bool]:
        """Tells whether images have what a record has."""
        _, chains = self._images.stores.catalogue.content()
        return lambda record: any(self._layers.chain(name) in chains for name in record.outputs)

    def _free(self) -> int:
        status = os.statvfs(self._root)
        return status.f_bavail * status.f_frsize

    def _sync(self) -> None:
        self._images.stores.content.sync()
        self._images.stores.snapshots.sync()

    async def _write(self, fresh: dict[str, Record], touched: dict[str, Record]) -> None:
        """Write what is still there; its layers are on the disk."""
        current = [record for record in fresh.values() if self._records.get(record.id) is record]
        layers = self._layers.unwritten(name for record in current for name in record.outputs)
        uses = [
            (record.used, record.uses, record.size, record.id)
            for record in touched.values()
            if self._records.get(record.id) is record
        ]
        if not (current or uses):
            return

        def write(connection: sqlite3.Connection) -> None:
            rows.write(connection, layers, current)
            rows.touch(connection, uses)

        await self._store.submit(write)
        self._layers.written(layers)
        for record in current:
            record.durable = True

    async def _remove(self, chosen: Collection[Record]) -> list[Record]:
        """Remove records; nobody finds them from here on. Those that were removed."""
        own = [record for record in chosen if record.id in self._records]
        directories = []
        for record in own:
            del self._records[record.id]
            if record.kind == "exec.cachemount":
                directories.append(self.mounts.discard(record))
            else:
                del self._keys[record.key]
            for name in record.outputs:
                self._layers.drop(name)
        left = self._layers.left()
        await self._forget([row.name for row in left], [record.id for record in own])
        await self._images.let_go([row.layer.blob for row in left], [row.layer.chain for row in left])
        for directory in directories:
            await self._workers.run(partial(remove_tree, directory))
        # A build may have found what was fetched in the meantime: then it stays.
        gone = {record.id for record in own}
        for record in chosen:
            if record.id not in gone and await self._workers.run(partial(self._drop_fetched, record)):
                gone.add(record.id)
        return [record for record in chosen if record.id in gone]

    def _drop_fetched(self, record: Record) -> bool:
        return self.repositories.drop(record) or self.downloads.drop(record)

    async def _forget(self, layers: Sequence[str], records: Sequence[str]) -> None:
        if layers or records:
            await self._store.submit(lambda connection: rows.remove(connection, layers, records))

    def _remove_left(self) -> None:
        """Have the images remove what nobody keeps any more, in the background."""
        left = self._layers.left()
        if not left:
            return
        names = [row.name for row in left]
        # Queued now, so that it comes before whatever keeps them anew.
        forgotten = self._store.submit(lambda connection: rows.remove(connection, names, ()))

        async def remove() -> None:
            await forgotten
            await self._images.let_go([row.layer.blob for row in left], [row.layer.chain for row in left])

        self._begin(remove)

    async def _after_build(self) -> None:
        await self._settle_logged()
        for options in self._rules:
            removed = await self._remove(choose(self._everything(), options, self._sharing(), self._free()))
            if removed:
                logger.info("build cache: %d records removed by rule", len(removed))

    async def _settle_logged(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            await self.settle()
        except (OSError, DaemonError) as error:
            # The builds are done all the same; it is tried again with the next.
            logger.error("build cache: what was built isn't recorded: %s", error)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.ensure_future(work())
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            if error := task.exception():
                logger.error("build cache: %s", error)
