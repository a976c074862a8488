"""The record of which images there are and what they are called.

SQLite has it durably; all of it is also held in memory, so that finding an image costs no input or output. Only what the
database has acknowledged is ever shown.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from boxshipd.images import reference
from boxshipd.images.content import ContentStore
from boxshipd.images.digest import sha256
from boxshipd.images.model import Descriptor, ImageConfig, Manifest, decode
from boxshipd.images.reference import Reference
from boxshipd.state.store import Store


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image.

    Attributes:
        blob: the digest of the layer as it came.
        diff: the digest of it uncompressed.
        chain: the digest of it and all below: its snapshot's name.
        size: the sum of its files' lengths, in bytes.
    """

    blob: str
    diff: str
    chain: str
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """One image.

    Attributes:
        id: the digest of its configuration.
        manifest: where its manifest is.
        config: its configuration.
        layers: its layers, lowest first.
        tagged: when it last got a name, in seconds since the epoch, or 0.
        parent: the id of the image that a commit was made of, empty for an image that came from elsewhere.
        removed: it is gone for clients, and kept for the containers that still use it.
    """

    id: str
    manifest: Descriptor
    config: ImageConfig
    layers: tuple[Layer, ...]
    tagged: float = 0.0
    parent: str = ""
    removed: bool = False

    @property
    def size(self) -> int:
        """The sum of all its files' lengths, in bytes."""
        return sum(layer.size for layer in self.layers)

    @property
    def blobs(self) -> set[str]:
        """The digests of everything it is made of."""
        return {self.id, self.manifest.digest, *(layer.blob for layer in self.layers)}


