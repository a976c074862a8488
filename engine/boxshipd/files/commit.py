"""Making an image of a container. Source: moby daemon/commit.go, daemon/images/image_commit.go."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain

from boxship.types.containers import ContainerConfig
from msgspec import UNSET, Struct
from msgspec.structs import replace

from boxshipd.containers.model import Container
from boxshipd.files.ids import Owners
from boxshipd.files.layer import write_layer
from boxshipd.files.pack import batched
from boxshipd.images.assembly import Assembly, Stores
from boxshipd.images.blob import Blob
from boxshipd.images.catalogue import Record
from boxshipd.images.layer_compressor import LayerCompressor
from boxshipd.images.model import History, ImageConfig, RootFS, encode
from boxshipd.images.workers import Cancellation


class CommitOptions(Struct, frozen=True, kw_only=True):
    """What a commit is told. ``config`` replaces the container's, ``changes`` are Dockerfile instructions applied to it."""

    repo: str = ""
    tag: str = ""
    comment: str = ""
    author: str = ""
    pause: bool = True
    config: ContainerConfig | None = None
    changes: tuple[str, ...] = ()


class Commit:
    """One commit, done on a thread.

    Args:
        container: what an image is made of.
        parent: the image it was made of.
        config: the new image's configuration.
        options: the request.
        layers: the directories below the container's own, topmost first.
    """

    def __init__(
        self,
        container: Container,
        parent: Record,
        config: ContainerConfig,
        options: CommitOptions,
        *,
        layers: Sequence[str],
    ) -> None:
        self._container = container
        self._parent = parent
        self._config = config
        self._options = options
        self._layers = layers

    def make(self, stores: Stores, assembly: Assembly, cancellation: Cancellation) -> Record:
        """Write the layer and the image; nothing of it counts before the catalogue has the result."""
        blobs = []
        for layer in self._parent.layers:
            assembly.session.claim(layer.blob)
            blobs.append(Blob(layer.blob, stores.content.size(layer.blob)))
        diffs = [layer.diff for layer in self._parent.layers]
        # On the disk owners are as the container sees them, whatever user namespace it has.
        members = write_layer(f"{self._container.directory}/upper", self._layers, Owners(), cancellation.check)
        first = next(members, None)
        if first is not None:
            with stores.content.writer() as writer, LayerCompressor(writer) as archive:
                for piece in batched(chain((first,), members)):
                    archive.write(piece)
                diffs.append(archive.finish())
                blobs.append(assembly.session.commit(writer))
        made = assembly.image(encode(self._image(diffs, empty=first is None)), blobs)
        return dataclasses.replace(made, parent=self._parent.id)

    def _image(self, diffs: list[str], *, empty: bool) -> ImageConfig:
        options, parent = self._options, self._parent.config
        created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        cmd = self._container.config.config.cmd or []
        step = History(
            created=created,
            created_by=cmd if isinstance(cmd, str) else " ".join(cmd),
            author=options.author,
            comment=options.comment,
            empty_layer=empty,
        )
        return replace(
            parent,
            rootfs=RootFS(diffs),
            created=created,
            author=options.author or UNSET,
            comment=options.comment or UNSET,
            docker_version=UNSET,
            config=self._config,
            history=[*(parent.history or ()), step],
        )
