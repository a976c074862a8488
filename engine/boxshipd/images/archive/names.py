"""Names of files in an OCI layout. Source: OCI image specification, image-layout.md."""

from __future__ import annotations

from boxshipd.images.digest import parse_digest


def blob_path(digest: str) -> str:
    """Where a layout has the blob of a digest.

    Raises:
        InvalidParameter: it isn't a digest.
    """
    parsed = parse_digest(digest)
    return f"blobs/{parsed.algorithm}/{parsed.hex}"


def digest_of_path(path: str) -> str:
    """The digest that a path of an OCI layout promises; nothing for other paths."""
    folder, _, name = path.rpartition("/")
    return f"sha256:{name}" if folder == "blobs/sha256" and len(name) == 64 else ""