class Catalogue:
    """All images. To be used on the event loop."""

    def __init__(self, store: Store, content: ContentStore) -> None:
        self._store = store
        self._content = content
        self._records: dict[str, Record] = {}
        self._names: dict[str, str] = {}
        self._left_blobs: set[str] = set()
        self._left_chains: set[str] = set()
        self._lock = asyncio.Lock()
        self._commits: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Read the database.

        Raises:
            InternalError: a manifest or a configuration that it names is damaged.
        """
        images, layers, names = await self._store.read(_select)
        of_image: dict[str, list[Layer]] = {}
        for image, blob, diff, chain, size in layers:
            of_image.setdefault(image, []).append(Layer(blob, diff, chain, size))
        for image, manifest, tagged, parent, removed in images:
            self._records[image] = Record(
                image,
                describe_manifest(self._content.read(manifest)),
                decode(ImageConfig, self._content.read(image), f"configuration of image {image}"),
                tuple(of_image.get(image, ())),
                tagged,
                parent,
                bool(removed),
            )
        self._names = dict(names)

    def get(self, image_id: str) -> Record | None:
        """The image of an id, unless it has been removed."""
        record = self._records.get(image_id)
        return None if record is None or record.removed else record

    def known(self, image_id: str) -> Record | None:
        """The image of an id, even if it has been removed and is only kept for containers."""
        return self._records.get(image_id)

    def named(self, name: Reference) -> Record | None:
        """The image of a name."""
        image_id = self._names.get(str(name))
        return self.get(image_id) if image_id else None

    def by_prefix(self, prefix: str) -> Record | None:
        """The one image whose id, without the algorithm, begins so."""
        found = [record for record in self.records() if record.id.partition(":")[2].startswith(prefix)]
        return found[0] if len(found) == 1 else None

    def records(self) -> list[Record]:
        """All images that haven't been removed."""
        return [record for record in self._records.values() if not record.removed]

    def names_of(self, image_id: str) -> list[Reference]:
        """An image's names, sorted as they are shown."""
        return sorted(
            (reference.parse(name) for name, image in self._names.items() if image == image_id), key=lambda name: name.familiar
        )

    def names_in(self, repository: str) -> list[tuple[Reference, Record]]:
        """The names that a repository's full name begins, with their images."""
        found = [(reference.parse(name), self.get(image)) for name, image in self._names.items()]
        return sorted(
            ((name, record) for name, record in found if record is not None and name.name == repository),
            key=lambda pair: str(pair[0]),
        )

    def layer(self, chain: str) -> Layer | None:
        """What is known of a snapshot."""
        return next((layer for record in self._records.values() for layer in record.layers if layer.chain == chain), None)

    def verified(self, blob: str, diff: str) -> bool:
        """Whether a blob is known to uncompress to the content of digest ``diff``."""
        return any(layer.blob == blob and layer.diff == diff for record in self._records.values() for layer in record.layers)

    def removed(self) -> list[Record]:
        """The images that are only kept for containers."""
        return [record for record in self._records.values() if record.removed]

    def content(self) -> tuple[set[str], set[str]]:
        """Everything in use: digests of blobs, and chain ids of snapshots."""
        blobs: set[str] = set()
        chains: set[str] = set()
        for record in self._records.values():
            blobs |= record.blobs
            chains.update(layer.chain for layer in record.layers)
        return blobs, chains

    def leave(self, blobs: Iterable[str], chains: Iterable[str]) -> None:
        """Note content that work has brought in, and that an image may or may not name by now."""
        self._left_blobs.update(blobs)
        self._left_chains.update(chains)

    def unreferenced(self) -> tuple[list[str], list[str]]:
        """What removed images have left: blobs and chain ids that no image names; forgotten once told."""
        blobs, chains = self.content()
        left_blobs, left_chains = sorted(self._left_blobs - blobs), sorted(self._left_chains - chains)
        self._left_blobs.clear()
        self._left_chains.clear()
        return left_blobs, left_chains

    async def add(self, record: Record, names: Iterable[Reference] = ()) -> Record:
        """Add an image with its names, which other images lose. One that is there already stays as it is but for the names."""
        texts = [str(name) for name in names]

        def change() -> _Change:
            known = self._records.get(record.id)
            added = replace(known or record, removed=False, tagged=time.time() if texts else (known or record).tagged)

            def write(connection: sqlite3.Connection) -> None:
                if known is None:
                    _insert(connection, added)
                else:
                    connection.execute("UPDATE images SET removed = 0, tagged = ? WHERE id = ?", (added.tagged, added.id))
                connection.executemany("INSERT OR REPLACE INTO image_names VALUES (?, ?)", [(name, added.id) for name in texts])

            def apply() -> None:
                self._records[added.id] = added
                self._names.update((name, added.id) for name in texts)

            return write, apply

        await self._commit(change)
        return self._records[record.id]

    async def drop_name(self, name: Reference) -> None:
        """Take a name away."""
        text = str(name)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM image_names WHERE name = ?", (text,))

        await self._commit(lambda: (write, lambda: self._names.pop(text, None)))

    async def remove(self, image_id: str, *, keep: bool) -> None:
        """Remove an image with its names.

        Args:
            image_id: its id.
            keep: containers still use it: hide it, and keep what it is made of.
        """

        def write(connection: sqlite3.Connection) -> None:
            if keep:
                connection.execute("UPDATE images SET removed = 1 WHERE id = ?", (image_id,))
                connection.execute("DELETE FROM image_names WHERE image = ?", (image_id,))
            else:
                connection.execute("DELETE FROM images WHERE id = ?", (image_id,))

        def apply() -> None:
            record = self._records.pop(image_id)
            if keep:
                self._records[image_id] = replace(record, removed=True)
            else:
                self._left_blobs |= record.blobs
                self._left_chains.update(layer.chain for layer in record.layers)
            self._names = {name: image for name, image in self._names.items() if image != image_id}

        await self._commit(lambda: (write, apply))

    async def _commit(self, change: Callable[[], _Change]) -> None:
        """Decide what to write, write it, then show it; once begun it is carried through, even if the caller goes away."""

        async def carry_through() -> None:
            async with self._lock:
                write, apply = change()
                await self._store.write(write)
                apply()

        task = asyncio.ensure_future(carry_through())
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        await asyncio.shield(task)


_Change = tuple[Callable[[sqlite3.Connection], None], Callable[[], object]]
"""What is done to the database, and then to what is held in memory."""


def _insert(connection: sqlite3.Connection, record: Record) -> None:
    connection.execute(
        "INSERT INTO images VALUES (?, ?, ?, 0, ?)", (record.id, record.manifest.digest, record.tagged, record.parent)
    )
    rows = [(record.id, n, layer.blob, layer.diff, layer.chain, layer.size) for n, layer in enumerate(record.layers)]
    connection.executemany("INSERT INTO image_layers VALUES (?, ?, ?, ?, ?, ?)", rows)


def describe_manifest(data: bytes) -> Descriptor:
    """The descriptor of a manifest."""
    return Descriptor(decode(Manifest, data, "manifest").media_type, sha256(data), len(data))


_Rows = tuple[list[tuple[str, str, float, str, int]], list[tuple[str, str, str, str, int]], list[tuple[str, str]]]


def _select(connection: sqlite3.Connection) -> _Rows:
    return (
        connection.execute("SELECT id, manifest, tagged, parent, removed FROM images").fetchall(),
        connection.execute("SELECT image, blob, diff, chain, size FROM image_layers ORDER BY image, position").fetchall(),
        connection.execute("SELECT name, image FROM image_names").fetchall(),
    )
