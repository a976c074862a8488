"""Carries out ``Diff``: what one file system has that another hasn't, as layers of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing

import msgspec
from boxship.archive import tar_writer

from boxshipd.builder.executor import Work
from boxshipd.builder.graph import Diff
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.ops.merge import file_systems
from boxshipd.builder.results import Entry, Result, Snapshot, Tree
from boxshipd.builder.trees.pack import pack_file, pack_header
from boxshipd.builder.trees.paths import join
from boxshipd.builder.trees.snapshot import SnapshotTree
from boxshipd.files.pack import batched
from boxshipd.images.workers import Cancellation, Workers


class DiffExecutor:
    """Carries out ``Diff``.

    Args:
        layers: where file systems are.
        workers: threads.
    """

    def __init__(self, layers: LayerSession, workers: Workers) -> None:
        self._layers = layers
        self._workers = workers

    async def key(self, op: Diff, work: Work) -> str:
        """See Executor."""
        document = msgspec.json.encode([each.chain for each in file_systems(work)])
        return f"sha256:{hashlib.sha256(b'diff' + document).hexdigest()}"

    async def run(self, op: Diff, work: Work) -> list[Result]:
        """See Executor. Layers that lie on the lower one are taken as they are; else the two are compared, to one layer."""
        cancellation = Cancellation()
        lower, upper = file_systems(work)
        return [await self._workers.run(lambda: self._diff(lower, upper, cancellation.check), cancellation)]

    def _diff(self, lower: Snapshot, upper: Snapshot, check: Callable[[], None]) -> Snapshot:
        count = len(lower.layers)
        if upper.layers[:count] == lower.layers:
            made = Snapshot()
            for layer in upper.layers[count:]:
                check()
                made = self._layers.restack(made, layer)
            return made
        with (
            closing(SnapshotTree(self._layers.directories(lower))) as below,
            closing(SnapshotTree(self._layers.directories(upper))) as above,
        ):
            return self._layers.from_archive(Snapshot(), batched(differences(below, above, check)), check)


def differences(below: Tree, above: Tree, check: Callable[[], None]) -> Iterator[bytes]:
    """An archive of what makes one tree the other, whiteouts for what is gone included, without the archive's end.

    Args:
        below: the tree as it was.
        above: the tree as it is.
        check: called for each file; it may raise to end the work.
    """
    links: dict[int, bytes] = {}
    pending: list[bytes] = [b""]
    while pending:
        directory = pending.pop()
        before = {entry.path: entry for entry in below.children(directory)}
        inner: list[bytes] = []
        for entry in above.children(directory):
            check()
            old = before.pop(entry.path, None)
            if not _same(old, below, entry, above):
                yield from _member(entry, above, links)
            if entry.kind == "directory":
                inner.append(entry.path)
        for path in sorted(before):
            where, _, name = path.rpartition(b"/")
            yield tar_writer.header(tar_writer.FILE, join(where, b".wh." + name), mode=0o600)
        pending += reversed(inner)


def _same(old: Entry | None, below: Tree, new: Entry, above: Tree) -> bool:
    if old is None or (old.inode != 0) != (new.inode != 0):
        return False
    plain = [msgspec.structs.replace(each, inode=0) for each in (old, new)]
    return plain[0] == plain[1] and (new.kind != "file" or below.checksum(old) == above.checksum(new))


def _member(entry: Entry, tree: Tree, links: dict[int, bytes]) -> Iterator[bytes]:
    first = links.setdefault(entry.inode, entry.path) if entry.inode else entry.path
    if first != entry.path:
        yield pack_header(entry, linkname=first)
    elif entry.kind == "file":
        yield from pack_file(entry, entry, tree)
    else:
        yield pack_header(entry)
