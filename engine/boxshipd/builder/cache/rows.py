"""The build cache in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from boxshipd.builder.cache.model import Record
from boxshipd.images.record import Layer


class LayerRow(Struct, frozen=True):
    """A layer that is kept: on what, and the bytes of its blob. ``name`` and ``below`` are as ``KeptLayers`` calls stacks."""

    name: str
    below: str
    layer: Layer
    blob_size: int


def select(connection: sqlite3.Connection) -> tuple[list[LayerRow], list[Record]]:
    """All of it; a layer may come before the one that it lies on."""
    layers = [
        LayerRow(name, below, Layer(blob, diff, chain, size), blob_size)
        for name, below, blob, diff, chain, size, blob_size in connection.execute(
            "SELECT name, below, blob, diff, chain, size, blob_size FROM build_layers"
        )
    ]
    records = [
        Record(
            id=record_id,
            key=key,
            kind=kind,
            description=description,
            parents=tuple(msgspec.json.decode(parents)),
            outputs=tuple(msgspec.json.decode(outputs)),
            size=size,
            created=created,
            used=used,
            uses=uses,
            durable=True,
        )
        for record_id, key, kind, description, parents, outputs, size, created, used, uses in connection.execute(
            "SELECT id, key, kind, description, parents, outputs, size, created, used, uses FROM build_cache ORDER BY created"
        )
    ]
    return layers, records


def named(connection: sqlite3.Connection) -> tuple[set[str], set[str]]:
    """What the cache keeps in the images' stores: digests of blobs, and chain ids of snapshots."""
    rows = connection.execute("SELECT blob, chain FROM build_layers").fetchall()
    return {blob for blob, _ in rows}, {chain for _, chain in rows}


def write(connection: sqlite3.Connection, layers: Iterable[LayerRow], records: Iterable[Record]) -> None:
    """Write records, and the layers that they need."""
    connection.executemany(
        "INSERT OR REPLACE INTO build_layers (name, below, blob, diff, chain, size, blob_size) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (row.name, row.below, row.layer.blob, row.layer.diff, row.layer.chain, row.layer.size, row.blob_size)
            for row in layers
        ],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO build_cache (id, key, kind, description, parents, outputs, size, created, used, uses)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [_values(record) for record in records],
    )


def remove(connection: sqlite3.Connection, layers: Sequence[str], records: Sequence[str]) -> None:
    """Remove records and layers by their names."""
    connection.executemany("DELETE FROM build_cache WHERE id = ?", [(name,) for name in records])
    connection.executemany("DELETE FROM build_layers WHERE name = ?", [(name,) for name in layers])


def touch(connection: sqlite3.Connection, records: Iterable[tuple[float, int, int, str]]) -> None:
    """Note when records were last used, how often, how large they are, by their ids."""
    connection.executemany("UPDATE build_cache SET used = ?, uses = ?, size = ? WHERE id = ?", records)


def _values(record: Record) -> tuple[object, ...]:
    return (
        record.id,
        record.key,
        record.kind,
        record.description,
        msgspec.json.encode(record.parents).decode(),
        msgspec.json.encode(record.outputs).decode(),
        record.size,
        record.created,
        record.used,
        record.uses,
    )
