"""Image references as people write and read them."""

from __future__ import annotations

from boxship.errors import CommandError
from boxship.references import is_tag


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


def repository_tag(reference: str) -> tuple[str, str]:
    """The repository and tag of an image's new name; the tag is empty where it has none.

    Raises:
        CommandError: it is no repository with a tag. What a repository may be called is the daemon's to judge.
    """
    name, tag = split(reference)
    bad = "@" in reference or ":" in name.rpartition("/")[2] or not name or reference.endswith(":")
    if bad or (tag and not is_tag(tag)):
        raise CommandError(f'Error parsing reference: "{reference}" is not a valid repository/tag: invalid reference format')
    return name, tag


def familiar(reference: str) -> str:
    """A reference with its default tag, without Docker Hub's default prefix."""
    name, tag = split(reference)
    if "@" in reference:
        return reference
    return f"{name.removeprefix('docker.io/').removeprefix('library/')}:{tag or 'latest'}"
