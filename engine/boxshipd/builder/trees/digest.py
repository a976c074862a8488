"""Digests over files' content and whatever else of them counts, in an order that doesn't depend on how they came."""

from __future__ import annotations

import hashlib

import msgspec

from boxshipd.builder.results import Entry, Tree
from boxshipd.builder.trees.paths import walk

_encode = msgspec.msgpack.Encoder().encode


class ContentDigest:
    """One digest over many files, added in an order of the caller's. Times don't count, nor do the names of inodes.

    Args:
        owners: whether owners count.
        modes: whether permissions count.
    """

    def __init__(self, *, owners: bool = True, modes: bool = True) -> None:
        self._owners = owners
        self._modes = modes
        self._hash = hashlib.sha256()
        self._links: dict[int, bytes] = {}

    def add(self, name: bytes, entry: Entry, tree: Tree) -> None:
        """Add a file under a name."""
        first = self._links.setdefault(entry.inode, name) if entry.inode else name
        self._hash.update(
            _encode(
                (
                    name,
                    entry.kind,
                    # A link's mode is nobody's to choose.
                    entry.mode if self._modes and entry.kind != "symlink" else 0,
                    (entry.uid, entry.gid) if self._owners else 0,
                    entry.link,
                    entry.device,
                    sorted(entry.xattrs.items()),
                    first if first != name else b"",
                    tree.checksum(entry) if entry.kind == "file" and first == name else "",
                )
            )
        )

    def part(self, text: str) -> None:
        """Set apart what follows."""
        self._hash.update(_encode(text))

    @property
    def digest(self) -> str:
        """``sha256:`` and what was added."""
        return f"sha256:{self._hash.hexdigest()}"


def tree_digest(tree: Tree) -> str:
    """The digest of a whole tree."""
    digest = ContentDigest()
    root = tree.entry(b"")
    if root is not None:
        digest.add(b"", root, tree)
    for entry in walk(tree, b""):
        digest.add(entry.path, entry, tree)
    return digest.digest
