"""Sparse files in tar streams: GNU's old form, and the three forms PAX records have.

Source: GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from boxshipd.images.errors import InvalidArchive, LimitExceeded

_BLOCK = 512
_FRAGMENTS = 1_000_000


class SparseMap:
    """Where a file has data.

    Attributes:
        fragments: offset in the file and length of each, in bytes, in order.
    """

    __slots__ = ("fragments",)

    def __init__(self, fragments: list[tuple[int, int]]) -> None:
        self.fragments = [fragment for fragment in fragments if fragment[1]]

    def check(self, size: int, length: int) -> None:
        """Refuse a map that doesn't fit its data and its file, or goes backwards.

        Args:
            size: how many bytes of data the archive has.
            length: the length of the file.
        """
        position = total = 0
        for offset, count in self.fragments:
            if offset < position or offset + count > length:
                raise InvalidArchive("archive has a sparse file with an impossible map")
            position = offset + count
            total += count
        if total != size:
            raise InvalidArchive("archive has a sparse file whose map doesn't fit its data")


def from_old_header(block: bytes, next_block: Callable[[], bytes]) -> tuple[SparseMap, int]:
    """GNU's old form: four fragments in the header, more in the blocks after it; the map and the file's length."""
    fragments = _fragments(block, 386, 4)
    extended = block[482]
    while extended:
        more = next_block()
        fragments += _fragments(more, 0, 21)
        extended = more[504]
        if len(fragments) > _FRAGMENTS:
            raise LimitExceeded(f"archive has a sparse file of more than {_FRAGMENTS} fragments")
    return SparseMap(fragments), _field(block[483:495])


def from_pax(records: dict[bytes, list[bytes]], numbers: Callable[[], Iterator[int]]) -> tuple[bytes, SparseMap | None, int]:
    """The forms 0.0, 0.1 and 1.0: the file's real name, its map and its length.

    Args:
        records: the ``GNU.sparse.*`` records, each with its values in order.
        numbers: reads the map that form 1.0 keeps before the data.
    """

    def one(key: bytes, default: bytes = b"") -> bytes:
        return records.get(b"GNU.sparse." + key, [default])[-1]

    name = one(b"name")
    length = _decimal(one(b"realsize") or one(b"size"))
    if one(b"major") == b"1" and one(b"minor", b"0") == b"0":
        stream = numbers()
        count = next(stream)
        if count > _FRAGMENTS:
            raise LimitExceeded(f"archive has a sparse file of more than {_FRAGMENTS} fragments")
        return name, SparseMap([(next(stream), next(stream)) for _ in range(count)]), length
    if mapped := one(b"map"):
        values = [_decimal(value) for value in mapped.split(b",")]
        return name, SparseMap(list(zip(values[::2], values[1::2], strict=False))), length
    offsets = [_decimal(value) for value in records.get(b"GNU.sparse.offset", [])]
    counts = [_decimal(value) for value in records.get(b"GNU.sparse.numbytes", [])]
    if len(offsets) != len(counts):
        raise InvalidArchive("archive has a sparse file with half a map")
    return name, SparseMap(list(zip(offsets, counts, strict=True))), length


def read_numbers(next_block: Callable[[], bytes]) -> Iterator[int]:
    """Decimal numbers, each on its line, in as many blocks as it takes."""
    rest = b""
    while True:
        line, newline, after = rest.partition(b"\n")
        if newline:
            rest = after
            yield _decimal(line)
        elif len(rest) > _BLOCK:
            raise InvalidArchive("archive has a sparse file with an endless number in its map")
        else:
            rest += next_block()


def _fragments(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    pairs = [block[start + 24 * n : start + 24 * n + 24] for n in range(count)]
    return [(_field(pair[:12]), _field(pair[12:])) for pair in pairs if pair.strip(b"\0")]


def _field(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.partition(b"\0")[0].strip(b" ") or b"0", 8)
    except ValueError:
        raise InvalidArchive(f"archive has a sparse file with {field!r} for a number") from None


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise InvalidArchive(f"archive has a sparse file with {value[:40]!r} for a number")
    return int(value)
