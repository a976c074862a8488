"""Durations in Go's notation, which Docker's options have."""

from __future__ import annotations

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """``1m30.5s`` as 90.5; ``0`` and empty as 0.

    Raises:
        ValueError: it is no duration.
    """
    if text in ("", "0"):
        return 0.0
    total, number, rest = 0.0, "", text
    while rest:
        number = ""
        while rest and (rest[0].isdigit() or rest[0] == "."):
            number, rest = number + rest[0], rest[1:]
        unit = ""
        while rest and not (rest[0].isdigit() or rest[0] == "."):
            unit, rest = unit + rest[0], rest[1:]
        if not number or unit not in _UNITS:
            raise ValueError(f"invalid duration {text!r}")
        total += float(number) * _UNITS[unit]
    return total
