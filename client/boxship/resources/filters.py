"""Filters in the API's form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def encode_filters(filters: Mapping[str, Sequence[str]] | None) -> str | None:
    """Names to values as JSON, None for none."""
    if not filters:
        return None
    return json.dumps({name: list(values) for name, values in filters.items()}, separators=(",", ":"))
