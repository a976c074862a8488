"""A solver with a real cache over a store in a temporary directory, and executors whose work tests hold up and look at."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
from boxrun.container.spec import Resources
from boxship.types.build import BuildProgress
from boxshipd.builder.cache import service as cache_service
from boxshipd.builder.cache.pruning import PruneOptions
from boxshipd.builder.executor import Surroundings, Work
from boxshipd.builder.graph import ContextSource, Exec, Files, Graph, Input, Vertex
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.results import Entry, Result, Snapshot, Tree
from boxshipd.builder.solver.solver import Solver
from boxshipd.errors import NotFound
from boxshipd.images.service import Images
from boxshipd.scheduler.jobs import Scheduler
from boxshipd.state.store import Store

from support.archives import files


class NoClient:
    """A client that supplies nothing."""

    async def context(self, name: str) -> AsyncIterator[bytes]:
        raise NotFound(f"no context {name}")

    async def secret(self, secret_id: str) -> bytes:
        raise NotFound(f"no secret {secret_id}")

    async def agent(self, agent_id: str) -> int:
        raise NotFound(f"no agent {agent_id}")

    async def receive(self, destination: str, chunks: AsyncIterator[bytes]) -> None:
        raise NotFound(f"nowhere to put {destination}")


AROUND = Surroundings(NoClient(), Resources())


class OneFile(Tree):
    """A tree of a single file; it knows whether it was closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = 0

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.name.encode()).hexdigest()

    def entry(self, path: bytes) -> Entry | None:
        return Entry(path=path, kind="file", mode=0o644) if path == self.name.encode() else None

    def children(self, path: bytes) -> Iterable[Entry]:
        return [Entry(path=self.name.encode(), kind="file", mode=0o644)] if not path else []

    def open(self, entry: Entry) -> BinaryIO:
        raise NotImplementedError

    def checksum(self, entry: Entry) -> str:
        return self.digest

    def resolve(self, path: bytes) -> bytes:
        return path

    def directory(self) -> AbstractContextManager[str]:
        raise NotImplementedError

    def close(self) -> None:
        self.closed += 1


def content(result: Result) -> str:
    return result.chain if isinstance(result, Snapshot) else result.digest


def key_of(op: object, inputs: Iterable[Result]) -> str:
    text = msgspec.json.encode([op, [content(each) for each in inputs]], order="deterministic")
    return "sha256:" + hashlib.sha256(text).hexdigest()


class Contexts:
    """Makes trees, and never lets them be cached."""

    def __init__(self) -> None:
        self.made: list[OneFile] = []

    async def key(self, op: ContextSource, work: Work) -> str:
        return ""

    async def run(self, op: ContextSource, work: Work) -> list[Result]:
        self.made.append(OneFile(op.name))
        return [self.made[-1]]


class Layers:
    """Carries out ``Files`` and ``Exec``: a new layer with a file that is named after the operation.

    An ``Exec`` tells when it has begun, and goes on when it is let go of, where it was held up. ``fail`` as its argument makes
    it fail, ``say`` makes it print.
    """

    def __init__(self, images: Images, root: Path) -> None:
        self._images = images
        self.root = root
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.keys: list[str] = []
        self._held: dict[str, asyncio.Event] = {}
        self._seen: dict[str, asyncio.Event] = {}

    def hold(self, *names: str) -> None:
        for name in names:
            self._held[name] = asyncio.Event()

    def let_go(self, *names: str) -> None:
        for name in names:
            self._held.pop(name).set()

    async def begins(self, *names: str) -> None:
        for name in names:
            await self._seen.setdefault(name, asyncio.Event()).wait()

    async def key(self, op: Exec | Files, work: Work) -> str:
        self.keys.append(_name(op))
        return "" if "uncached" in _name(op) else key_of(op, work.inputs)

    async def run(self, op: Exec | Files, work: Work) -> list[Result]:
        name = _name(op)
        self.begun.append(name)
        self._seen.setdefault(name, asyncio.Event()).set()
        try:
            if "say" in name:
                work.report.log(1, name.encode())
            if name in self._held:
                await self._held[name].wait()
            if "fail" in name:
                raise NotFound(f"{name} has failed")
            below = next((each for each in work.inputs if isinstance(each, Snapshot)), Snapshot())
            return [await self._images.workers.run(lambda: self._make(below, name))]
        finally:
            self.ended.append(name)

    def _make(self, below: Snapshot, name: str) -> Snapshot:
        with LayerSession(self._images.stores) as session:
            return session.from_archive(below, iter([files(**{name: name.encode() * 100})]))


def _name(op: Exec | Files) -> str:
    return op.args[0] if isinstance(op, Exec) else op.actions[0].path


class Builder:
    """A solver and everything below it."""

    def __init__(self, root: Path, store: Store, images: Images, cache: cache_service.BuildCache) -> None:
        self.root = root
        self.store = store
        self.images = images
        self.cache = cache
        self.contexts = Contexts()
        self.layers = Layers(images, root)
        self.scheduler = Scheduler()
        executors = {ContextSource: self.contexts, Exec: self.layers, Files: self.layers}
        self.solver = Solver(executors, cache, self.scheduler, images.workers)
        self.told: list[BuildProgress] = []

    async def run(self, graph: Graph, *wanted: Input, around: Surroundings = AROUND) -> list[Result]:
        """Solve and let go at once; the results."""
        async with self.solver.solve(graph, wanted, around, self.told.append) as results:
            return results

    def on_disk(self) -> tuple[set[str], set[str]]:
        """The blobs and snapshots there are."""
        return (
            set(os.listdir(self.root / "content/blobs/sha256")),
            set(os.listdir(self.root / "snapshots")),
        )

    def settled_vertices(self) -> dict[str, tuple[bool, str]]:
        """By name: whether each came from the cache, and its error, as was told last."""
        return {each.name: (each.cached, each.error) for told in self.told for each in told.vertices if each.completed}


@asynccontextmanager
async def builder(root: Path, rules: Iterable[PruneOptions] = ()) -> AsyncIterator[Builder]:
    """Open everything below a directory, and close it as the daemon does."""
    with Store.open(str(root / "state.db")) as store:
        images = await Images.open(
            str(root), store, publish=lambda *_: None, uses=lambda _: (), kept=await cache_service.kept(store)
        )
        with contextlib.closing(images):
            cache = await cache_service.BuildCache.open(images, store, str(root), list(rules))
            try:
                yield Builder(root, store, images, cache)
            finally:
                await cache.close()


def step(graph: Graph, name: str, *inputs: Input, **fields: object) -> Input:
    """A vertex that runs a command which is only a name."""
    return graph.add(Vertex(op=Exec(args=(name,), scratch=not inputs), inputs=inputs, name=name, **fields))


def context(graph: Graph, name: str = "context") -> Input:
    return graph.add(Vertex(op=ContextSource(name=name), name=f"context {name}"))


async def until(condition: Callable[[], bool]) -> None:
    """Let others go on until something is so."""
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to be so")
