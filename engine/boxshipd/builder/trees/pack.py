"""Entries of trees as members of an archive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from boxship.archive import tar_writer

from boxshipd.builder.results import Entry, Kind, Tree
from boxshipd.builder.trees.paths import join, walk

_KINDS: Mapping[Kind, bytes] = {
    "file": tar_writer.FILE,
    "directory": tar_writer.DIRECTORY,
    "symlink": tar_writer.SYMLINK,
    "fifo": tar_writer.FIFO,
    "char": tar_writer.CHAR,
    "block": tar_writer.BLOCK_DEVICE,
}
_SECOND = 1_000_000_000
# Bytes of a file that goes into an archive in one piece, holes or not.
_SMALL = 64 * 1024


def pack_header(entry: Entry, *, linkname: bytes = b"") -> bytes:
    """The header of an entry, under the path that it has; of a hard link to ``linkname`` where that is given."""
    return tar_writer.header(
        tar_writer.LINK if linkname else _KINDS[entry.kind],
        entry.path + b"/" if entry.kind == "directory" else entry.path,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=0 if linkname else entry.size,
        mtime=entry.mtime // _SECOND,
        linkname=linkname or entry.link,
        device=entry.device,
        xattrs=entry.xattrs,
    )


def pack_file(entry: Entry, source: Entry, tree: Tree) -> Iterator[bytes]:
    """A regular file with its data; one with holes keeps them.

    Args:
        entry: as it is to be.
        source: as the tree has it.
        tree: where its bytes are.
    """
    if entry.size <= _SMALL:
        yield b"".join((pack_header(entry), *tree.pieces(source, 0, entry.size), tar_writer.padding(entry.size)))
        return
    extents = tree.extents(source)
    total = sum(length for _, length in extents)
    if total == entry.size:
        yield pack_header(entry)
        yield from tree.pieces(source, 0, entry.size)
    else:
        mapped = tar_writer.sparse_map(_ended(extents, entry.size))
        total += len(mapped)
        yield _sparse_header(entry, total)
        yield mapped
        for offset, length in extents:
            yield from tree.pieces(source, offset, length)
    if end := tar_writer.padding(total):
        yield end


def _ended(extents: Sequence[tuple[int, int]], size: int) -> Sequence[tuple[int, int]]:
    """A map whose last piece ends where the file does: GNU tar takes its end for the file's."""
    return extents if extents and sum(extents[-1]) == size else (*extents, (size, 0))


def _sparse_header(entry: Entry, stored: int) -> bytes:
    above, _, name = entry.path.rpartition(b"/")
    return tar_writer.header(
        tar_writer.FILE,
        join(join(above, b"GNUSparseFile.0"), name),
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=stored,
        mtime=entry.mtime // _SECOND,
        xattrs=entry.xattrs,
        more=tar_writer.sparse_records(entry.path, entry.size),
    )


def pack_tree(tree: Tree) -> Iterator[bytes]:
    """Everything in a tree but its root, without the archive's end."""
    links: dict[int, bytes] = {}
    for entry in walk(tree, b""):
        first = links.setdefault(entry.inode, entry.path) if entry.inode else entry.path
        if first != entry.path:
            yield pack_header(entry, linkname=first)
        elif entry.kind == "file":
            yield from pack_file(entry, entry, tree)
        else:
            yield pack_header(entry)
