"""Archives for tests: layers with any entries, hostile ones included, and images made of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

import zstandard


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    """A tar header; ``fields`` are TarInfo's."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def tar(*entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of entries, each with its content where it has one."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for entry in entries:
            info, data = entry if isinstance(entry, tuple) else (entry, b"")
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def files(**contents: bytes) -> bytes:
    """An archive of files in its root."""
    return tar(*((member(name), data) for name, data in contents.items()))


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


COMPRESSIONS = {"": bytes, "gzip": lambda data: gzip.compress(data, 1, mtime=0), "zstd": zstandard.ZstdCompressor().compress}


@dataclass
class SourceImage:
    """An image as a builder has it: layers uncompressed, lowest first."""

    layers: Sequence[bytes]
    names: Sequence[str] = ()
    compression: str = ""
    config: dict[str, object] = field(default_factory=dict)
    architecture: str = "amd64"

    @property
    def blobs(self) -> list[bytes]:
        return [COMPRESSIONS[self.compression](layer) for layer in self.layers]

    @property
    def config_data(self) -> bytes:
        return json.dumps(
            {
                "architecture": self.architecture,
                "os": "linux",
                "created": "2024-05-06T07:08:09.123456789Z",
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
                "history": [{"created": "2024-05-06T07:08:09Z", "created_by": f"layer {n}"} for n in range(len(self.layers))],
            }
        ).encode()

    @property
    def id(self) -> str:
        return digest(self.config_data)

    @property
    def manifest(self) -> bytes:
        suffix = f"+{self.compression}" if self.compression else ""
        layer_type = f"application/vnd.oci.image.layer.v1.tar{suffix}"
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": _descriptor("application/vnd.oci.image.config.v1+json", self.config_data),
                "layers": [_descriptor(layer_type, blob) for blob in self.blobs],
            }
        ).encode()


def _descriptor(media_type: str, data: bytes, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def _blob(data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return member("blobs/sha256/" + digest(data).partition(":")[2]), data


def docker_archive(*images: SourceImage) -> bytes:
    """What ``docker save`` wrote before version 25: a folder for each layer."""
    entries: list[tuple[tarfile.TarInfo, bytes]] = []
    listed = []
    for image in images:
        paths = []
        for blob in image.blobs:
            path = digest(blob).partition(":")[2] + "/layer.tar"
            entries.append((member(path), blob))
            paths.append(path)
        config = image.id.partition(":")[2] + ".json"
        entries.append((member(config), image.config_data))
        listed.append({"Config": config, "RepoTags": list(image.names) or None, "Layers": paths})
    entries.append((member("manifest.json"), json.dumps(listed).encode()))
    return tar(*entries)


def oci_archive(*images: SourceImage, nested: bool = False) -> bytes:
    """An OCI layout; with ``nested`` the images are one image's platforms, in an index of their own."""
    entries: list[tuple[tarfile.TarInfo, bytes]] = []
    descriptors = []
    for image in images:
        entries += [_blob(data) for data in (*image.blobs, image.config_data, image.manifest)]
        platform = {"os": "linux", "architecture": image.architecture}
        for name in image.names or [""]:
            annotations = {"io.containerd.image.name": name} if name and not nested else {}
            descriptors.append(
                _descriptor(
                    "application/vnd.oci.image.manifest.v1+json", image.manifest, annotations=annotations, platform=platform
                )
            )
    if nested:
        index = json.dumps({"schemaVersion": 2, "manifests": descriptors}).encode()
        entries.append(_blob(index))
        annotations = {"io.containerd.image.name": next(iter(images[0].names), "")}
        descriptors = [_descriptor("application/vnd.oci.image.index.v1+json", index, annotations=annotations)]
    entries.append((member("index.json"), json.dumps({"schemaVersion": 2, "manifests": descriptors}).encode()))
    entries.append((member("oci-layout"), b'{"imageLayoutVersion":"1.0.0"}'))
    return tar(*entries)


async def chunks(data: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    """Bytes as a request's body brings them."""
    for position in range(0, len(data), size):
        yield data[position : position + size]


def join(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)
