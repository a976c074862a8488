"""Carries out ``ContextSource``: the files that the client supplies, indexed while they arrive."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator

from boxshipd.builder.dockerfile.ignore import Matcher
from boxshipd.builder.executor import Work
from boxshipd.builder.graph import ContextSource
from boxshipd.builder.progress import Reporter
from boxshipd.builder.results import Result
from boxshipd.builder.trees.archive import ArchiveTree
from boxshipd.errors import InternalError
from boxshipd.images.unpack.limits import DEFAULT_LIMITS, Limits
from boxshipd.images.workers import Cancellation, StreamSource, Workers

# Seconds between two reports of how much has come.
_REPORTED = 0.1


class ContextExecutor:
    """Carries out ``ContextSource``.

    Args:
        workers: threads.
        scratch: a directory of the daemon's, which contexts are kept in.
        limits: what a context may take.
    """

    def __init__(self, workers: Workers, scratch: str, limits: Limits = DEFAULT_LIMITS) -> None:
        self._workers = workers
        self._scratch = scratch
        self._limits = limits

    async def key(self, op: ContextSource, work: Work) -> str:
        """See Executor: what the client sends can't be known without it."""
        return ""

    async def run(self, op: ContextSource, work: Work) -> list[Result]:
        """See Executor. All of a context that is read is noted in ``Surroundings.contexts``, as long as its tree is open.

        Raises:
            NotFound: the client has no such context.
            HostileOrBroken: it isn't an archive that can be used.
        """
        contexts = work.around.contexts
        known = contexts.get(op.name)
        if known is not None and known.is_open:
            return [await self._workers.run(lambda: known.without(Matcher(op.exclude)))]
        tree = await self._read(op, work)
        if not op.exclude:
            contexts[op.name] = tree
        return [tree]

    async def _read(self, op: ContextSource, work: Work) -> ArchiveTree:
        chunks = await work.around.session.context(op.name)
        cancellation = Cancellation()
        made: list[ArchiveTree] = []
        try:
            source = StreamSource(_reported(chunks, op.name, work.report), cancellation)
            exclude = Matcher(op.exclude) if op.exclude else None

            def read() -> None:
                made.append(
                    ArchiveTree.read(source, self._scratch, exclude=exclude, limits=self._limits, check=cancellation.check)
                )

            # On a thread of its own: a client that sends slowly, or not at all, takes none of those that others wait for.
            with Workers(1, "context") as reading:
                await reading.run(read, cancellation)
        except OSError as error:
            raise InternalError(f"keep build context {op.name}: {os.strerror(error.errno or 0)}") from error
        except BaseException:
            for tree in made:
                tree.close()
            raise
        return made[0]


async def _reported(chunks: AsyncIterator[bytes], name: str, report: Reporter) -> AsyncIterator[bytes]:
    """The same chunks, and how far they have come as progress."""
    part = "transferring context" if name == "context" else f"transferring {name}"
    started = time.time_ns()
    count = 0
    told = 0.0
    report.status(part, started=started)
    async for chunk in chunks:
        count += len(chunk)
        if time.monotonic() - told > _REPORTED:
            told = time.monotonic()
            report.status(part, count, started=started)
        yield chunk
    report.status(part, count, count, started=started, completed=time.time_ns())
