"""How much of a machine one archive may take."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that no honest image comes near.

    Attributes:
        stream_bytes: length of one archive, uncompressed.
        file_bytes: length of one file, holes included.
        ratio: how many times larger than its compressed form a stream may be, once it exceeds ``ratio_from`` bytes.
        ratio_from: see ``ratio``. gzip's most is 1032.
        entries: entries in one archive.
        header_bytes: length of one extended header or long name (Go's archive/tar has the same bound).
        members: files in an archive of images.
        free_bytes: what is left free on the file system.
    """

    stream_bytes: int = 256 * GIB
    file_bytes: int = 16 * TIB
    ratio: int = 200
    ratio_from: int = 4 * GIB
    entries: int = 4_000_000
    header_bytes: int = MIB
    members: int = 50_000
    free_bytes: int = 64 * MIB


DEFAULT_LIMITS = Limits()
