"""What the API tells of an index's manifests: which platforms there are, and which of them are here.

Source: Docker Engine API v1.51, ImageManifestSummary; moby daemon/containerd/image_manifest.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from boxship.types.images import (
    AttestationData,
    ManifestImageData,
    ManifestSize,
    ManifestSummary,
    OCIDescriptor,
    OCIPlatform,
    UnpackedSize,
)
from msgspec import UNSET

from boxshipd.errors import NotFound
from boxshipd.images.assembly import Stores
from boxshipd.images.attestations import REFERENCE_DIGEST, is_attestation
from boxshipd.images.catalogue import IndexRecord, Record
from boxshipd.images.image import ImageUse
from boxshipd.images.model import MANIFEST_TYPES, Descriptor, Platform


def manifest_summaries(
    stores: Stores, record: Record, index: IndexRecord | None, uses: Callable[[str], Sequence[ImageUse]]
) -> list[ManifestSummary]:
    """All manifests of an index, or an image's only one.

    Args:
        stores: where images are kept.
        record: the image.
        index: what its name means, if that is one.
        uses: tells which containers use an image.
    """
    if index is None:
        return [_of_image(stores, record.manifest, record, uses)]
    here = {found.manifest.digest: found for image in index.images if (found := stores.catalogue.get(image))}
    return [
        _of_attestation(stores, descriptor, index)
        if is_attestation(descriptor)
        else _summary(stores, descriptor, here.get(descriptor.digest), uses)
        for descriptor in index.manifests
    ]


def _summary(
    stores: Stores, descriptor: Descriptor, record: Record | None, uses: Callable[[str], Sequence[ImageUse]]
) -> ManifestSummary:
    if record is not None:
        return _of_image(stores, descriptor, record, uses)
    nothing = ManifestSize(total=0, content=0)
    if descriptor.media_type not in MANIFEST_TYPES:
        return ManifestSummary(descriptor.digest, _shown(descriptor), available=False, size=nothing, kind="unknown")
    data = ManifestImageData(_platform(descriptor.platform or Platform()), [], UnpackedSize(0))
    return ManifestSummary(descriptor.digest, _shown(descriptor), available=False, size=nothing, kind="image", image_data=data)


def _of_attestation(stores: Stores, descriptor: Descriptor, index: IndexRecord) -> ManifestSummary:
    here = descriptor.digest in index.attached
    content = sum(_size(stores, blob) for blob in index.attached.get(descriptor.digest, ()))
    return ManifestSummary(
        descriptor.digest,
        _shown(descriptor),
        available=here,
        size=ManifestSize(total=content, content=content),
        kind="attestation",
        attestation_data=AttestationData((descriptor.annotations or {}).get(REFERENCE_DIGEST, "")),
    )


def _of_image(
    stores: Stores, descriptor: Descriptor, record: Record, uses: Callable[[str], Sequence[ImageUse]]
) -> ManifestSummary:
    content = sum(_size(stores, blob) for blob in record.blobs)
    return ManifestSummary(
        id=descriptor.digest,
        descriptor=_shown(descriptor),
        available=True,
        size=ManifestSize(total=content + record.size, content=content),
        kind="image",
        image_data=ManifestImageData(
            platform=_platform(descriptor.platform or record.platform),
            containers=sorted(use.container_id for use in uses(record.id)),
            size=UnpackedSize(record.size),
        ),
    )


def _size(stores: Stores, digest: str) -> int:
    try:
        return stores.content.size(digest)
    except NotFound:
        return 0


def _shown(descriptor: Descriptor) -> OCIDescriptor:
    return OCIDescriptor(
        descriptor.media_type,
        descriptor.digest,
        descriptor.size,
        annotations=descriptor.annotations or UNSET,
        platform=_platform(descriptor.platform) if descriptor.platform else UNSET,
    )


def _platform(platform: Platform) -> OCIPlatform:
    return OCIPlatform(
        platform.architecture, platform.os, os_version=platform.os_version or UNSET, variant=platform.variant or UNSET
    )
