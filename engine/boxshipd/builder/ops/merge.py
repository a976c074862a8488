"""Carries out ``Merge``: layers of several file systems, one upon the other, as ``COPY --link`` has it."""

from __future__ import annotations

import hashlib

import msgspec

from boxshipd.builder.executor import Work
from boxshipd.builder.graph import Merge
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.results import Result, Snapshot
from boxshipd.errors import InvalidParameter
from boxshipd.images.workers import Cancellation, Workers


class MergeExecutor:
    """Carries out ``Merge``.

    Args:
        layers: where file systems are.
        workers: threads.
    """

    def __init__(self, layers: LayerSession, workers: Workers) -> None:
        self._layers = layers
        self._workers = workers

    async def key(self, op: Merge, work: Work) -> str:
        """See Executor: of the upper ones only what they add matters, and so it does here."""
        first, *others = file_systems(work)
        added = [[layer.diff for layer in other.layers] for other in others]
        document = msgspec.json.encode([first.chain, added])
        return f"sha256:{hashlib.sha256(b'merge' + document).hexdigest()}"

    async def run(self, op: Merge, work: Work) -> list[Result]:
        """See Executor.

        Raises:
            HostileOrBroken: a layer can't be unpacked where it is to lie.
        """
        cancellation = Cancellation()

        def merge() -> Snapshot:
            merged, *others = file_systems(work)
            for other in others:
                for layer in other.layers:
                    cancellation.check()
                    merged = self._layers.restack(merged, layer)
            return merged

        return [await self._workers.run(merge, cancellation)]


def file_systems(work: Work) -> list[Snapshot]:
    """The inputs, all of which must be file systems.

    Raises:
        InvalidParameter: one isn't.
    """
    found = [each for each in work.inputs if isinstance(each, Snapshot)]
    if len(found) != len(work.inputs) or not found:
        raise InvalidParameter("only file systems have layers")
    return found
