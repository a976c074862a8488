"""What of a tree an operation depends on, as a digest: of one path and all below it."""

from __future__ import annotations

import os

from boxshipd.builder.results import Tree
from boxshipd.builder.trees.digest import ContentDigest
from boxshipd.builder.trees.paths import walk


def selection_digest(tree: Tree, path: str) -> str:
    """The digest of what is at a path of a tree; of nothing where there is nothing.

    Args:
        tree: the tree; this blocks where its files have to be read.
        path: links in it are followed; empty or ``/`` for the whole.
    """
    place = tree.resolve(os.fsencode(path).strip(b"/"))
    if not place:
        return tree.digest
    digest = ContentDigest()
    top = tree.entry(place)
    if top is not None:
        digest.add(b"", top, tree)
        if top.kind == "directory":
            for entry in walk(tree, place):
                digest.add(entry.path[len(place) :], entry, tree)
    return digest.digest
