"""Reading images out of an archive: an OCI layout, what ``docker save`` writes, or both in one.

Where an archive has both, the OCI index says which images there are, since it alone has their manifests, and ``manifest.json``
adds names. Source: OCI image specification, image-layout.md; moby image/tarexport/load.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.images import platform, reference
from boxshipd.images.archive.names import blob_path, digest_of_path
from boxshipd.images.archive.preparation import Preparation
from boxshipd.images.archive.spool import Spool
from boxshipd.images.assembly import Assembly, Stores
from boxshipd.images.blob import Blob
from boxshipd.images.catalogue import Record
from boxshipd.images.digest import parse_digest, sha256
from boxshipd.images.errors import DigestMismatch
from boxshipd.images.model import (
    CONFIG_TYPES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    NAME_ANNOTATION,
    REF_ANNOTATION,
    ArchivedImage,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    decode,
)
from boxshipd.images.reference import Reference
from boxshipd.images.unpack.compression import Source

if TYPE_CHECKING:
    # Not loaded where there is no policy.
    from boxshipd.trust.verifier import Trust

_MAX_NESTING = 4
_MAX_MANIFESTS = 1000


@dataclass(slots=True)
class _Found:
    """An image in an archive, before its layers have been looked at."""

    config: bytes
    layers: list[tuple[str, str]]
    """Path in the archive and expected digest ("" if not known) of each."""
    manifest: bytes | None = None
    index: bytes | None = None
    """The index that lists it, where that is what the names mean."""
    names: list[Reference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image taken in, the names its archive gives it, and the index that these mean, if they do."""

    record: Record
    names: list[Reference]
    index: bytes | None = None


