"""The database's versions: each script takes it from one version to the next.

Scripts are only ever appended; ``PRAGMA user_version`` counts how many have been applied.
"""

from __future__ import annotations

import sqlite3

from boxshipd.errors import InternalError

CONTAINERS = """
CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    config BLOB NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID;
"""

IMAGES = """
CREATE TABLE images (
    id TEXT PRIMARY KEY,
    manifest TEXT NOT NULL,
    tagged REAL NOT NULL,
    removed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE image_layers (
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    blob TEXT NOT NULL,
    diff TEXT NOT NULL,
    chain TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (image, position)
) WITHOUT ROWID;
CREATE TABLE image_names (
    name TEXT PRIMARY KEY,
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX image_names_image ON image_names (image);
"""

VOLUMES = """
CREATE TABLE volumes (
    name TEXT PRIMARY KEY,
    record BLOB NOT NULL
) WITHOUT ROWID;
"""

PARENTS = """
ALTER TABLE images ADD COLUMN parent TEXT NOT NULL DEFAULT '';
"""

INDEXES = """
ALTER TABLE image_names ADD COLUMN index_digest TEXT NOT NULL DEFAULT '';
CREATE TABLE image_indexes (
    digest TEXT NOT NULL,
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (digest, image)
) WITHOUT ROWID;
"""

NETWORKS = """
CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    record BLOB NOT NULL
) WITHOUT ROWID;
"""

BUILD_CACHE = """
CREATE TABLE build_layers (
    name TEXT PRIMARY KEY,
    below TEXT NOT NULL,
    blob TEXT NOT NULL,
    diff TEXT NOT NULL,
    chain TEXT NOT NULL,
    size INTEGER NOT NULL,
    blob_size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE build_cache (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    description TEXT NOT NULL,
    parents TEXT NOT NULL,
    outputs TEXT NOT NULL,
    size INTEGER NOT NULL,
    created REAL NOT NULL,
    used REAL NOT NULL,
    uses INTEGER NOT NULL
) WITHOUT ROWID;
"""

MIGRATIONS: tuple[str, ...] = (CONTAINERS, IMAGES, VOLUMES, PARENTS, INDEXES, NETWORKS, BUILD_CACHE)
"""In order; a script's place in the tuple is its version, so that none may be moved or changed once released."""


def migrate(connection: sqlite3.Connection, scripts: tuple[str, ...] = MIGRATIONS) -> None:
    """Bring the database to the newest version, each script in a transaction of its own.

    Raises:
        InternalError: the database was written by a newer version of Boxship.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(scripts):
        raise InternalError(f"state database is of version {version}, newer than the {len(scripts)} this daemon knows")
    for number, script in enumerate(scripts[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
