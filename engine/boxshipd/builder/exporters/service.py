"""Making the outputs of a build, and telling how far they are."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from boxship.types.build_request import BuildResult

from boxshipd.builder.executor import Surroundings
from boxshipd.builder.exporters.configuration import BuiltImage
from boxshipd.builder.exporters.files import write_files
from boxshipd.builder.exporters.image import ImageMaker, Made
from boxshipd.builder.exporters.options import OutputOptions
from boxshipd.builder.exporters.step import Step, shown
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.progress import Sink
from boxshipd.builder.provenance import Provenance
from boxshipd.images.archive.save import write_archive
from boxshipd.images.attestations import attached
from boxshipd.images.lookup import Selected
from boxshipd.images.record import describe_index
from boxshipd.images.reference import Reference
from boxshipd.images.service import Images
from boxshipd.images.workers import Cancellation
from boxshipd.registry.credentials import decode_all, of_registry

if TYPE_CHECKING:
    from boxshipd.images.distribution import Distribution

_NAMES = {"image": "image", "oci": "OCI archive", "docker": "Docker archive", "local": "client directory", "tar": "tar archive"}


class Exporter:
    """Makes one build's outputs.

    Args:
        images: where images go.
        distribution: pushes them.
        around: the build's client.
        sink: who is told.
        provenance: makes statements about images, if there are to be any.
    """

    def __init__(
        self,
        images: Images,
        distribution: Distribution,
        around: Surroundings,
        sink: Sink,
        provenance: Provenance | None = None,
    ) -> None:
        self._provenance = provenance
        self._images = images
        self._distribution = distribution
        self._around = around
        self._sink = sink

    async def export(self, built: Sequence[BuiltImage], output: OutputOptions, destination: str) -> BuildResult | None:
        """Make one output.

        Args:
            built: what was built, for each platform.
            output: what is wanted.
            destination: where the client puts it, if it goes to it.

        Returns:
            The image, None where the output is no image.
        """
        with shown(f"exporting to {_NAMES[output.kind]}", self._sink) as step:
            if output.kind in ("local", "tar"):
                await self._files(built, output, destination)
                return None
            return await self._image(built, output, destination, step)

    async def _image(self, built: Sequence[BuiltImage], output: OutputOptions, destination: str, step: Step) -> BuildResult:
        stores, cancellation = self._images.stores, Cancellation()
        async with self._images.assembling(lambda *_: cancellation.check()) as assembly:
            layers = LayerSession(stores)
            try:
                maker = ImageMaker(stores, assembly, layers, cancellation.check, self._provenance)
                with step.part("exporting layers"):
                    made = await self._images.workers.run(lambda: maker.make(built, output), cancellation)
                if output.kind == "image":
                    for name in output.names:
                        with step.part(f"naming to {name}"):
                            pass
                    takes_over = bool(output.annotations.manifests)
                    await self._images.record_built(made.records, output.names, made.index, takes_over=takes_over)
                else:
                    with step.part("sending tarball"):
                        await self._send_archive(made, output, destination)
            finally:
                stores.catalogue.leave(*layers.release())
        if output.push:
            for name in output.names:
                with step.part(f"pushing {name}"):
                    await self._push(name, step)
        return _result(made, output, self._provenance)

    async def _send_archive(self, made: Made, output: OutputOptions, destination: str) -> None:
        content = self._images.stores.content
        index = None
        if made.index is not None:
            index = describe_index(made.index)
            index.attached = attached(content, index.manifests)
        first, *others = made.records
        selected = Selected(first, tuple(others), index, list(output.names), made.descriptor.annotations or {})
        async with contextlib.aclosing(self._images.workers.iterate(write_archive(content, [selected]))) as chunks:
            await self._around.session.receive(destination, chunks)

    async def _push(self, name: Reference, step: Step) -> None:
        account = of_registry(decode_all(self._around.registry_auth), name.domain)
        async with contextlib.aclosing(self._distribution.push(name.familiar_name, name.tag, account)) as messages:
            async for message in messages:
                step.pass_on(message)

    async def _files(self, built: Sequence[BuiltImage], output: OutputOptions, destination: str) -> None:
        cancellation = Cancellation()
        layers = LayerSession(self._images.stores)
        split = output.platform_split if output.platform_split is not None else len(built) > 1
        pieces = write_files(layers, built, split=split, check=cancellation.check)
        async with contextlib.aclosing(self._images.workers.iterate(pieces, cancellation)) as chunks:
            await self._around.session.receive(destination, chunks)


def _result(made: Made, output: OutputOptions, provenance: Provenance | None) -> BuildResult:
    """What programs are told of an image, as buildx writes it with ``--metadata-file``."""
    record = made.records[0]
    described = made.descriptor
    metadata: dict[str, object] = {
        "containerimage.config.digest": record.id,
        "containerimage.descriptor": described,
        "containerimage.digest": described.digest,
    }
    if len(made.records) > 1:
        # The configuration would be that of one of several.
        del metadata["containerimage.config.digest"]
    if provenance is not None:
        metadata["buildx.build.provenance"] = provenance.predicate()
    if output.names:
        metadata["image.name"] = ",".join(str(name) for name in output.names)
    return BuildResult(id=record.id, metadata=metadata)
