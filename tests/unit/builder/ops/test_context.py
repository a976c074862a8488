"""Contexts that arrive from a client."""

import asyncio
import gzip
import os

import pytest
from boxrun.container.spec import Resources
from boxship.types.build import BuildProgress
from boxshipd.builder.executor import Surroundings, Work
from boxshipd.builder.graph import ContextSource, Vertex
from boxshipd.builder.ops.context import ContextExecutor
from boxshipd.builder.progress import Reporter
from boxshipd.errors import NotFound
from boxshipd.images.errors import InvalidArchive
from boxshipd.images.workers import Workers
from support.archives import member, tar
from support.build_files import NoSession


class Client(NoSession):
    """A client with one context, and a way to see how far it got."""

    def __init__(self, *pieces: bytes, endless: bool = False) -> None:
        self.pieces = pieces
        self.endless = endless
        self.waiting = asyncio.Event()

    async def context(self, name: str):
        if name != "context":
            raise NotFound(f"no context {name}")
        return self._send()

    async def _send(self):
        for piece in self.pieces:
            yield piece
        if self.endless:
            self.waiting.set()
            await asyncio.Event().wait()


@pytest.fixture
def carry_out(tmp_path):
    told: list[BuildProgress] = []

    async def carry_out(client, op=None):
        op = op or ContextSource()
        vertex = Vertex(op=op)
        work = Work(vertex, (), Surroundings(client, Resources()), Reporter(vertex, told.append))
        with Workers() as workers:
            executor = ContextExecutor(workers, str(tmp_path))
            assert await executor.key(op, work) == ""
            (tree,) = await executor.run(op, work)
            return tree

    carry_out.told = told
    yield carry_out
    assert not os.listdir(tmp_path)


async def test_a_context_in_pieces(carry_out):
    data = gzip.compress(tar((member("a"), b"a" * 10_000), (member("b.log"), b"")))
    tree = await carry_out(Client(data[:10], data[10:50], data[50:]), ContextSource(exclude=("*.log",)))
    assert tree.entry(b"a").size == 10_000
    assert tree.entry(b"b.log") is None
    tree.close()
    (last,) = carry_out.told[-1].statuses
    assert (last.id, last.current, last.total) == ("transferring context", len(data), len(data))
    assert last.completed >= last.started > 0


async def test_a_context_that_isnt_there(carry_out):
    with pytest.raises(NotFound):
        await carry_out(Client(), ContextSource(name="other"))


async def test_a_context_that_is_broken(carry_out):
    with pytest.raises(InvalidArchive):
        await carry_out(Client(b"x" * 10_000))


async def test_a_context_that_never_ends_is_given_up(carry_out):
    client = Client(tar((member("a"), b"a"))[:1024], endless=True)
    task = asyncio.create_task(carry_out(client))
    await asyncio.wait_for(client.waiting.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
