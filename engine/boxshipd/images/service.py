"""What the API asks of images, and what containers need of them."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Self

from boxship.types.images import (
    ImageDeleteItem,
    ImageHistoryItem,
    ImageInspect,
    ImagePruneResponse,
    ImageSummary,
    ProgressMessage,
)
from msgspec import UNSET
from msgspec.structs import replace

from boxshipd.errors import Conflict, InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.images import base, lookup, platform, queries, reference
from boxshipd.images.archive.import_ import Importer
from boxshipd.images.archive.load import Loaded, Loader
from boxshipd.images.archive.save import write_archive
from boxshipd.images.assembly import Assembly, Progress, Stores
from boxshipd.images.catalogue import Catalogue, Record
from boxshipd.images.content import ContentStore
from boxshipd.images.image import Image, ImageUse
from boxshipd.images.manifests import manifest_summaries
from boxshipd.images.progress import LayerProgress, line
from boxshipd.images.reference import Reference
from boxshipd.images.removal import Removal
from boxshipd.images.snapshots import SnapshotStore
from boxshipd.images.unpack.limits import DEFAULT_LIMITS, Limits
from boxshipd.images.workers import Cancellation, StreamSource, Workers
from boxshipd.state.store import Store

if TYPE_CHECKING:
    # Not loaded where there is no policy.
    from boxshipd.trust.verifier import Trust

Publish = Callable[[str, str, str, Mapping[str, str]], object]
"""Publishes an event: its type, its action, the id of what it happened to, and attributes."""
Uses = Callable[[str], Sequence[ImageUse]]
"""The containers made of the image of an id."""

__all__ = ["Image", "ImageUse", "Images", "Publish", "Uses"]


class Images:
    """All images of a daemon. Make it with ``Images.open``; to be used on the event loop."""

    def __init__(self, stores: Stores, publish: Publish, uses: Uses, trust: Trust | None = None) -> None:
        # The signature policy, if there is one; it may be replaced while the daemon runs.
        self.trust = trust
        self._stores = stores
        self._catalogue = stores.catalogue
        self._publish = publish
        self._containers = uses
        self._workers = Workers()
        self._base_lock = asyncio.Lock()
        # Held while something is decided by the names there are, and then done to them.
        self._names_lock = asyncio.Lock()
        self._held: Counter[str] = Counter()
        self._cleaning: set[asyncio.Future[int]] = set()

    @classmethod
    async def open(
        cls,
        data_root: str,
        store: Store,
        *,
        publish: Publish,
        uses: Uses,
        limits: Limits = DEFAULT_LIMITS,
        trust: Trust | None = None,
    ) -> Self:
        """Open the images below a data root, and remove what a crash has left there.

        Args:
            data_root: a directory; images take ``content`` and ``snapshots`` in it.
            store: the daemon's database.
            publish: where events go.
            uses: tells which containers use an image.
            limits: what archives may take.
            trust: the signature policy, if there is one.
        """
        content = ContentStore(os.path.join(data_root, "content"))
        snapshots = SnapshotStore(os.path.join(data_root, "snapshots"))
        catalogue = Catalogue(store, content)
        await catalogue.open()
        images = cls(Stores(content, snapshots, catalogue, limits), publish, uses, trust)
        blobs, chains = catalogue.content()
        await images._workers.run(partial(content.sweep, blobs))
        await images._workers.run(partial(snapshots.sweep, chains))
        return images

    def close(self) -> None:
        """End the threads; work under way is finished first."""
        self._workers.close()

    # For what brings images in from registries and takes them there

    @property
    def stores(self) -> Stores:
        """Where images are kept."""
        return self._stores

    @property
    def workers(self) -> Workers:
        """The threads for heavy work."""
        return self._workers

    @contextlib.asynccontextmanager
    async def assembling(self, progress: Progress) -> AsyncIterator[Assembly]:
        """Put images together inside the block; what no image names at its end is removed.

        Args:
            progress: called on workers' threads; it raises Cancelled to have the work given up.
        """
        assembly = Assembly(self._stores, progress)
        try:
            yield assembly
        finally:
            await self._release(assembly)

    async def adopt(self, record: Record, names: Sequence[Reference], index: bytes | None) -> tuple[Record, bool]:
        """Record an image that came under some names, with the index it came with if it did; whether the first name is news."""
        async with self._names_lock:
            known = self._catalogue.named(names[0], record.platform)
            return await self._catalogue.add(record, names, index), known is None or known.id != record.id

    def announce(self, action: str, record: Record, name: Reference) -> None:
        """Publish what happened to an image by a name of it, as Docker does it for ``pull`` and ``push``."""
        labels = record.config.config.labels if record.config.config else None
        self._publish("image", action, name.familiar, {**(labels or {}), "name": name.familiar_name})

    async def resolve(self, text: str, wanted: str = "") -> Image:
        """The image a container is to be made of. The embedded base image is made when it is first asked for.

        Args:
            text: a name, an id, or the unique beginning of one.
            wanted: the platform it must have, if any.

        Raises:
            NotFound: there is no such image, or none for that platform.
            InvalidParameter: ``text`` can't be a name.
        """
        place = platform.parse(wanted) if wanted else None
        try:
            record = lookup.find(self._catalogue, text, place)
        except NotFound:
            if reference.parse(text).tagged() != base.NAME or self._catalogue.named(base.NAME):
                raise
            record = await self._make_base()
            if place is not None:
                lookup.check_platform(record, text, place)
        image = queries.image(self._stores, record)
        return image if place is not None or platform.runs_here(record.platform) else replace(image, warning=_foreign(record))

    @contextlib.contextmanager
    def holding(self, image_id: str) -> Iterator[None]:
        """Keep an image from being removed while a container is made of it, from ``resolve`` until ``uses`` tells of it."""
        self._held[image_id] += 1
        try:
            yield
        finally:
            self._held[image_id] -= 1
            if not self._held[image_id]:
                del self._held[image_id]

    async def inspect(self, text: str, wanted: str = "", manifests: bool = False) -> ImageInspect:
        """Everything there is to know of an image.

        Args:
            text: its name or id.
            wanted: the platform it must have, if any.
            manifests: all manifests of the index that the name means as well.

        Raises:
            NotFound: there is no such image, or none for that platform.
            InvalidParameter: ``wanted`` and ``manifests`` exclude each other.
        """
        if wanted and manifests:
            raise InvalidParameter("conflicting options: manifests and platform options cannot both be set")
        record = self._find(text, wanted)
        index = None if wanted else lookup.index_of(self._catalogue, text)
        shown = manifest_summaries(self._stores, record, index, self._containers) if manifests else UNSET
        return queries.inspect(self._stores, record, index, shown)

    async def history(self, text: str, wanted: str = "") -> list[ImageHistoryItem]:
        """How an image came to be, newest step first; ``wanted`` is the platform it must have, if any.

        Raises:
            NotFound: there is no such image, or none for that platform.
        """
        return queries.history(self._catalogue, self._find(text, wanted))

    def _find(self, text: str, wanted: str) -> Record:
        return lookup.find(self._catalogue, text, platform.parse(wanted) if wanted else None)

    async def list(
        self,
        everything: bool = False,
        filters: Filters | None = None,
        *,
        digests: bool = False,
        shared_size: bool = False,
        manifests: bool = False,
        containers: bool = False,
    ) -> list[ImageSummary]:
        """All images, newest first. Of the platforms of one name that is the one this machine takes.

        Args:
            everything: those of other platforms as well.
            filters: which of them.
            digests: names by digest as well; they are always given, as Docker gives them.
            shared_size: work out how much each shares with others.
            manifests: tell of all manifests of the index that an image's name means.
            containers: count the containers made of each.
        """
        return queries.summaries(
            self._stores,
            filters or Filters(),
            everything=everything,
            shared_size=shared_size,
            manifests=manifests,
            uses=self._containers if manifests or containers else None,
            count=containers,
        )

    def layers_size(self) -> int:
        """The sum of the lengths of all files of all images, each layer counted once, in bytes."""
        return queries.layers_size(self._catalogue)

    async def tag(self, text: str, repo: str, tag: str = "") -> None:
        """Give an image another name.

        Raises:
            NotFound: there is no such image.
            InvalidParameter: that can't be a name.
        """
        name = _target(repo, tag)
        async with self._names_lock:
            record = lookup.find(self._catalogue, text)
            if name is None:
                raise InvalidParameter("refusing to create a tag without a repository name")
            if lookup.index_of(self._catalogue, text) is not None and (found := lookup.name_of(self._catalogue, text)):
                await self._catalogue.tag(found, name)
            else:
                await self._catalogue.add(record, [name])
        self._event("tag", record, name.familiar)

    async def remove(
        self, text: str, force: bool = False, prune: bool = True, wanted: Sequence[str] = ()
    ) -> builtins.list[ImageDeleteItem]:
        """Remove a name, and with the last one the image.

        Args:
            text: a name or an id.
            force: even if stopped containers use it, or several names go with it.
            prune: untagged parents as well; images here have none.
            wanted: remove only what the name means for these platforms.

        Raises:
            NotFound: there is no such image, or none for that platform.
            Conflict: containers or other names are in the way.
        """
        async with self._names_lock:
            places = [platform.parse(place) for place in wanted]
            items = await Removal(self._catalogue, self._uses, self._event).remove(text, force=force, wanted=places)
        await self.collect()
        return items

    async def prune(self, filters: Filters | None = None) -> ImagePruneResponse:
        """Remove images that nothing uses: those without a name or, with the filter ``dangling=false``, all."""
        filters = filters or Filters()
        filters.validate(("dangling", "label", "label!", "until"))
        dangling = filters.boolean("dangling", True)
        chosen = [
            record
            for record in queries.prunable(self._catalogue, filters)
            if not self._uses(record.id) and not (dangling and self._catalogue.names_of(record.id))
        ]
        removal = Removal(self._catalogue, self._uses, self._event)
        items: list[ImageDeleteItem] = []
        for record in chosen:
            # Somebody may have begun to use it, or removed it, since it was chosen.
            try:
                names = self._catalogue.names_of(record.id)
                for text in [name.familiar for name in names] or [record.id]:
                    async with self._names_lock:
                        items += await removal.remove(text, force=False)
            except (Conflict, NotFound):
                continue
        freed = await self.collect() + await self._workers.run(self._stores.content.discard_partial)
        self._publish("image", "prune", "", {"reclaimed": str(freed)})
        return ImagePruneResponse(items or None, freed)

    async def load(
        self, chunks: AsyncIterator[bytes], quiet: bool = False, wanted: str = ""
    ) -> AsyncGenerator[ProgressMessage, None]:
        """Take in an archive of images.

        Args:
            chunks: the archive.
            quiet: say only which images were loaded.
            wanted: the platform to take where an image is there for several; all by default.

        Raises:
            Untrusted: the signature policy doesn't let archives in.
        """
        trust = self.trust
        if trust is not None:
            trust.admit_loading()
        cancellation = Cancellation()
        source = StreamSource(chunks, cancellation)
        progress = LayerProgress(cancellation, "Loading layer", quiet=quiet)
        assembly = Assembly(self._stores, progress.update)
        try:
            work = asyncio.ensure_future(
                self._workers.run(lambda: Loader(self._stores, assembly, wanted, trust).load(source), cancellation)
            )
            # Left early, the work must have ended before what it needs is let go.
            async with contextlib.aclosing(progress.messages(work)) as messages:
                async for message in messages:
                    yield message
            fresh: set[str] = set()
            for loaded in work.result():
                for message in await self._loaded(loaded, fresh):
                    yield message
        finally:
            await self._release(assembly)

    async def import_(  # noqa: PLR0917 - a field of the request each
        self,
        chunks: AsyncIterator[bytes],
        repo: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        wanted: str = "",
    ) -> AsyncGenerator[ProgressMessage, None]:
        """Make an image of one layer out of a root file system's archive.

        Args:
            chunks: the archive.
            repo: the image's name, if it gets one.
            tag: its tag, or a digest's place.
            message: a comment for its history.
            changes: Dockerfile instructions that change its configuration.
            wanted: the platform it is said to be for; this machine's by default.

        Raises:
            Untrusted: the signature policy doesn't let root file systems in.
        """
        if self.trust is not None:
            self.trust.admit_root_file_system()
        name = _target(repo, tag)
        cancellation = Cancellation()
        source = StreamSource(chunks, cancellation)
        progress = LayerProgress(cancellation, "Importing", quiet=True)
        assembly = Assembly(self._stores, progress.update)
        importer = Importer(self._stores, assembly, platform.parse(wanted) if wanted else platform.host(), changes)
        try:
            work = asyncio.ensure_future(self._workers.run(lambda: importer.make(source, message), cancellation))
            async with contextlib.aclosing(progress.messages(work)) as messages:
                async for shown in messages:
                    yield shown
            record = await self._catalogue.add(work.result(), [name] if name else [])
        finally:
            await self._release(assembly)
        if name:
            self._event("tag", record, name.familiar)
        self._event("import", record, record.id)
        yield ProgressMessage(status=record.id)

    def check_name(self, repo: str, tag: str = "") -> None:
        """Refuse a repository and a tag that can't be a name together, before anything is done for them.

        Raises:
            InvalidParameter: they can't.
        """
        _target(repo, tag)

    def record_of(self, image_id: str) -> Record:
        """The record of an image that a container uses, removed for clients or not.

        Raises:
            NotFound: there is none.
        """
        record = self._catalogue.known(image_id)
        if record is None:
            raise NotFound(f"No such image: {image_id}")
        return record

    async def commit(
        self, make: Callable[[Stores, Assembly, Cancellation], Record], repo: str = "", tag: str = ""
    ) -> tuple[str, str]:
        """Have an image made on a thread, and record it; its id and its name, if it gets one.

        Args:
            make: makes it out of content that it brings in itself.
            repo: the image's name, if it gets one.
            tag: its tag.
        """
        name = _target(repo, tag)
        cancellation = Cancellation()
        assembly = Assembly(self._stores, lambda *_: cancellation.check())
        try:
            record = await self._workers.run(lambda: make(self._stores, assembly, cancellation), cancellation)
            record = await self._catalogue.add(record, [name] if name else [])
        finally:
            await self._release(assembly)
        if name:
            self._event("tag", record, name.familiar)
        return record.id, name.familiar if name else ""

    async def get(self, names: Sequence[str], wanted: str = "") -> AsyncGenerator[bytes, None]:
        """Images as one archive, an OCI layout and a docker-archive at once; ``wanted`` is the platform they must have, if any.

        Raises:
            NotFound: one of them doesn't exist, or not for that platform.
        """
        selections = lookup.select(self._catalogue, names, platform.parse(wanted) if wanted else None)
        async with contextlib.aclosing(self._workers.iterate(write_archive(self._stores.content, selections))) as chunks:
            async for chunk in chunks:
                yield chunk
        for selection in selections:
            self._event("save", selection.record, selection.record.id)

    async def collect(self) -> int:
        """Remove what nothing uses any more, after an image or a container went away; the bytes of content that became free."""
        async with self._names_lock:
            for record in self._catalogue.removed():
                if not self._uses(record.id):
                    await self._catalogue.remove(record.id, keep=False)
        blobs, chains = self._catalogue.unreferenced()
        return await self._workers.run(partial(self._discard, blobs, chains)) if blobs or chains else 0

    def _uses(self, image_id: str) -> Sequence[ImageUse]:
        """The containers made of an image, one that is just being made included."""
        uses = self._containers(image_id)
        return [*uses, ImageUse("being created", "", running=True)] if image_id in self._held else uses

    def _discard(self, blobs: Sequence[str], chains: Sequence[str]) -> int:
        for chain in chains:
            self._stores.snapshots.discard(chain)
        return sum(self._stores.content.discard(blob) for blob in blobs)

    async def _release(self, assembly: Assembly) -> None:
        """Let go of what a piece of work pinned, and remove what no image names in the end, even if the caller goes away."""
        self._catalogue.leave(*assembly.release())
        cleaning = asyncio.ensure_future(self.collect())
        self._cleaning.add(cleaning)
        cleaning.add_done_callback(self._cleaning.discard)
        await asyncio.shield(cleaning)

    async def _loaded(self, loaded: Loaded, fresh: set[str]) -> builtins.list[ProgressMessage]:
        """Record a loaded image; what there is to tell of it.

        Args:
            loaded: the image.
            fresh: names that images of the same archive have got already: this is another platform of theirs.
        """
        messages: list[ProgressMessage] = []
        new = [name for name in loaded.names if str(name) not in fresh]
        async with self._names_lock:
            for name in new:
                previous = self._catalogue.named(name)
                if previous is not None and previous.id != loaded.record.id:
                    old = f"renaming the old one with ID {previous.id} to empty string"
                    messages.append(line(f"The image {name.familiar} already exists, {old}"))
            record = await self._catalogue.add(loaded.record, loaded.names, loaded.index)
        messages.extend(line(f"Loaded image: {name.familiar}") for name in new)
        if not loaded.names:
            messages.append(line(f"Loaded image ID: {record.id}"))
        fresh.update(map(str, new))
        self._event("load", record, record.id)
        return messages

    async def _make_base(self) -> Record:
        """Make the base image out of what this machine has, once."""
        async with self._base_lock:
            known = self._catalogue.named(base.NAME)
            if known is not None:
                return known
            cancellation = Cancellation()
            assembly = Assembly(self._stores, lambda *_: cancellation.check())
            try:
                record = await self._workers.run(lambda: base.build(self._stores, assembly), cancellation)
                record = await self._catalogue.add(record, [base.NAME])
            finally:
                await self._release(assembly)
            self._event("tag", record, base.NAME.familiar)
            return record

    def _event(self, action: str, record: Record, name: str) -> None:
        labels = record.config.config.labels if record.config.config else None
        self._publish("image", action, record.id, {**(labels or {}), "name": name})


def _foreign(record: Record) -> str:
    """What Docker says of an image that this machine can't run by itself."""
    return (
        f"The requested image's platform ({platform.describe(record.platform)}) does not match the detected host platform "
        f"({platform.describe(platform.detected())}) and no specific platform was requested"
    )


def _target(repo: str, tag: str) -> Reference | None:
    """The name that a repository and a tag make; None without a repository.

    Raises:
        InvalidParameter: they don't make one.
    """
    if not repo:
        return None
    name = reference.parse(repo)
    if name.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    if tag:
        return name.with_tag(tag)
    return name.tagged()
