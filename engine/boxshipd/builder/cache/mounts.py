"""Directories of ``RUN --mount=type=cache``: what a command leaves there is there for the next one, of this build or another.

One id may have several directories: where all are taken, and the command may neither share one nor wait for it, it gets a new
one. Source: BuildKit solver/llbsolver/mounts/mount.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from boxshipd.builder.cache.model import Record, record_id
from boxshipd.images.snapshots import sync_file_system
from boxshipd.images.unpack.removal import remove_tree
from boxshipd.images.workers import Cancellation, Workers

Sharing = Literal["shared", "private", "locked"]
Fill = Callable[[str, Callable[[], None]], None]
"""Fills a new directory, on a worker's thread; the second argument raises to have it given up."""

_MODE = 0o710
_NEW = "new-"
_REMOVED = "removed-"


class Records(Protocol):
    """Where directories are recorded."""

    async def add(self, record: Record) -> None:
        """Record a new one; it is durable on return."""

    def changed(self, record: Record) -> None:
        """Its size or use has changed."""


@dataclass(slots=True)
class _Directory:
    record: Record
    users: int = 0
    shared: bool = False


@dataclass(slots=True)
class _Mount:
    """The directories of one id."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    directories: list[_Directory] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class CacheMounts:
    """All such directories, below one of their own. To be used on the event loop.

    Args:
        root: that directory; it is made where missing.
        records: where they are recorded.
        workers: threads.
    """

    def __init__(self, root: str, records: Records, workers: Workers) -> None:
        self._root = root
        self._records = records
        self._workers = workers
        self._mounts: dict[str, _Mount] = {}
        self._measuring: set[asyncio.Task[None]] = set()
        os.makedirs(root, mode=_MODE, exist_ok=True)

    def restore(self, records: Iterable[Record]) -> list[str]:
        """At start: take over the directories on record, remove all others; the ids of records that have no directory."""
        missing = []
        known = set()
        for record in records:
            if os.path.isdir(self._path(record)):
                self._mount(record.key).directories.append(_Directory(record))
                known.add(record.id)
            else:
                missing.append(record.id)
        for name in os.listdir(self._root):
            if name not in known:
                remove_tree(os.path.join(self._root, name))
        return missing

    @contextlib.asynccontextmanager
    async def mount(
        self,
        mount_id: str,
        sharing: Sharing,
        *,
        base: str = "",
        fill: Fill | None = None,
        mode: int = 0o755,
        uid: int = 0,
        gid: int = 0,
    ) -> AsyncIterator[str]:
        """The directory of a cache mount, which is the caller's inside the block as far as ``sharing`` says.

        Whoever needs several at once asks for them in the order of their ids, or two commands could wait for each other.

        Args:
            mount_id: its id.
            sharing: ``shared`` with whoever shares it as well, ``private``: nobody else's meanwhile, another one where it is
                taken, or ``locked``: nobody else's, to be waited for.
            base: the digest of what it is filled from; other content, other directory. Empty for nothing.
            fill: fills it where it is new.
            mode: its permission bits where it is new.
            uid: its owner then.
            gid: its group then.

        Raises:
            OSError: it can't be made.
        """
        key = f"mount {base} {mount_id}" if base else f"mount {mount_id}"
        directory = await self._take(key, mount_id, sharing, _Maker(fill, mode, uid, gid))
        try:
            yield self._path(directory.record)
        finally:
            self._give_back(key, directory)

    def discard(self, record: Record) -> str:
        """Take a directory that isn't in use away: nobody gets it any more; where it is to be removed from, as is."""
        mount = self._mounts[_family(record.key)]
        mount.directories = [one for one in mount.directories if one.record is not record]
        if not (mount.directories or mount.waiting or mount.lock.locked()):
            del self._mounts[_family(record.key)]
        aside = os.path.join(self._root, f"{_REMOVED}{record.id}-{time.monotonic_ns()}")
        os.rename(self._path(record), aside)
        return aside

    async def close(self) -> None:
        """Wait for what is being measured."""
        await asyncio.gather(*self._measuring)

    async def _take(self, key: str, mount_id: str, sharing: Sharing, make: _Maker) -> _Directory:
        while True:
            mount = self._mount(key)
            async with mount.lock:
                found = next((each for each in mount.directories if _usable(each, sharing)), None)
                if found is None and not (sharing == "locked" and mount.directories):
                    found = await self._create(key, mount_id, mount, make)
                if found is not None:
                    found.users += 1
                    found.shared = sharing == "shared"
                    found.record.holders += 1
                    return found
                freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                mount.waiting.append(freed)
            await freed

    def _give_back(self, key: str, directory: _Directory) -> None:
        directory.users -= 1
        record = directory.record
        record.holders -= 1
        record.used = time.time()
        record.uses += 1
        if directory.users:
            return
        mount = self._mounts[key]
        waiting, mount.waiting = mount.waiting, []
        for freed in waiting:
            if not freed.done():
                freed.set_result(None)
        measuring = asyncio.ensure_future(self._measure(record))
        self._measuring.add(measuring)
        measuring.add_done_callback(self._measuring.discard)

    async def _create(self, key: str, mount_id: str, mount: _Mount, make: _Maker) -> _Directory:
        taken = {each.record.key for each in mount.directories}
        number = next(n for n in range(len(taken) + 1) if _numbered(key, n) not in taken)
        own = _numbered(key, number)
        record = Record(
            record_id(own),
            own,
            "exec.cachemount",
            f"cached mount {mount_id}",
            time.time(),
            used=time.time(),
        )
        cancellation = Cancellation()
        path = self._path(record)
        await self._workers.run(lambda: make(path, cancellation.check), cancellation)
        await self._records.add(record)
        directory = _Directory(record)
        mount.directories.append(directory)
        return directory

    async def _measure(self, record: Record) -> None:
        size = await self._workers.run(lambda: tree_size(self._path(record)))
        record.size = size
        self._records.changed(record)

    def _mount(self, key: str) -> _Mount:
        return self._mounts.setdefault(_family(key), _Mount())

    def _path(self, record: Record) -> str:
        return os.path.join(self._root, record.id)


def _numbered(key: str, number: int) -> str:
    return f"{number} {key}"


def _family(key: str) -> str:
    """The key of the mount that a directory is one of."""
    number, _, rest = key.partition(" ")
    return rest if number.isdigit() else key


def _usable(directory: _Directory, sharing: Sharing) -> bool:
    return not directory.users or (sharing == "shared" and directory.shared)


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes a directory that is complete once it has its name."""

    fill: Fill | None
    mode: int
    uid: int
    gid: int

    def __call__(self, path: str, check: Callable[[], None]) -> None:
        parent, name = os.path.split(path)
        new = os.path.join(parent, f"{_NEW}{name}")
        remove_tree(new)
        try:
            os.mkdir(new)
            os.chown(new, self.uid, self.gid)
            os.chmod(new, self.mode)
            if self.fill is not None:
                self.fill(new, check)
                sync_file_system(new)
            # One that nobody has on record can only be what an attempt that was cancelled has left.
            remove_tree(path)
            os.rename(new, path)
        except BaseException:
            remove_tree(new)
            raise


def tree_size(path: str) -> int:
    """Bytes that the files below a directory take on the disk, each counted once; what vanishes meanwhile isn't counted."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = [path]
    while pending:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * 512
    return total