class Loader:
    """Loads one archive, on a worker's thread."""

    def __init__(self, stores: Stores, assembly: Assembly, wanted: str = "", trust: Trust | None = None) -> None:
        self._trust = trust
        self._stores = stores
        self._assembly = assembly
        self._wanted: Platform | None = platform.parse(wanted) if wanted else None

    def load(self, source: Source) -> list[Loaded]:
        """Take in every image of the archive.

        Raises:
            InvalidParameter: it is no archive of images, or a hostile one.
            Untrusted: the signature policy doesn't let such an archive in.
        """
        with (
            Preparation(self._stores, self._assembly) as preparation,
            Spool(self._stores.content, self._assembly.session, self._stores.limits, preparation) as spool,
        ):
            spool.fill(source)
            self._admit(spool)
            found = _merge([*self._from_index(spool), *self._of_platform(_from_docker(spool))])
            if not found:
                raise InvalidParameter("archive has no images: it has neither a manifest.json nor an index.json that lists one")
            return [self._assemble(spool, image) for image in found]

    def _admit(self, spool: Spool) -> None:
        """Ask the signature policy: an archive in two forms must be let in as either, since it has images as either."""
        if self._trust is not None and "index.json" in spool:
            self._trust.admit_oci_archive()
        if self._trust is not None and "manifest.json" in spool:
            self._trust.admit_docker_archive()

    def _of_platform(self, images: Iterator[_Found]) -> list[_Found]:
        """The images of the wanted platform, if one is wanted.

        Raises:
            NotFound: there are only others.
        """
        everything = list(images)
        if self._wanted is None or not everything:
            return everything
        offered = [_platform_in(image.config) for image in everything]
        matching = [image for image, place in zip(everything, offered, strict=True) if platform.matches(self._wanted, place)]
        if not matching:
            others = ", ".join(sorted({platform.describe(place) for place in offered}))
            raise NotFound(f"requested platform ({platform.describe(self._wanted)}) not found: the archive has {others}")
        return matching

    def _assemble(self, spool: Spool, image: _Found) -> Loaded:
        blobs = [self._blob(spool, path, digest) for path, digest in image.layers]
        return Loaded(self._assembly.image(image.config, blobs, image.manifest), image.names, image.index)

    def _blob(self, spool: Spool, path: str, digest: str) -> Blob:
        """A layer's blob: from the archive, or one that is here already."""
        if path in spool:
            return spool.commit(path, digest)
        if digest and self._assembly.session.claim(digest):
            return Blob(digest, self._stores.content.size(digest))
        raise InvalidParameter(f"archive of images has no layer {path}")

    def _from_index(self, spool: Spool) -> Iterator[_Found]:
        if "index.json" not in spool:
            return
        index = decode(Index, spool.document("index.json"), "index.json")
        for descriptor in index.manifests[:_MAX_MANIFESTS]:
            usable = self._usable(spool, list(self._manifests(spool, descriptor, 0)))
            if not usable and self._wanted is not None:
                raise NotFound(f"requested platform ({platform.describe(self._wanted)}) not found in {descriptor.digest}")
            if not usable:
                raise InvalidParameter(f"archive of images has no image of a usable platform for {descriptor.digest}")
            listing = self._listing(spool, descriptor)
            names = _annotated_names(descriptor.annotations)
            for found, data, manifest in usable:
                layers = [(blob_path(layer.digest), layer.digest) for layer in manifest.layers]
                kept = listing[0] if listing and found.digest in listing[1] else None
                yield _Found(self._document(spool, manifest.config), layers, data, kept, list(names))

    def _listing(self, spool: Spool, descriptor: Descriptor) -> tuple[bytes, set[str]] | None:
        """An index, and the digests of what it lists itself; None for a manifest."""
        if descriptor.media_type not in INDEX_TYPES:
            return None
        data = self._document(spool, descriptor)
        return data, {below.digest for below in decode(Index, data, "index").manifests}

    def _manifests(self, spool: Spool, descriptor: Descriptor, depth: int) -> Iterator[tuple[Descriptor, bytes]]:
        """The manifests below a descriptor that the archive has."""
        if depth > _MAX_NESTING:
            raise InvalidParameter(f"archive of images nests indexes more than {_MAX_NESTING} deep")
        if blob_path(descriptor.digest) not in spool:
            return
        data = self._document(spool, descriptor)
        if descriptor.media_type in INDEX_TYPES:
            for below in decode(Index, data, "index").manifests[:_MAX_MANIFESTS]:
                yield from self._manifests(spool, below, depth + 1)
        elif descriptor.media_type in MANIFEST_TYPES:
            yield descriptor, data

    def _usable(self, spool: Spool, candidates: list[tuple[Descriptor, bytes]]) -> list[tuple[Descriptor, bytes, Manifest]]:
        """The images that are there as a whole and for a platform that is wanted, this machine's last.

        Where an image has a name, that is what it means if it means only one.
        """
        usable: list[tuple[int, Descriptor, bytes, Manifest]] = []
        for descriptor, data in candidates:
            manifest = decode(Manifest, data, "manifest")
            if manifest.config.media_type not in CONFIG_TYPES or not self._complete(spool, manifest):
                continue
            offered = descriptor.platform or self._platform_of(spool, manifest)
            if offered.os == "unknown":
                # An attestation: it describes an image, and can't be run.
                continue
            if self._wanted is not None and not platform.matches(self._wanted, offered):
                continue
            usable.append((1 if platform.matches(platform.host(), offered) else 0, descriptor, data, manifest))
        usable.sort(key=lambda choice: choice[0])
        return [(descriptor, data, manifest) for _, descriptor, data, manifest in usable]

    def _complete(self, spool: Spool, manifest: Manifest) -> bool:
        digests = [manifest.config.digest, *(layer.digest for layer in manifest.layers)]
        return all(blob_path(digest) in spool or self._assembly.session.claim(digest) for digest in digests)

    def _platform_of(self, spool: Spool, manifest: Manifest) -> Platform:
        return _platform_in(self._document(spool, manifest.config))

    def _document(self, spool: Spool, descriptor: Descriptor) -> bytes:
        """A manifest, an index or a configuration, verified."""
        path = blob_path(descriptor.digest)
        data = spool.document(path) if path in spool else self._stores.content.read(descriptor.digest)
        if parse_digest(descriptor.digest).algorithm != "sha256":
            raise InvalidParameter(f"unsupported digest of a {descriptor.media_type}: {descriptor.digest}")
        if sha256(data) != descriptor.digest:
            raise DigestMismatch(f"content has digest {sha256(data)}, not {descriptor.digest} as announced")
        return data


def _platform_in(document: bytes) -> Platform:
    config = decode(ImageConfig, document, "image configuration")
    return Platform(config.architecture, config.os, config.variant or "")


def _from_docker(spool: Spool) -> Iterator[_Found]:
    """The images that ``manifest.json`` lists."""
    if "manifest.json" not in spool:
        return
    for image in decode(list[ArchivedImage], spool.document("manifest.json"), "manifest.json")[:_MAX_MANIFESTS]:
        layers = [(path, digest_of_path(path)) for path in image.layers or ()]
        yield _Found(
            spool.document(image.config), layers, None, None, [reference.parse(name).tagged() for name in image.repo_tags or ()]
        )


def _merge(images: list[_Found]) -> list[_Found]:
    """Each image once, under all the names it has in the archive."""
    merged: dict[str, _Found] = {}
    for image in images:
        first = merged.setdefault(sha256(image.config), image)
        first.names.extend(name for name in image.names if name not in first.names)
    return list(merged.values())


def _annotated_names(annotations: dict[str, str] | None) -> list[Reference]:
    """An image's name by its annotations; a reference name that is a mere tag names nothing."""
    annotations = annotations or {}
    name = annotations.get(NAME_ANNOTATION)
    if not name:
        name = annotations.get(REF_ANNOTATION, "")
        if ":" not in name and "/" not in name:
            return []
    return [reference.parse(name).tagged()]
