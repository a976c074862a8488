"""An image as containers see it."""

from __future__ import annotations

from boxship.types.containers import ContainerConfig
from msgspec import Struct


class ImageUse(Struct, frozen=True):
    """A container made of an image."""

    container_id: str
    name: str
    running: bool


class Image(Struct, frozen=True):
    """What a container is made of.

    Attributes:
        id: ``sha256:`` and the digest of its configuration.
        config: the defaults it gives its containers.
        layers: its snapshots' directories, topmost first, as overlayfs wants them.
        created: when it was made, RFC 3339, or empty.
        size: the sum of its files' lengths, in bytes.
        repo_tags: its names, in short form.
        warning: what a container's maker is to be told of it, or nothing.
    """

    id: str
    config: ContainerConfig
    layers: tuple[str, ...]
    os: str
    architecture: str
    variant: str
    created: str
    size: int
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]
    warning: str = ""
