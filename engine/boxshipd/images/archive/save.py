"""Writing images as an archive: an OCI layout and ``manifest.json`` in one, as ``docker save`` does since version 25.

Blobs are written as they came, so that an image keeps its digests; the same images give the same bytes. A name that means an
index is written with it and with all its platforms that are here; the index itself may list more.
Source: moby image/tarexport/save.go; OCI image specification, image-layout.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from boxshipd.images.archive.names import blob_path
from boxshipd.images.catalogue import Record
from boxshipd.images.content import LAYOUT, ContentStore
from boxshipd.images.digest import parse_digest
from boxshipd.images.lookup import Selected
from boxshipd.images.model import (
    NAME_ANNOTATION,
    OCI_INDEX,
    OCI_LAYER,
    REF_ANNOTATION,
    ArchivedImage,
    Descriptor,
    Index,
    Manifest,
    decode,
    encode,
)
from boxshipd.images.reference import Reference
from boxshipd.images.unpack.direct import FileSource
from boxshipd.images.unpack.limits import MIB

_BLOCK = 512


def write_archive(content: ContentStore, selections: Sequence[Selected]) -> Iterator[bytes]:
    """The archive, in pieces of up to a MiB. The images' content stays pinned until the iterator is closed."""
    with content.session() as session:
        blobs = sorted({digest for selection in selections for digest in _blobs(selection)})
        for digest in blobs:
            session.claim(digest)
        # A name for several platforms is one image there: readers of that document know of no others.
        single = {selection.record.id: selection for selection in selections}
        manifests = {selection.record.id: _manifest(content, selection.record) for selection in selections}
        archived = [_archived(record, _all_names(selections, record), manifests[record.id]) for record in _records(single)]
        files = {"index.json": encode(_index(selections)), "manifest.json": encode(archived), "oci-layout": LAYOUT}
        if repositories := _repositories(selections):
            files["repositories"] = encode(repositories)
        yield from written(content, blobs, files)


def written(content: ContentStore, blobs: Sequence[str], files: Mapping[str, bytes]) -> Iterator[bytes]:
    """An archive of blobs, which are pinned, in the places of an OCI layout, and of small files."""
    yield _header("blobs/", 0, directory=True)
    for algorithm in sorted({parse_digest(digest).algorithm for digest in blobs}):
        yield _header(f"blobs/{algorithm}/", 0, directory=True)
    for digest in blobs:
        yield from _blob(content, digest)
    for name, data in files.items():
        yield _file(name, data)
    # Two empty blocks end an archive.
    yield bytes(2 * _BLOCK)


def _records(single: dict[str, Selected]) -> list[Record]:
    return [selection.record for selection in single.values()]


def _all_names(selections: Sequence[Selected], record: Record) -> list[Reference]:
    return [name for selection in selections if selection.record.id == record.id for name in selection.names]


def _blobs(selection: Selected) -> set[str]:
    """Everything that an image, in all its platforms, is made of."""
    found = {digest for record in (selection.record, *selection.others) for digest in record.blobs}
    return found | selection.index.blobs if selection.index is not None else found


def _blob(content: ContentStore, digest: str) -> Iterator[bytes]:
    with open(content.path(digest), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        yield _header(blob_path(digest), size)
        source = FileSource(file.fileno())
        while data := source.read(MIB):
            yield data
    if padding := -size % _BLOCK:
        yield bytes(padding)


def _index(selections: Sequence[Selected]) -> Index:
    manifests: list[Descriptor] = []
    for selection in selections:
        record = selection.record
        target = record.manifest if selection.index is None else selection.index.descriptor
        shown = record.platform if selection.index is None else None
        annotations = [
            {**selection.annotations, NAME_ANNOTATION: str(name), REF_ANNOTATION: name.tag}
            for name in selection.names
            if name.tag
        ]
        manifests += [
            Descriptor(target.media_type, target.digest, target.size, annotation or None, shown)
            for annotation in annotations or [selection.annotations]
        ]
    return Index(manifests, media_type=OCI_INDEX)


def _manifest(content: ContentStore, record: Record) -> Manifest:
    return decode(Manifest, content.read(record.manifest.digest), "manifest")


def _archived(record: Record, names: Sequence[Reference], manifest: Manifest) -> ArchivedImage:
    layers = record.layers
    sources = {
        layer.diff: Descriptor(described.media_type or OCI_LAYER, layer.blob, described.size)
        for layer, described in zip(layers, manifest.layers, strict=True)
    }
    tags = [name.familiar for name in names if name.tag]
    return ArchivedImage(blob_path(record.id), tags or None, [blob_path(layer.blob) for layer in layers], sources)


def _repositories(selections: Sequence[Selected]) -> dict[str, dict[str, str]]:
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
