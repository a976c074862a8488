"""What a front end asks while it plans: which image a name means, and what single files of a source say."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from boxshipd.builder.executor import Executor, Surroundings, Work
from boxshipd.builder.graph import ContextSource, GitSource, HttpSource, Operation, Vertex
from boxshipd.builder.plan import BaseImage
from boxshipd.builder.progress import Reporter, Sink
from boxshipd.builder.results import Tree
from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.images import base, platform, reference
from boxshipd.images.archive.load import Loader
from boxshipd.images.lookup import find
from boxshipd.images.model import ImageConfig, Platform
from boxshipd.images.record import Record
from boxshipd.images.service import Images
from boxshipd.images.workers import Cancellation, StreamSource, Workers
from boxshipd.registry.credentials import decode_all, of_registry

if TYPE_CHECKING:
    from boxshipd.images.distribution import Distribution

_LARGEST = 8 << 20
"""Bytes of a file that is read as a whole."""


class BuildResolver:
    """Answers for one build. Use it as an asynchronous context manager: the trees that it has read from go with it.

    Args:
        images: the images there are.
        distribution: asks registries.
        executors: what carries out the operations whose files are asked for.
        workers: threads.
        around: the build's surroundings.
        pull: registries are asked even where an image of the name is here.
        sink: told of what is fetched.
    """

    def __init__(
        self,
        *,
        images: Images,
        distribution: Distribution,
        executors: Mapping[type[Operation], Executor[Any]],
        workers: Workers,
        around: Surroundings,
        pull: bool,
        sink: Sink = lambda _: None,
    ) -> None:
        self._images = images
        self._distribution = distribution
        self._executors = executors
        self._workers = workers
        self._around = around
        self._pull = pull
        self._sink = sink
        self._described: dict[tuple[str, Platform | None], asyncio.Task[BaseImage]] = {}
        self._supplied = contextlib.AsyncExitStack()
        self._trees: dict[ContextSource | GitSource | HttpSource, asyncio.Task[Tree]] = {}

    async def __aenter__(self) -> BuildResolver:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of everything that was read from. Idempotent."""
        tasks: list[asyncio.Task[Any]] = [*self._described.values(), *self._trees.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        trees, self._trees = self._trees, {}
        for tree in trees.values():
            if not tree.cancelled() and tree.exception() is None:
                await self._workers.run(tree.result().close)
        self._described.clear()
        await self._supplied.aclose()

    async def image(self, name: str, platform: Platform | None) -> BaseImage:
        """See Resolver. Asked twice, the answer is the same, whatever has happened in a registry meanwhile."""
        known = self._described.get((name, platform))
        if known is None:
            known = self._described[name, platform] = asyncio.ensure_future(self._image(name, platform))
        return await asyncio.shield(known)

    async def _image(self, name: str, wanted: Platform | None) -> BaseImage:
        if not self._asks_registry(name):
            try:
                return await self._here(name, wanted)
            except NotFound:
                # What can only be an id, or the beginning of one, no registry has.
                if _only_id(name):
                    raise
        parsed = reference.parse(name)
        account = of_registry(decode_all(self._around.registry_auth), parsed.domain)
        found, config = await self._distribution.describe(parsed, account, wanted)
        if parsed.digest:
            # Its tag is what somebody thinks of it: whoever pulls by digest doesn't move one.
            found = reference.Reference(found.domain, found.path, "", found.digest)
        return BaseImage(reference=str(found), platform=_platform(config), config=config)

    async def layout(self, name: str, platform: Platform | None) -> BaseImage:
        """See Resolver. What has come is pinned as long as the build lasts, and is no image of the daemon's."""
        asked = (f"oci-layout://{name}", platform)
        known = self._described.get(asked)
        if known is None:
            known = self._described[asked] = asyncio.ensure_future(self._layout(name, platform))
        return await asyncio.shield(known)

    async def _layout(self, name: str, wanted: Platform | None) -> BaseImage:
        cancellation = Cancellation()
        assembly = await self._supplied.enter_async_context(self._images.assembling(lambda *_: cancellation.check()))
        trust = self._images.trust
        if trust is not None:
            trust.admit_loading()
        loader = Loader(self._images.stores, assembly, platform.describe(wanted) if wanted else "", trust)
        source = StreamSource(await self._around.session.context(name), cancellation)
        # Of several platforms, this machine's comes last.
        record = (await self._workers.run(lambda: loader.load(source), cancellation))[-1].record
        return BaseImage(reference=record.id, platform=record.platform, config=record.config, layers=record.layers)

    def _asks_registry(self, name: str) -> bool:
        """Whether a registry is asked first: never for an id, nor for the embedded base image, which none has."""
        return self._pull and not _only_id(name) and reference.parse(name).tagged() != base.NAME

    async def _here(self, name: str, wanted: Platform | None) -> BaseImage:
        image = await self._images.resolve(name, platform.describe(wanted) if wanted is not None else "")
        record: Record = find(self._images.stores.catalogue, image.id)
        return BaseImage(reference=record.id, platform=record.platform, config=record.config)

    async def read(self, source: ContextSource | GitSource | HttpSource, path: str) -> bytes | None:
        """See Resolver.

        Raises:
            InvalidParameter: the file is larger than any that is read as a whole.
        """
        tree = await self._tree(source)
        return await self._workers.run(lambda: _read(tree, path))

    async def _tree(self, source: ContextSource | GitSource | HttpSource) -> Tree:
        known = self._trees.get(source)
        if known is None:
            known = self._trees[source] = asyncio.ensure_future(self._fetched(source))
        return await asyncio.shield(known)

    async def _fetched(self, source: ContextSource | GitSource | HttpSource) -> Tree:
        vertex = Vertex(op=source, name=_shown(source))
        report = Reporter(vertex, self._sink)
        report.start()
        try:
            (tree,) = await self._executors[type(source)].run(source, Work(vertex, (), self._around, report))
        except BaseException as error:
            report.complete(error=str(error))
            raise
        report.complete()
        assert isinstance(tree, Tree)
        return tree


def _read(tree: Tree, path: str) -> bytes | None:
    entry = tree.entry(tree.resolve(os.fsencode(path).strip(b"/")))
    if entry is None or entry.kind != "file":
        return None
    if entry.size > _LARGEST:
        raise InvalidParameter(f"{path} has {entry.size} bytes, more than the {_LARGEST} allowed")
    with tree.open(entry) as file:
        return file.read()


def _platform(config: ImageConfig) -> Platform:
    return Platform(config.architecture, config.os, config.variant or "", config.os_version or "")


def _only_id(name: str) -> bool:
    return name.startswith("sha256:") or reference.is_identifier(name)


def _shown(source: ContextSource | GitSource | HttpSource) -> str:
    match source:
        case ContextSource():
            return f"[internal] load {source.name}"
        case GitSource():
            return f"[internal] load git source {source.remote}"
        case HttpSource():
            return f"[internal] load {source.url}"
