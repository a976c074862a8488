"""Times as Docker writes them."""

from __future__ import annotations

import time

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time: never."""


def rfc3339(moment: int) -> str:
    """ns since the epoch in RFC 3339, with as many digits of a second as are needed; 0 is Go's zero time."""
    if not moment:
        return ZERO
    seconds, fraction = divmod(moment, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else f"{text}Z"
