"""Times as Docker writes and reads them."""

from __future__ import annotations

import time
from datetime import datetime

from boxshipd.errors import InvalidParameter

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time: never."""

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def rfc3339(moment: int) -> str:
    """ns since the epoch in RFC 3339, with as many digits of a second as are needed; 0 is Go's zero time."""
    if not moment:
        return ZERO
    seconds, fraction = divmod(moment, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else f"{text}Z"


def parse_moment(text: str) -> int:
    """A time in ns since the epoch from a Unix timestamp, RFC 3339 or a duration before now (``1h30m``).

    Raises:
        InvalidParameter: it is none of them.
    """
    try:
        return int(float(text) * 1e9)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError:
        pass
    seconds, rest = 0.0, text
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = next((u for u in ("ms", "us", "ns", "h", "m", "s") if rest[digits:].startswith(u)), "")
        if not digits or not unit:
            raise InvalidParameter(f'failed to parse value as time or duration: "{text}"')
        seconds += float(rest[:digits]) * _UNITS[unit]
        rest = rest[digits + len(unit) :]
    return time.time_ns() - int(seconds * 1e9)
