"""Networks on record. Leases aren't here: they are a part of the states of the containers that hold them."""

from __future__ import annotations

import sqlite3

from boxshipd.networks.model import Network, decode, encode


def read(db: sqlite3.Connection) -> list[Network]:
    """Every network."""
    return [decode(row[0]) for row in db.execute("SELECT record FROM networks").fetchall()]


def insert(db: sqlite3.Connection, network: Network) -> None:
    """Record a network, in place of an older one of the same id."""
    db.execute(
        "INSERT OR REPLACE INTO networks (id, name, record) VALUES (?, ?, ?)", (network.id, network.name, encode(network))
    )


def delete(db: sqlite3.Connection, network_id: str) -> None:
    """Forget a network."""
    db.execute("DELETE FROM networks WHERE id = ?", (network_id,))
