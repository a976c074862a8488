"""FROM and ``COPY --from``: images, those that are here and those of registries."""

from __future__ import annotations

import hashlib
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from boxship.types.images import ProgressMessage
from msgspec import UNSET

from boxshipd.builder.executor import Work
from boxshipd.builder.graph import ImageSource
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.progress import Reporter
from boxshipd.builder.results import Result, Snapshot
from boxshipd.errors import InternalError, NotFound
from boxshipd.images import lookup, platform, reference
from boxshipd.images.record import Record
from boxshipd.images.service import Images
from boxshipd.registry.credentials import decode_all, of_registry

if TYPE_CHECKING:
    from boxshipd.images.distribution import Distribution

_ATTEMPTS = 3
_DONE = frozenset({"Pull complete", "Already exists"})


class ImageExecutor:
    """Carries out ``ImageSource``.

    Args:
        images: the images there are.
        distribution: pulls others.
        layers: pins what is used.
    """

    def __init__(self, images: Images, distribution: Distribution, layers: LayerSession) -> None:
        self._images = images
        self._distribution = distribution
        self._layers = layers

    async def key(self, op: ImageSource, work: Work) -> str:
        """See Executor: an image's digest says what it is, whatever its name was."""
        digest = op.reference.rpartition("@")[2]
        named = f"image {digest} {platform.describe(op.platform)}"
        return f"sha256:{hashlib.sha256(named.encode()).hexdigest()}"

    async def run(self, op: ImageSource, work: Work) -> list[Result]:
        """See Executor.

        Raises:
            NotFound: there is no such image, here or in its registry.
            DaemonError: as pulling it has it.
        """
        if op.layers:
            return [self._kept(op)]
        for _ in range(_ATTEMPTS):
            record = self._find(op)
            if record is None:
                await self._pull(op, work)
                record = self._find(op)
            if record is not None:
                snapshot = Snapshot(record.layers)
                if self._layers.pin(snapshot):
                    return [snapshot]
            # It was removed just now.
        raise InternalError(f"image {op.reference} was removed while it was being used, {_ATTEMPTS} times")

    def _kept(self, op: ImageSource) -> Snapshot:
        """The file system of an image that the client supplied, and the build keeps."""
        snapshot = Snapshot(op.layers)
        if not self._layers.pin(snapshot):
            raise InternalError(f"image {op.reference} was let go of while it was being used")
        return snapshot

    def _find(self, op: ImageSource) -> Record | None:
        """The image, if it is here."""
        try:
            return lookup.find(self._images.stores.catalogue, op.reference, op.platform)
        except NotFound:
            return None

    async def _pull(self, op: ImageSource, work: Work) -> None:
        """Bring the image in.

        Raises:
            NotFound: it is called by its id, so that no registry has it.
        """
        if "@" not in op.reference:
            raise NotFound(f"No such image: {op.reference}")
        name = reference.parse(op.reference)
        account = of_registry(decode_all(work.around.registry_auth), name.domain)
        shown = _Shown(work.report)
        async with aclosing(
            self._distribution.pull(op.reference, "", account, wanted=platform.describe(op.platform))
        ) as messages:
            async for message in messages:
                shown.tell(message)
        if name.tag:
            # It was asked for by a tag, which means it from now on, as after any pull.
            await self._images.tag(f"{name.name}@{name.digest}", name.name, name.tag)


class _Shown:
    """A pull's messages as the vertex's progress: of each layer, what has come of it."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._begun: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def tell(self, message: ProgressMessage) -> None:
        """Pass one on."""
        layer = message.id if isinstance(message.id, str) else ""
        action = message.status if isinstance(message.status, str) else ""
        if not layer or action.startswith("Pulling from"):
            return
        now = time.time_ns()
        begun = self._begun.setdefault(layer, now)
        if action in _DONE:
            size = self._sizes.get(layer, 0)
            self._report.status(layer, size, size, started=begun, completed=now)
            return
        detail = message.progress_detail
        current, total = 0, 0
        if detail is not UNSET and detail is not None:
            current, total = detail.current or 0, detail.total or 0
        self._sizes[layer] = max(self._sizes.get(layer, 0), total)
        part = f"extracting {layer}" if action == "Extracting" else layer
        if action == "Extracting" and current >= total > 0:
            self._report.status(part, current, total, started=begun, completed=now)
        else:
            self._report.status(part, current, total, started=begun)
