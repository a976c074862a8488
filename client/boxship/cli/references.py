"""Image references as people write and read them."""

from __future__ import annotations


def split(reference: str) -> tuple[str, str]:
    """A reference's repository and its tag or digest, empty where it has none."""
    if "@" in reference:
        name, _, digest = reference.partition("@")
        return name, digest
    name, colon, tag = reference.rpartition(":")
    # A colon before a slash belongs to a registry's port.
    if not colon or "/" in tag:
        return reference, ""
    return name, tag


def familiar(reference: str) -> str:
    """A reference with its default tag, without Docker Hub's default prefix."""
    name, tag = split(reference)
    if "@" in reference:
        return reference
    return f"{name.removeprefix('docker.io/').removeprefix('library/')}:{tag or 'latest'}"
