"""One thing that the cache keeps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from boxship.types.build_cache import CacheKind

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 25


@dataclass(slots=True)
class Record:
    """One thing that the cache keeps: what a vertex made, or a directory of a cache mount.

    Attributes:
        id: what clients call it.
        key: what it is found by.
        kind: what it is, in BuildKit's words.
        description: the vertex's name, or what the directory is.
        parents: the ids of the records that it was made of.
        outputs: the vertex's outputs, as ``KeptLayers`` calls them; none for a directory.
        size: bytes of what it alone adds on the disk.
        created: when it was made, in seconds since the epoch.
        used: when it was last of use.
        uses: how often it was.
        holders: how many builds use it at this moment.
        durable: the database has it.
    """

    id: str
    key: str
    kind: CacheKind
    description: str
    created: float
    parents: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    size: int = 0
    used: float = 0.0
    uses: int = 0
    holders: int = 0
    durable: bool = False


def record_id(key: str) -> str:
    """What a record of a key is called: as long as BuildKit's names, and as unlikely to be another's."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16])
    digits = []
    for _ in range(_ID_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
