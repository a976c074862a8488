"""The layers that records and running builds keep in the images' own stores.

File systems share layers, so what is kept is a tree: each layer lies on the one below it, and goes when nothing lies on it any
more and nobody keeps it itself. A stack of layers has a name, which is that of its topmost one; the empty stack's is empty.
The name is of the layers' blobs too, for one content may be compressed in several ways, and an image that is based on another
has to have just its blobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from boxshipd.builder.cache.rows import LayerRow
from boxshipd.images.assembly import Stores
from boxshipd.images.record import Layer


@dataclass(slots=True)
class _Kept:
    row: LayerRow
    users: int = 0
    durable: bool = False


class KeptLayers:
    """Layers that are kept. To be used on the event loop.

    Args:
        stores: where images are kept.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._kept: dict[str, _Kept] = {}
        self._left: list[LayerRow] = []

    def restore(self, rows: Collection[LayerRow], there: tuple[set[str], set[str]]) -> list[str]:
        """At start: keep what the database names, as far as it is there and everything below it is.

        Nobody keeps it for anything yet: ``take`` does that for each record, then ``drop_unused`` lets go of the rest.

        Args:
            rows: the layers on record.
            there: the digests of the blobs and the chain ids of the snapshots that there are.

        Returns:
            The names of those that aren't.
        """
        blobs, chains = there
        by_name = {row.name: row for row in rows}
        whole: dict[str, bool] = {"": True}
        for start in rows:
            path, name = [], start.name
            while name not in whole and name in by_name:
                path.append(name)
                name = by_name[name].below
            below = whole.get(name, False)
            for one in reversed(path):
                layer = by_name[one].layer
                below = below and layer.blob in blobs and layer.chain in chains
                whole[one] = below
                if below:
                    self._add(by_name[one], durable=True)
        return [name for name in by_name if not whole[name]]

    def keep(self, layers: Sequence[Layer]) -> str | None:
        """Keep a stack of layers.

        Args:
            layers: lowest first.

        Returns:
            Its name, for ``drop``; None where some of it isn't there any more, and nothing is kept.
        """
        name = ""
        for layer in layers:
            below, name = name, _name(name, layer)
            if name not in self._kept and not self._claim(LayerRow(name, below, layer, 0)):
                # What was kept on the way is used by nobody yet.
                self._drop_unused([below])
                return None
        if name:
            self._kept[name].users += 1
        return name

    def take(self, name: str) -> bool:
        """Keep a stack that is kept already once more; whether it is."""
        if not name:
            return True
        kept = self._kept.get(name)
        if kept is None:
            return False
        kept.users += 1
        return True

    def drop(self, name: str) -> None:
        """Take back one ``keep`` or ``take``."""
        if name:
            self._kept[name].users -= 1
            self._drop_unused([name])

    def drop_unused(self) -> None:
        """Let go of every layer that nobody keeps."""
        self._drop_unused([name for name, kept in self._kept.items() if not kept.users])

    def layers(self, name: str) -> tuple[Layer, ...]:
        """A kept stack's layers, lowest first."""
        found = []
        while name:
            row = self._kept[name].row
            found.append(row.layer)
            name = row.below
        return tuple(reversed(found))

    def names(self, name: str) -> list[str]:
        """The names of a kept stack and of those below it, topmost first."""
        found = []
        while name:
            found.append(name)
            name = self._kept[name].row.below
        return found

    def size(self, name: str) -> int:
        """Bytes on the disk of a stack's topmost layer, unpacked and packed."""
        row = self._kept[name].row
        return row.layer.size + row.blob_size

    def chain(self, name: str) -> str:
        """A kept stack's chain id."""
        return self._kept[name].row.layer.chain if name else ""

    def verified(self, blob: str, diff: str) -> bool:
        """Whether some kept layer is of this blob, and uncompressed of digest ``diff``."""
        return any(kept.row.layer.blob == blob and kept.row.layer.diff == diff for kept in self._kept.values())

    def unwritten(self, names: Iterable[str]) -> list[LayerRow]:
        """Those of some stacks' layers, and of the layers below, that the database hasn't."""
        rows: dict[str, LayerRow] = {}
        for name in names:
            while name and name not in rows and not self._kept[name].durable:
                rows[name] = self._kept[name].row
                name = rows[name].below  # noqa: PLW2901 - the way down
        return list(rows.values())

    def written(self, rows: Iterable[LayerRow]) -> None:
        """The database has these now."""
        for row in rows:
            if row.name in self._kept:
                self._kept[row.name].durable = True

    def left(self) -> list[LayerRow]:
        """What has been let go of since this was last asked."""
        left, self._left = self._left, []
        return left

    def _claim(self, row: LayerRow) -> bool:
        """Pin a layer's content, and keep it; whether it is there."""
        content, snapshots, layer = self._stores.content, self._stores.snapshots, row.layer
        there = content.claim(layer.blob)
        there &= snapshots.claim(layer.chain)
        if there:
            self._insert(LayerRow(row.name, row.below, layer, content.size(layer.blob)), durable=False)
        else:
            content.unpin([layer.blob])
            snapshots.unpin([layer.chain])
        return there

    def _add(self, row: LayerRow, *, durable: bool) -> None:
        self._stores.content.claim(row.layer.blob)
        self._stores.snapshots.claim(row.layer.chain)
        self._insert(row, durable=durable)

    def _insert(self, row: LayerRow, *, durable: bool) -> None:
        self._kept[row.name] = _Kept(row, durable=durable)
        if row.below:
            self._kept[row.below].users += 1

    def _drop_unused(self, names: Iterable[str]) -> None:
        """Let go of these and those below them, as far as nobody keeps them."""
        for name in names:
            while name and name in self._kept and not self._kept[name].users:
                row = self._kept.pop(name).row
                self._stores.content.unpin([row.layer.blob])
                self._stores.snapshots.unpin([row.layer.chain])
                self._left.append(row)
                name = row.below  # noqa: PLW2901 - the way down
                if name:
                    self._kept[name].users -= 1


def _name(below: str, layer: Layer) -> str:
    return hashlib.sha256(f"{below} {layer.chain} {layer.blob}".encode()).hexdigest()
