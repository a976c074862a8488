"""What of a tree an operation depends on, as a digest: of one path and all below it."""

from __future__ import annotations

import hashlib
import os

import msgspec
from msgspec.structs import replace

from boxshipd.builder.results import Entry, Tree


def selection_digest(tree: Tree, path: str) -> str:
    """The digest of what is at a path of a tree: names, kinds, modes, owners, links and bytes, not times.

    Args:
        tree: the tree; this blocks where its files have to be read.
        path: links in it are followed; empty or ``/`` for the whole.
    """
    place = tree.resolve(os.fsencode(path).strip(b"/"))
    if not place:
        return tree.digest
    checksum = hashlib.sha256()
    entry = tree.entry(place)
    if entry is not None:
        _add(tree, entry, len(place), checksum)
    return f"sha256:{checksum.hexdigest()}"


def _add(tree: Tree, top: Entry, prefix: int, checksum: hashlib._Hash) -> None:
    pending = [top]
    inodes: dict[int, bytes] = {}
    while pending:
        entry = pending.pop()
        told = entry.path[prefix:]
        # Files are one by their first name's place, since an inode's number means nothing elsewhere.
        same = inodes.setdefault(entry.inode, told) if entry.inode else told
        content = tree.checksum(entry) if entry.kind == "file" else ""
        described = replace(entry, path=told, mtime=0, inode=0, link=entry.link if entry.kind == "symlink" else b"")
        checksum.update(msgspec.json.encode([described, same, content], order="deterministic"))
        if entry.kind == "directory":
            pending += tree.children(entry.path)
