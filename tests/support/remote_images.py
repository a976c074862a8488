"""Images in a registry, put there by hand, so that every byte of them is known."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass, field

import zstandard

from support.registry import Registry

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(files: dict[str, bytes]) -> bytes:
    """A layer, uncompressed, the same bytes every time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that don't get smaller, the same every time."""
    return random.Random(seed).randbytes(size)


@dataclass
class RemoteImage:
    """An image made of layers, in one of its forms.

    Attributes:
        layers: uncompressed, lowest first.
        compression: ``gzip``, ``zstd`` or nothing.
        docker: Docker's media types rather than OCI's.
        variant: makes images of the same layers differ.
    """

    layers: list[bytes]
    compression: str = "gzip"
    docker: bool = False
    architecture: str = "amd64"
    variant: str = ""
    blobs: list[bytes] = field(init=False)
    config: bytes = field(init=False)
    manifest: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.blobs = [compressed(data, self.compression) for data in self.layers]
        config = {
            "architecture": self.architecture,
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {"Cmd": ["true"], "Labels": {"made": "by hand"}},
            "rootfs": {"type": "layers", "diff_ids": [sha256(data) for data in self.layers]},
        }
        self.config = json.dumps(config | ({"variant": self.variant} if self.variant else {})).encode()
        suffix = f"+{self.compression}" if self.compression else ""
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": self.media_type,
                "config": _descriptor(DOCKER_CONFIG if self.docker else OCI_CONFIG, self.config),
                "layers": [_descriptor(DOCKER_LAYER if self.docker else OCI_LAYER + suffix, blob) for blob in self.blobs],
            }
        ).encode()

    @property
    def media_type(self) -> str:
        return DOCKER_MANIFEST if self.docker else OCI_MANIFEST

    @property
    def id(self) -> str:
        return sha256(self.config)

    @property
    def digest(self) -> str:
        return sha256(self.manifest)

    def put(self, registry: Registry, repository: str, reference: str = "latest") -> str:
        """Put it into a registry; its digest."""
        for blob in (self.config, *self.blobs):
            registry.put_blob(repository, blob)
        return registry.put_manifest(repository, reference, self.manifest, self.media_type)

    def entry(self) -> dict:
        """Its descriptor in an index."""
        platform = {"architecture": self.architecture, "os": "linux"}
        return _descriptor(self.media_type, self.manifest) | {
            "platform": platform | ({"variant": self.variant} if self.variant else {})
        }


def compressed(data: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, 1, mtime=0)
    return zstandard.compress(data) if compression == "zstd" else data


def index(*images: RemoteImage, docker: bool = False) -> bytes:
    """An index of images."""
    media_type = DOCKER_INDEX if docker else OCI_INDEX
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [i.entry() for i in images]}).encode()


def _descriptor(media_type: str, data: bytes) -> dict:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}
