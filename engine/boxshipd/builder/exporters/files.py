"""The root file system of what was built, as a tar stream. Blocks; for workers' threads.

Source: BuildKit exporter/tar/export.go, exporter/local (``platform-split``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from boxshipd.builder.exporters.configuration import BuiltImage
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.results import Entry, Tree
from boxshipd.builder.trees.pack import pack_file, pack_header
from boxshipd.builder.trees.paths import walk
from boxshipd.builder.trees.snapshot import SnapshotTree
from boxshipd.files.pack import batched
from boxshipd.images import platform

_SECOND = 1_000_000_000


def write_files(
    layers: LayerSession, built: Sequence[BuiltImage], *, split: bool, check: Callable[[], None]
) -> Iterator[bytes]:
    """The archive, in pieces; it ends as an archive does.

    Args:
        layers: where the file systems are, which somebody has pinned.
        built: what was built, for each platform.
        split: each platform has a directory of its own, such as ``linux_arm64``.
        check: called for each file; it may raise to end the work.
    """
    return batched(_platforms(layers, built, split=split, check=check))


def _platforms(layers: LayerSession, built: Sequence[BuiltImage], *, split: bool, check: Callable[[], None]) -> Iterator[bytes]:
    for image in built:
        epoch = image.planned.epoch
        prefix = b""
        if split:
            prefix = platform.describe(image.planned.platform).replace("/", "_").encode()
            yield pack_header(Entry(path=prefix, kind="directory", mode=0o755, mtime=(epoch or 0) * _SECOND))
        tree = SnapshotTree(layers.directories(image.snapshot))
        try:
            yield from _files(tree, prefix, None if epoch is None else epoch * _SECOND, check)
        finally:
            tree.close()


def _files(tree: Tree, prefix: bytes, newest: int | None, check: Callable[[], None]) -> Iterator[bytes]:
    """All files of a tree below ``prefix``, none of them younger than ``newest``, in ns since the epoch."""
    links: dict[int, bytes] = {}
    for source in walk(tree, b""):
        check()
        path = prefix + b"/" + source.path if prefix else source.path
        entry = replace(source, path=path, mtime=source.mtime if newest is None else min(source.mtime, newest))
        first = links.setdefault(source.inode, path) if source.inode else path
        if first != path:
            yield pack_header(entry, linkname=first)
        elif source.kind == "file":
            yield from pack_file(entry, source, tree)
        else:
            yield pack_header(entry)
