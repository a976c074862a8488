"""Images that are here or at their registry, and files of the client's context: until all sources are there.

Repositories and URLs, progress of pulls and accounts of registries aren't covered.
"""

from __future__ import annotations

from boxship.types.registry import AuthConfig

from boxshipd.builder.executor import Surroundings, Work
from boxshipd.builder.graph import ContextSource, GitSource, HttpSource, ImageSource
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.plan import BaseImage
from boxshipd.builder.results import Result, Snapshot
from boxshipd.builder.trees.archive import ArchiveTree
from boxshipd.errors import InternalError, NotFound, NotImplementedHere
from boxshipd.images import platform as platforms
from boxshipd.images.distribution import Distribution
from boxshipd.images.model import Platform
from boxshipd.images.service import Images
from boxshipd.images.workers import Cancellation, StreamSource


class LocalImageExecutor:
    """Carries out ``ImageSource`` with an image that is here."""

    def __init__(self, images: Images, layers: LayerSession) -> None:
        self._images = images
        self._layers = layers

    async def key(self, op: ImageSource, work: Work) -> str:
        """See Executor: there is nothing to be saved by a record of it."""
        return ""

    async def run(self, op: ImageSource, work: Work) -> list[Result]:
        """See Executor."""
        snapshot = Snapshot(self._images.record_of(op.reference).layers)
        if not self._layers.pin(snapshot):
            raise InternalError(f"image {op.reference} was removed")
        return [snapshot]


class LocalResolver:
    """Implements ``plan.Resolver``."""

    def __init__(self, images: Images, distribution: Distribution, around: Surroundings, scratch: str) -> None:
        self._images = images
        self._distribution = distribution
        self._around = around
        self._scratch = scratch

    async def image(self, name: str, platform: Platform | None) -> BaseImage:
        """See Resolver."""
        wanted = platforms.describe(platform) if platform else ""
        try:
            image = await self._images.resolve(name, wanted)
        except NotFound:
            async for _ in self._distribution.pull(name, "", AuthConfig(), wanted):
                pass
            image = await self._images.resolve(name, wanted)
        record = self._images.record_of(image.id)
        return BaseImage(reference=record.id, platform=record.platform, config=record.config)

    async def read(self, source: ContextSource | GitSource | HttpSource, path: str) -> bytes | None:
        """See Resolver."""
        if not isinstance(source, ContextSource):
            raise NotImplementedHere("contexts from repositories and URLs aren't supported yet")
        cancellation = Cancellation()
        stream = StreamSource(await self._around.session.context(source.name), cancellation)

        def read() -> bytes | None:
            tree = ArchiveTree.read(stream, self._scratch)
            try:
                entry = tree.entry(tree.resolve(path.encode()))
                return tree.open(entry).read() if entry is not None and entry.kind == "file" else None
            finally:
                tree.close()

        return await self._images.workers.run(read, cancellation)
