"""A build's cache as a directory of the client's: an OCI layout, which goes to the client and comes from it as an archive.

Source: OCI image specification, image-layout.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from boxshipd.builder.cache.document import CACHE_TYPE, CacheDocument, read
from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.images.archive.save import written
from boxshipd.images.content import LAYOUT, ContentStore, Session
from boxshipd.images.errors import InvalidArchive, LimitExceeded
from boxshipd.images.model import DOCUMENT_LIMIT, OCI_INDEX, Descriptor, Index, Manifest, decode, encode
from boxshipd.images.unpack.apply import clean
from boxshipd.images.unpack.compression import Source
from boxshipd.images.unpack.limits import Limits
from boxshipd.images.unpack.tar import FILE, TarReader

_BLOBS = b"blobs/sha256/"


def write(content: ContentStore, session: Session, manifest: bytes, media_type: str) -> Iterator[bytes]:
    """The archive of a cache's manifest and all that it lists.

    Args:
        content: has the blobs.
        session: pins the manifest, and has pinned the others.
        manifest: the manifest.
        media_type: its media type.
    """
    blob = session.put(manifest)
    listed = decode(Manifest, manifest, "manifest")
    index = Index([Descriptor(media_type, blob.digest, blob.size)], media_type=OCI_INDEX)
    digests = sorted({blob.digest, listed.config.digest, *(layer.digest for layer in listed.layers)})
    files = {"oci-layout": LAYOUT, "index.json": encode(index)}
    yield from written(content, digests, files)


class Layout:
    """Such a directory, as it comes: its blobs go to the content store, where ``session`` pins them.

    Args:
        content: the content store.
        session: pins what comes.
    """

    def __init__(self, content: ContentStore, session: Session) -> None:
        self._content = content
        self._session = session
        self._index = b""
        self._sizes: dict[str, int] = {}

    def fill(self, source: Source, limits: Limits) -> None:
        """Read the archive to its end. Blocks.

        Raises:
            HostileOrBroken: it isn't an archive that can be used, or a blob isn't what its name says.
        """
        reader = TarReader(source, limits)
        for entry in reader:
            if reader.entries > limits.members:
                raise LimitExceeded(f"build cache has more than {limits.members} files")
            name = clean(entry.name)
            if entry.kind != FILE or entry.sparse is not None:
                continue
            if name == b"index.json":
                self._index = reader.read_data(DOCUMENT_LIMIT)
            elif name.startswith(_BLOBS):
                digest = f"sha256:{name.removeprefix(_BLOBS).decode('ascii', 'replace')}"
                with self._content.writer() as writer:
                    for piece in reader.data():
                        writer.write(piece)
                    self._session.commit(writer, digest)
                self._sizes[digest] = entry.size

    def document(self) -> CacheDocument:
        """What it says.

        Raises:
            InvalidParameter: it isn't a build's cache.
        """
        if not self._index:
            raise InvalidArchive("build cache has no index.json")
        for descriptor in decode(Index, self._index, "index").manifests:
            manifest = decode(Manifest, self._read(descriptor.digest), "manifest")
            if manifest.config.media_type == CACHE_TYPE:
                return read(self._read(manifest.config.digest))
        raise InvalidParameter("the directory has no build cache that can be used")

    async def bring(self, session: Session, digest: str, size: int) -> None:
        """See LayerSource: what there is has come already.

        Raises:
            NotFound: it wasn't in the directory.
        """
        raise NotFound(f"build cache has no blob {digest}")

    def _read(self, digest: str) -> bytes:
        if self._sizes.get(digest, DOCUMENT_LIMIT + 1) > DOCUMENT_LIMIT:
            raise InvalidParameter(f"build cache has no document {digest}")
        return self._content.read(digest)
