"""The record of which images there are and what they are called.

A name means one image, or an index: then it means all images of that index which are here, one for each platform, of which
the platform wanted says which. An index's blob is kept as long as a name means it.

SQLite has it durably; all of it is also held in memory, so that finding an image costs no input or output. Only what the
database has acknowledged is ever shown.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from boxshipd.images import platform, reference
from boxshipd.images.attestations import attached
from boxshipd.images.content import ContentStore, Session
from boxshipd.images.model import ImageConfig, Platform, decode
from boxshipd.images.record import IndexRecord, Layer, Meaning, Record, describe_index, describe_manifest
from boxshipd.images.reference import Reference
from boxshipd.images.rows import select, write_image
from boxshipd.state.store import Store

__all__ = ["Catalogue", "IndexRecord", "Layer", "Record"]


class Catalogue:
    """All images. To be used on the event loop."""

    def __init__(self, store: Store, content: ContentStore) -> None:
        self._store = store
        self._content = content
        self._records: dict[str, Record] = {}
        self._names: dict[str, Meaning] = {}
        self._indexes: dict[str, IndexRecord] = {}
        self._left_blobs: set[str] = set()
        self._left_chains: set[str] = set()
        self._lock = asyncio.Lock()
        self._commits: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Read the database.

        Raises:
            InternalError: a manifest, an index or a configuration that it names is damaged.
        """
        images, layers, names, members = await self._store.read(select)
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
        self._names = {name: Meaning(image, index) for name, image, index in names}
        for index in {meaning.index for meaning in self._names.values() if meaning.index}:
            self._indexes[index] = self._described(self._content.read(index))
        for index, image in members:
            if index in self._indexes:
                self._indexes[index].images.add(image)

    def get(self, image_id: str) -> Record | None:
        """The image of an id, unless it has been removed."""
        record = self._records.get(image_id)
        return None if record is None or record.removed else record

    def known(self, image_id: str) -> Record | None:
        """The image of an id, even if it has been removed and is only kept for containers."""
        return self._records.get(image_id)

    def named(self, name: Reference, wanted: Platform | None = None) -> Record | None:
        """The image of a name.

        Args:
            name: the name.
            wanted: the platform, where the name means several; this machine's by default, or what there is.
        """
        variants = self.variants(name)
        if not variants:
            return None
        if len(variants) == 1 and wanted is None:
            return variants[0]
        matching = [record for record in variants if platform.matches(wanted or platform.host(), record.platform)]
        if matching:
            return matching[0]
        return None if wanted is not None else variants[0]

    def variants(self, name: Reference) -> list[Record]:
        """All images of a name, the one that got it last first: several where it means an index."""
        meaning = self._names.get(str(name))
        if meaning is None:
            return []
        others = self._indexes[meaning.index].images - {meaning.image} if meaning.index else ()
        return [record for image in (meaning.image, *sorted(others)) if (record := self.get(image))]

    def index_of(self, name: Reference) -> IndexRecord | None:
        """The index that a name means, if it means one."""
        meaning = self._names.get(str(name))
        return self._indexes[meaning.index] if meaning is not None and meaning.index else None

    def by_prefix(self, prefix: str) -> Record | None:
        """The one image whose id, without the algorithm, begins so."""
        found = [record for record in self.records() if record.id.partition(":")[2].startswith(prefix)]
        return found[0] if len(found) == 1 else None

    def records(self) -> list[Record]:
        """All images that haven't been removed."""
        return [record for record in self._records.values() if not record.removed]

    def names_of(self, image_id: str) -> list[Reference]:
        """An image's names, sorted as they are shown; those it shares with other platforms' included."""
        return sorted(
            (reference.parse(name) for name, meaning in self._names.items() if self._means(meaning, image_id)),
            key=lambda name: name.familiar,
        )

    def names_in(self, repository: str) -> list[tuple[Reference, Record]]:
        """The names that a repository's full name begins, with their images."""
        names = [reference.parse(name) for name in self._names]
        found = [(name, self.named(name)) for name in names if name.name == repository]
        return sorted(((name, record) for name, record in found if record is not None), key=lambda pair: str(pair[0]))

    def _means(self, meaning: Meaning, image_id: str) -> bool:
        return meaning.image == image_id or (bool(meaning.index) and image_id in self._indexes[meaning.index].images)

    def layer(self, chain: str) -> Layer | None:
        """What is known of a snapshot."""
        # From any thread: a copy, since the dictionary may change meanwhile.
        return next((layer for record in [*self._records.values()] for layer in record.layers if layer.chain == chain), None)

    def verified(self, blob: str, diff: str) -> bool:
        """Whether a blob is known to uncompress to the content of digest ``diff``."""
        return any(layer.blob == blob and layer.diff == diff for record in [*self._records.values()] for layer in record.layers)

    def has_layer(self, blob: str) -> bool:
        """Whether some image has a layer of this blob."""
        return any(layer.blob == blob for record in [*self._records.values()] for layer in record.layers)

    def removed(self) -> list[Record]:
        """The images that are only kept for containers."""
        return [record for record in self._records.values() if record.removed]

    def content(self) -> tuple[set[str], set[str]]:
        """Everything in use: digests of blobs, and chain ids of snapshots."""
        blobs: set[str] = set().union(*(index.blobs for index in self._indexes.values()))
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

    async def add(
        self, record: Record, names: Iterable[Reference] = (), index: bytes | None = None, *, takes_over: bool = False
    ) -> Record:
        """Add an image with its names, which other images lose.

        One that is there already stays as it is but for the names; coming with an index or a name by digest, it takes over
        the manifest that it comes with, as that is what those mean.

        Args:
            record: the image. Its content must be pinned.
            names: its names, those by digest included.
            index: the index, or Docker's manifest list, that it came with, where it did: the names mean that then, together
                with all other images that have come with it. It becomes a blob of the content store.
            takes_over: one that is there takes over the manifest in any case.

        Raises:
            InvalidParameter: ``index`` isn't one.
        """
        with self._content.session() as session:
            described = await asyncio.to_thread(self._keep_index, session, index) if index is not None else None
            return await self._add(record, [*names], described, takes_over=takes_over)

    async def tag(self, source: Reference, name: Reference) -> None:
        """Have ``name`` mean what ``source`` means, with all its platforms."""

        def change() -> _Change:
            meaning = self._names[str(source)]
            return self._rename({str(name): meaning}, [(meaning.image, time.time())])

        await self._commit(change)

    async def drop_name(self, name: Reference) -> None:
        """Take a name away."""
        await self._commit(lambda: self._rename({str(name): None}, []))

    async def remove(self, image_id: str, *, keep: bool) -> None:
        """Remove an image, and the names that it alone has.

        Args:
            image_id: its id.
            keep: containers still use it: hide it, and keep what it is made of.
        """

        def change() -> _Change:
            names = {
                name: self._without(meaning, image_id)
                for name, meaning in self._names.items()
                if self._means(meaning, image_id)
            }
            rename, apply_names = self._rename(names, [])

            def write(connection: sqlite3.Connection) -> None:
                rename(connection)
                connection.execute("DELETE FROM image_indexes WHERE image = ?", (image_id,))
                if keep:
                    connection.execute("UPDATE images SET removed = 1 WHERE id = ?", (image_id,))
                else:
                    connection.execute("DELETE FROM images WHERE id = ?", (image_id,))

            def apply() -> None:
                apply_names()
                for index in self._indexes.values():
                    index.images.discard(image_id)
                record = self._records.pop(image_id)
                if keep:
                    self._records[image_id] = replace(record, removed=True)
                else:
                    self._left(record)

            return write, apply

        await self._commit(change)

    async def _add(self, record: Record, names: list[Reference], index: IndexRecord | None, *, takes_over: bool) -> Record:
        def change() -> _Change:
            known = self._records.get(record.id)
            added = known or record
            if known is not None and (takes_over or index is not None or any(name.digest for name in names)):
                added = replace(known, manifest=record.manifest, layers=record.layers)
            added = replace(added, removed=False, tagged=time.time() if names else added.tagged)
            digest = index.descriptor.digest if index else ""
            rename, apply_names = self._rename({str(name): Meaning(added.id, digest) for name in names}, [], index)

            def write(connection: sqlite3.Connection) -> None:
                write_image(connection, added, known)
                if index is not None and names:
                    connection.execute("INSERT OR IGNORE INTO image_indexes VALUES (?, ?)", (digest, added.id))
                rename(connection)

            def apply() -> None:
                if known is not None:
                    self._left(known)
                self._records[added.id] = added
                apply_names()
                if digest in self._indexes:
                    self._indexes[digest].images.add(added.id)

            return write, apply

        await self._commit(change)
        return self._records[record.id]

    def _rename(
        self, names: dict[str, Meaning | None], tagged: list[tuple[str, float]], index: IndexRecord | None = None
    ) -> _Change:
        """Change what names mean, None for nothing more, and let go of indexes that none means any more."""
        after = {name: meaning for name, meaning in {**self._names, **names}.items() if meaning is not None}
        unused = set(self._indexes) - {meaning.index for meaning in after.values()}

        def write(connection: sqlite3.Connection) -> None:
            for name, meaning in names.items():
                if meaning is None:
                    connection.execute("DELETE FROM image_names WHERE name = ?", (name,))
                else:
                    row = (name, meaning.image, meaning.index)
                    connection.execute("INSERT OR REPLACE INTO image_names (name, image, index_digest) VALUES (?, ?, ?)", row)
            connection.executemany("UPDATE images SET tagged = ? WHERE id = ?", [(at, image) for image, at in tagged])
            connection.executemany("DELETE FROM image_indexes WHERE digest = ?", [(digest,) for digest in unused])

        def apply() -> None:
            self._names = after
            for image, at in tagged:
                self._records[image] = replace(self._records[image], tagged=at)
            for digest in unused:
                self._left_blobs |= self._indexes.pop(digest).blobs
            if index is not None and names:
                self._indexes.setdefault(index.descriptor.digest, index)

        return write, apply

    def _without(self, meaning: Meaning, image_id: str) -> Meaning | None:
        """What a name still means when an image is gone."""
        if meaning.image != image_id:
            return meaning
        others = (
            sorted(image for image in self._indexes[meaning.index].images - {image_id} if self.get(image))
            if meaning.index
            else []
        )
        return Meaning(others[0], meaning.index) if others else None

    def _left(self, record: Record) -> None:
        self._left_blobs |= record.blobs
        self._left_chains.update(layer.chain for layer in record.layers)

    def _keep_index(self, session: Session, data: bytes) -> IndexRecord:
        described = self._described(data)
        session.put(data)
        self._content.sync()
        return described

    def _described(self, data: bytes) -> IndexRecord:
        described = describe_index(data)
        described.attached = attached(self._content, described.manifests)
        return described

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
