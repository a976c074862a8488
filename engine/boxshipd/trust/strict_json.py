"""JSON in which nothing can be read in two ways.

Of a key that an object has twice, one parser takes the first value and another the last, and a third both. What is signed, and
what says who may sign, must not depend on the parser. Source: containers/image signature/internal/json.go, which refuses
the same.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

import msgspec

T = TypeVar("T")


class StrictJSONError(ValueError):
    """The text isn't JSON, or can be read in several ways."""


def decode_strictly(kind: type[T], data: bytes) -> T:
    """Decode one document: UTF-8, no key twice in an object, no NaN, and exactly what ``kind`` has.

    Args:
        kind: the type wanted; whether fields unknown to it are refused is the type's own affair.
        data: the document, whose size the caller has bounded.

    Raises:
        StrictJSONError: it isn't that.
    """
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        return msgspec.convert(document, kind, strict=True)
    except RecursionError:
        raise StrictJSONError("it is nested too deeply") from None
    except (ValueError, msgspec.ValidationError) as error:
        raise StrictJSONError(str(error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise StrictJSONError(f"the key {twice[:100]!r} appears twice in one object")
    return entries


def _refuse_constant(name: str) -> NoReturn:
    raise StrictJSONError(f"{name} isn't JSON")
