"""JSON as Go reads it, where ``null`` for a field means that it isn't given.

Docker's clients in other languages rely on that and send ``null`` for strings and numbers. Types are strict in msgspec, so
a body that doesn't fit is read once more without the nulls of its structures. In maps they stay: there, as in
``{"80/tcp": null}``, the key is what is meant.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def decode_leniently(body: bytes, kind: type[T]) -> T:
    """Decode JSON as a ``kind``, taking a null field for an absent one.

    Raises:
        msgspec.DecodeError: the body isn't JSON, or (ValidationError) doesn't fit.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        if b"null" not in body:
            raise
        import msgspec.inspect as inspection

        value = msgspec.json.decode(body)
        return msgspec.convert(_without_nulls(value, inspection.type_info(kind), inspection), type=kind)


def _without_nulls(value: Any, kind: Any, inspection: Any) -> Any:
    if isinstance(kind, inspection.UnionType):
        for member in kind.types:
            if isinstance(value, dict) and isinstance(member, (inspection.StructType, inspection.DictType)):
                return _without_nulls(value, member, inspection)
            if isinstance(value, list) and isinstance(member, inspection.ListType):
                return _without_nulls(value, member, inspection)
        return value
    if isinstance(kind, inspection.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in kind.fields}
        return {
            key: _without_nulls(entry, fields[key], inspection) if key in fields else entry
            for key, entry in value.items()
            if entry is not None
        }
    if isinstance(kind, inspection.DictType) and isinstance(value, dict):
        return {key: _without_nulls(entry, kind.value_type, inspection) for key, entry in value.items()}
    if isinstance(kind, inspection.ListType) and isinstance(value, list):
        return [_without_nulls(entry, kind.item_type, inspection) for entry in value]
    return value
