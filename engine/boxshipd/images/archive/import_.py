"""Making an image of one layer out of a root file system's archive, as ``docker import`` does.

Source: moby daemon/images/image_import.go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from boxship.types.containers import ContainerConfig
from msgspec import UNSET

from boxshipd.images.assembly import Assembly, Stores
from boxshipd.images.catalogue import Record
from boxshipd.images.content import BlobWriter
from boxshipd.images.layer_compressor import LayerCompressor
from boxshipd.images.model import History, ImageConfig, Platform, RootFS, encode
from boxshipd.images.unpack.compression import CHUNK, Prepended, Source, decompressed, detect

_KEPT = ("gzip", "zstd")


class _Tee:
    """A source that writes what is read from it into a blob."""

    def __init__(self, source: Source, writer: BlobWriter) -> None:
        self._source = source
        self._writer = writer

    def read(self, size: int, /) -> bytes:
        """As the source's."""
        data = self._source.read(size)
        self._writer.write(data)
        return data


class Importer:
    """Imports one archive.

    Made on the event loop, so that wrong changes are refused before anything is read; used on a thread.
    """

    def __init__(self, stores: Stores, assembly: Assembly, platform: Platform, changes: Sequence[str]) -> None:
        self._stores = stores
        self._assembly = assembly
        self._platform = platform
        # Not loaded where nothing is changed: it reads Dockerfiles.
        from boxshipd.images.changes import apply_changes

        self._config = apply_changes(ContainerConfig(), changes)

    def make(self, source: Source, message: str) -> Record:
        """Take the archive in and make the image.

        Args:
            source: the archive, compressed or not.
            message: a comment for the image's history.

        Raises:
            HostileOrBroken: it isn't an archive that can be unpacked.
        """
        head = b""
        while len(head) < 6 and (more := source.read(CHUNK)):
            head += more
        source = Prepended(head, source)
        with self._stores.content.writer() as writer:
            diff_id = self._keep(source, writer) if detect(head) in _KEPT else self._compress(source, writer)
            blob = self._assembly.session.commit(writer)
        created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        comment = message or "Imported from -"
        config = ImageConfig(
            rootfs=RootFS([diff_id]),
            architecture=self._platform.architecture,
            os=self._platform.os,
            variant=self._platform.variant or UNSET,
            created=created,
            comment=comment,
            config=self._config,
            history=[History(created=created, comment=comment)],
        )
        return self._assembly.image(encode(config), [blob])

    def _keep(self, source: Source, writer: BlobWriter) -> str:
        """Keep a compressed archive as it came."""
        tee = _Tee(source, writer)
        _, plain = decompressed(tee, self._stores.limits)
        checksum = hashlib.sha256()
        while data := plain.read(CHUNK):
            checksum.update(data)
        # What follows the compressed stream is not part of the archive, but all of it must be read.
        while source.read(CHUNK):
            pass
        return f"sha256:{checksum.hexdigest()}"

    def _compress(self, source: Source, writer: BlobWriter) -> str:
        """Compress an archive that came plain, or in a way that registries don't know."""
        _, plain = decompressed(source, self._stores.limits)
        with LayerCompressor(writer) as archive:
            while data := plain.read(CHUNK):
                archive.write(data)
            return archive.finish()
