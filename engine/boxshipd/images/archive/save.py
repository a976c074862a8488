"""Writing images as an archive: an OCI layout and ``manifest.json`` in one, as ``docker save`` does since version 25.

Blobs are written as they came, so that an image keeps its digests; the same images give the same bytes.
Source: moby image/tarexport/save.go; OCI image specification, image-layout.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from boxshipd.images.archive.names import blob_path
from boxshipd.images.catalogue import Record
from boxshipd.images.content import LAYOUT, ContentStore
from boxshipd.images.digest import parse_digest
from boxshipd.images.model import (
    NAME_ANNOTATION,
    OCI_INDEX,
    OCI_LAYER,
    REF_ANNOTATION,
    ArchivedImage,
    Descriptor,
    Index,
    Manifest,
    Platform,
    decode,
    encode,
)
from boxshipd.images.reference import Reference
from boxshipd.images.unpack.limits import MIB

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Selection:
    """An image to be saved, and the names it is saved under."""

    record: Record
    names: tuple[Reference, ...]


def write_archive(content: ContentStore, selections: Sequence[Selection]) -> Iterator[bytes]:
    """The archive, in pieces of up to a MiB. The images' content stays pinned until the iterator is closed."""
    with content.session() as session:
        blobs = sorted({digest for selection in selections for digest in selection.record.blobs})
        for digest in blobs:
            session.claim(digest)
        yield _header("blobs/", 0, directory=True)
        for algorithm in sorted({parse_digest(digest).algorithm for digest in blobs}):
            yield _header(f"blobs/{algorithm}/", 0, directory=True)
        for digest in blobs:
            yield from _blob(content, digest)
        manifests = {selection.record.id: _manifest(content, selection.record) for selection in selections}
        yield _file("index.json", encode(_index(selections)))
        yield _file("manifest.json", encode([_archived(selection, manifests[selection.record.id]) for selection in selections]))
        yield _file("oci-layout", LAYOUT)
        if repositories := _repositories(selections):
            yield _file("repositories", encode(repositories))
        # Two empty blocks end an archive.
        yield bytes(2 * _BLOCK)


def _blob(content: ContentStore, digest: str) -> Iterator[bytes]:
    with open(content.path(digest), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        yield _header(blob_path(digest), size)
        while data := file.read(MIB):
            yield data
    if padding := -size % _BLOCK:
        yield bytes(padding)


def _index(selections: Sequence[Selection]) -> Index:
    manifests: list[Descriptor] = []
    for selection in selections:
        record = selection.record
        shown = Platform(record.config.architecture, record.config.os, record.config.variant or "")
        annotations: list[dict[str, str] | None] = [
            {NAME_ANNOTATION: str(name), REF_ANNOTATION: name.tag} for name in selection.names if name.tag
        ]
        manifests += [
            Descriptor(record.manifest.media_type, record.manifest.digest, record.manifest.size, annotation, shown)
            for annotation in annotations or [None]
        ]
    return Index(manifests, media_type=OCI_INDEX)


def _manifest(content: ContentStore, record: Record) -> Manifest:
    return decode(Manifest, content.read(record.manifest.digest), "manifest")


def _archived(selection: Selection, manifest: Manifest) -> ArchivedImage:
    layers = selection.record.layers
    sources = {
        layer.diff: Descriptor(described.media_type or OCI_LAYER, layer.blob, described.size)
        for layer, described in zip(layers, manifest.layers, strict=True)
    }
    tags = [name.familiar for name in selection.names if name.tag]
    return ArchivedImage(blob_path(selection.record.id), tags or None, [blob_path(layer.blob) for layer in layers], sources)


def _repositories(selections: Sequence[Selection]) -> dict[str, dict[str, str]]:
    """The oldest list of names, by each image's topmost layer."""
    found: dict[str, dict[str, str]] = {}
    for selection in selections:
        layers = selection.record.layers
        top = parse_digest(layers[-1].chain if layers else selection.record.id).hex
        for name in selection.names:
            if name.tag:
                found.setdefault(name.familiar_name, {})[name.tag] = top
    return found


def _file(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + bytes(-len(data) % _BLOCK)


def _header(name: str, size: int, *, directory: bool = False) -> bytes:
    """A ustar header, owned by root and as old as the epoch."""
    header = bytearray(_BLOCK)
    header[: len(name)] = name.encode()
    header[100:108] = b"0000755\0" if directory else b"0000644\0"
    header[108:116] = header[116:124] = b"0000000\0"
    # Eleven octal digits hold 8 GiB; what is larger is written in base 256.
    header[124:136] = b"%011o\0" % size if size < 8 << 30 else b"\x80" + size.to_bytes(11, "big")
    header[136:148] = b"00000000000\0"
    header[156:157] = b"5" if directory else b"0"
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\0 " % (sum(header) + 8 * 32)
    return bytes(header)
