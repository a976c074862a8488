"""A manifest in a list that is being put together.

Source: github.com/docker/cli, cli/manifest/types; OCI image specification, descriptor and image index.
"""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from hashlib import sha256
from typing import Any, NamedTuple

from boxship.errors import CommandError
from boxship.references import Reference, parse

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
LISTS = frozenset((DOCKER_LIST, OCI_INDEX))
_PLATFORM_KEYS = ("architecture", "os", "os.version", "os.features", "variant")


class Manifest(NamedTuple):
    """An image's manifest.

    Attributes:
        reference: where it is.
        media_type: its form.
        raw: its bytes, of which the digest is made.
        platform: what it is for, by the keys of OCI's platform; empty where that isn't known.
    """

    reference: Reference
    media_type: str
    raw: bytes
    platform: dict[str, Any]

    @property
    def digest(self) -> str:
        """What it is known by."""
        return f"sha256:{sha256(self.raw).hexdigest()}"

    @property
    def is_list(self) -> bool:
        """Whether it lists manifests itself."""
        return self.media_type in LISTS

    def annotated(self, values: dict[str, Any]) -> Manifest:
        """The same with other values for its platform."""
        return self._replace(platform=self.platform | values)

    def document(self) -> dict[str, Any]:
        """The form in which Docker's client keeps and shows it."""
        descriptor: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": len(self.raw)}
        if self.platform:
            descriptor["platform"] = ordered(self.platform)
        return {
            "Ref": str(self.reference),
            "Descriptor": descriptor,
            "Raw": b2a_base64(self.raw, newline=False).decode(),
            "OCIManifest" if self.media_type == OCI_MANIFEST else "SchemaV2Manifest": json.loads(self.raw),
        }


def of_document(document: Any, path: str) -> Manifest:
    """A manifest out of the form in which Docker's client keeps it.

    Args:
        document: the decoded file.
        path: the file, for the error's message.

    Raises:
        CommandError: it isn't one, or its bytes aren't those it is known by.
    """
    try:
        descriptor = document["Descriptor"]
        manifest = Manifest(
            parse(document["Ref"]), descriptor["mediaType"], a2b_base64(document["Raw"]), descriptor.get("platform") or {}
        )
        digest = descriptor["digest"]
    except (KeyError, TypeError, ValueError) as error:
        raise CommandError(f"invalid manifest file {path}: {error!r}") from error
    if manifest.digest != digest:
        raise CommandError(f"invalid manifest file {path}: image manifest digest mismatch ({digest} != {manifest.digest})")
    return manifest


def ordered(platform: dict[str, Any]) -> dict[str, Any]:
    """A platform with its keys in the order in which Docker writes them, without what is empty."""
    return {key: platform[key] for key in _PLATFORM_KEYS if platform.get(key)}


def build_list(manifests: list[Manifest], target: Reference) -> tuple[str, bytes]:
    """A manifest list: its media type and its bytes, the same as Docker's client makes.

    Args:
        manifests: what it lists.
        target: where it is to be.

    Raises:
        CommandError: one is at another registry.
    """
    entries = []
    for manifest in manifests:
        if manifest.reference.domain != target.domain:
            raise CommandError(
                "cannot use source images from a different registry than the target image: "
                f"{manifest.reference.domain} != {target.domain}"
            )
        entry = {"mediaType": manifest.media_type, "size": len(manifest.raw), "digest": manifest.digest}
        entries.append({**entry, "platform": ordered(manifest.platform)})
    media_type = OCI_INDEX if manifests and manifests[0].media_type == OCI_MANIFEST else DOCKER_LIST
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    return media_type, json.dumps(document, indent=3, ensure_ascii=False).encode()
