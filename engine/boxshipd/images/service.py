"""What the API asks of images, and what containers need of them."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
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

from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.images import base, lookup, platform, queries, reference
from boxshipd.images.archive.service import Archives, target
from boxshipd.images.assembly import Assembly, Progress, Stores
from boxshipd.images.catalogue import Catalogue, Record
from boxshipd.images.content import ContentStore
from boxshipd.images.image import Image, ImageUse
from boxshipd.images.manifests import manifest_summaries
from boxshipd.images.pruning import prune
from boxshipd.images.reference import Reference
from boxshipd.images.removal import Removal
from boxshipd.images.snapshots import SnapshotStore
from boxshipd.images.unpack.limits import DEFAULT_LIMITS, Limits
from boxshipd.images.workers import Cancellation, Workers
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
        self._archives = Archives(stores, self._workers, self._names_lock, release=self._release, event=self._event)

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
        kept: tuple[Collection[str], Collection[str]] = ((), ()),
    ) -> Self:
        """Open the images below a data root, and remove what a crash has left there.

        Args:
            data_root: a directory; images take ``content`` and ``snapshots`` in it.
            store: the daemon's database.
            publish: where events go.
            uses: tells which containers use an image.
            limits: what archives may take.
            trust: the signature policy, if there is one.
            kept: what others keep in the images' stores: digests of blobs, and chain ids of snapshots. They pin it before
                anything else is done with images.
        """
        content = ContentStore(os.path.join(data_root, "content"))
        snapshots = SnapshotStore(os.path.join(data_root, "snapshots"))
        catalogue = Catalogue(store, content)
        await catalogue.open()
        images = cls(Stores(content, snapshots, catalogue, limits), publish, uses, trust)
        blobs, chains = catalogue.content()
        await images._workers.run(partial(content.sweep, blobs.union(kept[0])))
        await images._workers.run(partial(snapshots.sweep, chains.union(kept[1])))
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

    async def let_go(self, blobs: Iterable[str], chains: Iterable[str]) -> None:
        """Remove content that others have kept and have unpinned, as far as no image needs it."""
        self._catalogue.leave(blobs, chains)
        await self.collect()

    async def adopt(self, record: Record, names: Sequence[Reference], index: bytes | None) -> tuple[Record, bool]:
        """Record an image that came under some names, with the index it came with if it did; whether the first name is news."""
        async with self._names_lock:
            known = self._catalogue.named(names[0], record.platform)
            return await self._catalogue.add(record, names, index), known is None or known.id != record.id

    async def record_built(
        self, records: Sequence[Record], names: Sequence[Reference], index: bytes | None, *, takes_over: bool = False
    ) -> None:
        """Record what a build has made, one image for each platform, under the same names, and publish that.

        Args:
            records: the images; their content must be pinned.
            names: their names, which other images lose.
            index: what lists them, where there are several; without a name it isn't kept.
            takes_over: their manifests are wanted as they are, even where the same images are here with others.
        """
        async with self._names_lock:
            for record in records:
                await self._catalogue.add(record, names, index if names else None, takes_over=takes_over)
        for record in records:
            self._event("create", record, record.id)
        for name in names:
            self._event("tag", records[0], name.familiar)

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
        name = target(repo, tag)
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
        removal = Removal(self._catalogue, self._uses, self._event)
        items = await prune(self._catalogue, filters or Filters(), removal, self._uses, self._names_lock)
        freed = await self.collect() + await self._workers.run(self._stores.content.discard_partial)
        self._publish("image", "prune", "", {"reclaimed": str(freed)})
        return ImagePruneResponse(items or None, freed)

    def load(
        self, chunks: AsyncIterator[bytes], quiet: bool = False, wanted: str = ""
    ) -> AsyncGenerator[ProgressMessage, None]:
        """Take in an archive of images; as ``Archives.load``."""
        return self._archives.load(chunks, quiet, wanted, self.trust)

    def import_(  # noqa: PLR0917 - a field of the request each
        self,
        chunks: AsyncIterator[bytes],
        repo: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        wanted: str = "",
    ) -> AsyncGenerator[ProgressMessage, None]:
        """Make an image of a root file system's archive; as ``Archives.import_``."""
        return self._archives.import_(chunks, repo, tag, message, changes, wanted, self.trust)

    def get(self, names: Sequence[str], wanted: str = "") -> AsyncGenerator[bytes, None]:
        """Images as one archive; as ``Archives.get``."""
        return self._archives.get(names, wanted)

    def check_name(self, repo: str, tag: str = "") -> None:
        """Refuse a repository and a tag that can't be a name together, before anything is done for them.

        Raises:
            InvalidParameter: they can't.
        """
        target(repo, tag)

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
        name = target(repo, tag)
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
