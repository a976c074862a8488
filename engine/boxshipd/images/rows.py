"""Images in the database: what is written of one, and what is read at the daemon's start."""

from __future__ import annotations

import sqlite3

from boxshipd.images.record import Record


def write_image(connection: sqlite3.Connection, record: Record, known: Record | None) -> None:
    """Write an image's rows."""
    if known is None:
        connection.execute(
            "INSERT INTO images (id, manifest, tagged, removed, parent) VALUES (?, ?, ?, 0, ?)",
            (record.id, record.manifest.digest, record.tagged, record.parent),
        )
    else:
        connection.execute(
            "UPDATE images SET removed = 0, manifest = ?, tagged = ? WHERE id = ?",
            (record.manifest.digest, record.tagged, record.id),
        )
        if known.layers == record.layers:
            return
        connection.execute("DELETE FROM image_layers WHERE image = ?", (record.id,))
    rows = [(record.id, n, layer.blob, layer.diff, layer.chain, layer.size) for n, layer in enumerate(record.layers)]
    connection.executemany("INSERT INTO image_layers VALUES (?, ?, ?, ?, ?, ?)", rows)


Rows = tuple[
    list[tuple[str, str, float, str, int]],
    list[tuple[str, str, str, str, int]],
    list[tuple[str, str, str]],
    list[tuple[str, str]],
]


def select(connection: sqlite3.Connection) -> Rows:
    """All rows: images, their layers, names, and which images came with which index."""
    return (
        connection.execute("SELECT id, manifest, tagged, parent, removed FROM images").fetchall(),
        connection.execute("SELECT image, blob, diff, chain, size FROM image_layers ORDER BY image, position").fetchall(),
        connection.execute("SELECT name, image, index_digest FROM image_names").fetchall(),
        connection.execute("SELECT digest, image FROM image_indexes").fetchall(),
    )
