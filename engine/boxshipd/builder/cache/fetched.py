"""What was fetched from the network, kept so that the next build only has to ask whether it has changed.

Each is a directory by a key, with a record beside what was fetched. It may go at any time, and is then fetched again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator

import msgspec
from boxship.types.build_cache import CacheKind
from msgspec import Struct
from msgspec.structs import replace

from boxshipd.builder.cache.model import Record, record_id
from boxshipd.builder.cache.mounts import tree_size
from boxshipd.images.unpack.removal import remove_tree

LIMIT = 4 << 30
"""Bytes that are kept at most, beside what is in use; what wasn't used for longest goes first."""

_NEW = "new-"
_ENTRY = "entry.json"


class _Entry(Struct, frozen=True, kw_only=True):
    """What is on record of a directory: bytes, times in seconds since the epoch."""

    description: str
    size: int
    created: float
    used: float
    uses: int = 1


class Fetched:
    """Directories below one of its own, which is made where missing. Its methods block, and may be called from any thread.

    Args:
        root: that directory.
        kind: what they are, for those who look at the cache.
        limit: bytes to be kept at most.
    """

    def __init__(self, root: str, kind: CacheKind, limit: int = LIMIT) -> None:
        self._root = root
        self._kind: CacheKind = kind
        self._limit = limit
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._users: dict[str, int] = {}
        os.makedirs(root, mode=0o700, exist_ok=True)
        for name in os.listdir(root):
            entry = None if name.startswith(_NEW) else _read(os.path.join(root, name))
            if entry is None:
                remove_tree(os.path.join(root, name))
            else:
                self._entries[name] = entry

    def new(self) -> str:
        """A directory to fetch something into: ``keep`` it or remove it."""
        return tempfile.mkdtemp(prefix=_NEW, dir=self._root)

    def find(self, key: str) -> str | None:
        """The directory of a key, which stays until it is given back; None where there is none."""
        with self._lock:
            entry = self._there(key)
            if entry is None:
                return None
            self._take(key, replace(entry, used=time.time(), uses=entry.uses + 1))
        return self._path(key)

    def keep(self, new: str, key: str, description: str, *, replaces: bool = False) -> str:
        """Make a new directory that of a key; as ``find``.

        Args:
            new: what ``new`` has given; it is complete.
            key: the key: the name of a file.
            description: what it is.
            replaces: it is newer than what is there; else what is there is as good, and stays.
        """
        now = time.time()
        entry = _Entry(description=description, size=tree_size(new), created=now, used=now)
        with self._aside() as aside, self._lock:
            there = self._there(key)
            if there is not None:
                os.rename(self._path(key) if replaces else new, f"{aside}/gone")
            if there is None or replaces:
                # On record before it has its name: without a record it would be no directory of ours.
                _write(new, entry)
                os.rename(new, self._path(key))
                self._take(key, entry)
            else:
                self._take(key, replace(there, used=now, uses=there.uses + 1))
        self._make_room()
        return self._path(key)

    def give_back(self, key: str) -> None:
        """It isn't used any more."""
        with self._lock:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]

    def records(self) -> list[Record]:
        """What there is, as the cache's records."""
        with self._lock:
            return [
                Record(
                    id=self._id(key),
                    key=key,
                    kind=self._kind,
                    description=entry.description,
                    created=entry.created,
                    size=entry.size,
                    used=entry.used,
                    uses=entry.uses,
                    holders=self._users.get(key, 0),
                    durable=True,
                )
                for key, entry in self._entries.items()
            ]

    def drop(self, record: Record) -> bool:
        """Remove one of ``records``, unless it has come into use; whether it is gone."""
        if self._id(record.key) != record.id:
            return False
        with self._aside() as aside, self._lock:
            dropped = self._there(record.key) is not None and record.key not in self._users
            if dropped:
                os.rename(self._path(record.key), f"{aside}/gone")
                del self._entries[record.key]
        return dropped

    def _there(self, key: str) -> _Entry | None:
        """What is on record of a directory that is there; one that somebody has removed by hand is forgotten."""
        if key in self._entries and not os.path.isdir(self._path(key)):
            del self._entries[key]
        return self._entries.get(key)

    def _take(self, key: str, entry: _Entry) -> None:
        """Note a use, in the memory and on the disk; the caller has the lock."""
        # What can't be noted costs a place in the order of those that go.
        with contextlib.suppress(OSError):
            _write(self._path(key), entry)
        self._entries[key] = entry
        self._users[key] = self._users.get(key, 0) + 1

    def _make_room(self) -> None:
        records = self.records()
        excess = sum(record.size for record in records) - self._limit
        for record in sorted(records, key=lambda each: each.used):
            if excess <= 0:
                return
            if self.drop(record):
                excess -= record.size

    @contextlib.contextmanager
    def _aside(self) -> Iterator[str]:
        """A directory whose content is removed after the block, when nobody waits for the lock."""
        aside = tempfile.mkdtemp(prefix=_NEW, dir=self._root)
        try:
            yield aside
        finally:
            remove_tree(aside)

    def _id(self, key: str) -> str:
        return record_id(f"{os.path.basename(self._root)} {key}")

    def _path(self, key: str) -> str:
        return os.path.join(self._root, key)


def _read(directory: str) -> _Entry | None:
    try:
        with open(f"{directory}/{_ENTRY}", "rb") as file:
            return msgspec.json.decode(file.read(), type=_Entry)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(directory: str, entry: _Entry) -> None:
    """In one step, so that a crash leaves the one before."""
    partial = f"{directory}/.{_ENTRY}"
    with open(partial, "wb") as file:
        file.write(msgspec.json.encode(entry))
    os.rename(partial, f"{directory}/{_ENTRY}")
