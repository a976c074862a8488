"""The media types that layers come in.

Source: OCI image specification, media-types.md and layer.md; distribution docs/spec/manifest-v2-2.md.
"""

from __future__ import annotations

from boxshipd.images.model import DOCKER_LAYER, OCI_LAYER

_DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
_OCI_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"

LAYERS = frozenset(
    f"{base}{suffix}"
    for base, suffixes in (
        (OCI_LAYER, ("", "+gzip", "+zstd")),
        (_OCI_FOREIGN, ("", "+gzip", "+zstd")),
        (DOCKER_LAYER, ("", ".gzip", ".zstd")),
        (_DOCKER_FOREIGN, ("", ".gzip")),
    )
    for suffix in suffixes
)


def layer_type(compression: str, *, oci: bool) -> str:
    """The media type of a layer, OCI's or Docker's; ``compression`` is ``gzip``, ``zstd`` or empty."""
    if not compression:
        return OCI_LAYER if oci else DOCKER_LAYER
    return f"{OCI_LAYER}+{compression}" if oci else f"{DOCKER_LAYER}.{compression}"


def foreign(media_type: str) -> bool:
    """Whether a layer isn't to be given to registries, as its licence forbids that."""
    return media_type.startswith((_OCI_FOREIGN, _DOCKER_FOREIGN))
