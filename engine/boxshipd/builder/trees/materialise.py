"""A tree written into a directory, for those who must mount it."""

from __future__ import annotations

import os

from boxshipd.builder.results import Tree
from boxshipd.builder.trees.pack import pack_tree
from boxshipd.files.extract import LIMITS, Extraction
from boxshipd.files.ids import Owners
from boxshipd.files.pack import batched
from boxshipd.images.unpack.compression import Chunks
from boxshipd.images.unpack.tar import TarReader
from boxshipd.images.unpack.tree import Tree as Target


def write_tree(tree: Tree, root: str) -> None:
    """Write everything that a tree has into an empty directory.

    Raises:
        DaemonError: something can't be written.
    """
    top = tree.entry(b"")
    if top is not None:
        os.chown(root, top.uid, top.gid)
        os.chmod(root, top.mode)
    with Target(root) as target:
        # What begins with ``.wh.`` is a file like any other here.
        extraction = Extraction(target, "the build context", Owners(), owner=None, strict=False, check=lambda: None)
        extraction.apply(TarReader(Chunks(batched(pack_tree(tree))), LIMITS))
