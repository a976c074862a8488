"""Values in log options: sizes and booleans as Docker's Go reads them."""

from __future__ import annotations

import re

from boxship import booleans

from boxshipd.errors import InvalidParameter

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKmMgGtTpP]?)[iI]?[bB]?\Z")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def parse_size(text: str) -> int:
    """A size in bytes from a number with a binary unit (``10m``, ``1.5GiB``).

    Raises:
        InvalidParameter: it is none.
    """
    match = _SIZE.match(text)
    if match is None:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_boolean(option: str, text: str, *, default: bool = False) -> bool:
    """A boolean option; ``default`` where it is empty.

    Raises:
        InvalidParameter: it is none.
    """
    if not text:
        return default
    said = booleans.parse_boolean(text)
    if said is None:
        raise InvalidParameter(f'{option}: strconv.ParseBool: parsing "{text}": invalid syntax')
    return said
