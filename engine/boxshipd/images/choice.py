"""Which of an index's manifests is for a platform.

Source: containerd/platforms (compare.go ``platformVector``, ``Only``); moby daemon/internal/distribution (pull_v2_unix.go).
"""

from __future__ import annotations

from boxshipd.errors import NotFound
from boxshipd.images import platform
from boxshipd.images.model import Platform
from boxshipd.registry.documents import RemoteDescriptor, RemoteIndex

_ARM_VARIANTS = {"": 7, "v5": 5, "v6": 6, "v7": 7, "v8": 8}


def choose(index: RemoteIndex, wanted: Platform) -> RemoteDescriptor:
    """The manifest for a platform, or for one that it runs as well.

    Raises:
        NotFound: there is none.
    """
    for candidate in runs(wanted):
        for descriptor in index.manifests:
            offered = descriptor.platform
            if descriptor.attestation or offered is None:
                continue
            if (offered.os, offered.architecture) == (candidate.os, candidate.architecture) and _variant(
                offered.architecture, offered.variant
            ) == _variant(candidate.architecture, candidate.variant):
                return descriptor
    # An index without platforms leaves no choice where it has one manifest only.
    unlabelled = [descriptor for descriptor in index.manifests if descriptor.platform is None and not descriptor.attestation]
    if len(unlabelled) == 1 and len(index.manifests) == 1:
        return unlabelled[0]
    raise NotFound(
        f"no matching manifest for {platform.describe(wanted)} in the manifest list entries: no match for platform in manifest"
    )


def runs(wanted: Platform) -> list[Platform]:
    """The platform itself, and then what else runs on it, best first."""
    found = [wanted]
    if wanted.architecture == "amd64":
        level = int(wanted.variant[1:]) if wanted.variant[1:].isdecimal() else 1
        found += [Platform("amd64", wanted.os, f"v{lower}") for lower in range(level - 1, 0, -1)]
        found.append(Platform("386", wanted.os))
    elif wanted.architecture == "arm":
        level = _ARM_VARIANTS.get(wanted.variant, 0)
        found += [Platform("arm", wanted.os, f"v{lower}") for lower in range(level - 1, 4, -1)]
    elif wanted.architecture == "arm64":
        found += [Platform("arm", wanted.os, f"v{lower}") for lower in range(8, 4, -1)]
    return found


def _variant(architecture: str, variant: str) -> str:
    """A variant without the name of the one that is meant anyway."""
    usual = {"arm64": "v8", "amd64": "v1", "arm": "v7"}.get(architecture)
    return "" if variant == usual else variant
