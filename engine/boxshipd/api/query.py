"""Query parameters in Docker's notations: booleans, whole numbers, points in time.

Source: Docker's ``daemon/server/httputils/form.go`` and ``daemon/internal/timestamp``.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from urllib.parse import parse_qs

from boxshipd.errors import InvalidParameter

_FALSE = frozenset({"", "0", "no", "false", "none"})
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_SECONDS = re.compile(r"(-?\d+)(?:\.(\d{0,20}))?", re.ASCII)
_DATE = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:T(\d{2})(?::(\d{2}))?(?::(\d{2}))?(?:\.(\d{1,20}))?)?([zZ]|[+-]\d{2}:\d{2})?", re.ASCII
)


class Query:
    """The parameters of a request; a parameter may have several values."""

    __slots__ = ("_values",)

    def __init__(self, query_string: str) -> None:
        self._values = parse_qs(query_string, keep_blank_values=True) if query_string else {}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        """The first value of ``name``; empty where it isn't given."""
        values = self._values.get(name)
        return values[0] if values else ""

    def texts(self, name: str) -> list[str]:
        """Every value of ``name``, in order."""
        return self._values.get(name, [])

    def boolean(self, name: str, default: bool = False) -> bool:
        """Whether ``name`` is true; anything but ``0``, ``no``, ``false``, ``none`` and nothing is, as Docker has it."""
        values = self._values.get(name)
        return values[0].strip().lower() not in _FALSE if values else default

    def integer(self, name: str) -> int | None:
        """The whole number ``name``; None where it isn't given or empty.

        Raises:
            InvalidParameter: it isn't a number.
        """
        text = self.text(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise InvalidParameter(f'invalid value "{text}" for query parameter {name}: it must be a whole number') from None

    def unsigned(self, name: str, what: str) -> int:
        """The number ``name`` from 0 to 4294967295, which must be given; ``what`` names it in the error.

        Raises:
            InvalidParameter: it isn't given, isn't a number or doesn't fit in 32 bits.
        """
        text = self.text(name)
        if not re.fullmatch(r"-?[0-9]+", text):
            raise InvalidParameter(f'invalid {what} "{text}": invalid syntax')
        value = int(text)
        if not 0 <= value < 1 << 32:
            raise InvalidParameter(f'invalid {what} "{text}": value out of range')
        return value

    def time_ns(self, name: str) -> int | None:
        """The point in time ``name`` in ns since the epoch; None where it isn't given or empty.

        Raises:
            InvalidParameter: it is in no notation Docker knows.
        """
        text = self.text(name)
        return parse_time_ns(text, time.time_ns()) if text else None


def parse_time_ns(text: str, now_ns: int) -> int:
    """Read a point in time: Unix seconds with an optional fraction, RFC 3339 (also only its date), or a duration before now.

    Args:
        text: such as ``1700000000.000000001``, ``2024-01-31T10:00:00Z``, ``2024-01-31`` (local time) or ``1h30m``.
        now_ns: what a duration is counted back from, in ns since the epoch.

    Returns:
        Nanoseconds since the epoch.

    Raises:
        InvalidParameter: the text is none of these.
    """
    if match := _SECONDS.fullmatch(text):
        seconds, fraction = match[1], (match[2] or "")[:9].ljust(9, "0")
        return int(seconds) * 1_000_000_000 + int(fraction)
    if (duration := parse_duration_ns(text)) is not None:
        return now_ns - duration
    if match := _DATE.fullmatch(text):
        return _date_ns(text, match)
    raise InvalidParameter(f'failed to parse "{text}" as a time or a duration')


def parse_duration_ns(text: str) -> int | None:
    """Read a duration in Go's notation (``1h30m``, ``1.5s``, ``-10ms``) as nanoseconds; None where it isn't one."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    total, position = 0, 0
    while match := _DURATION.match(digits, position):
        whole, _, fraction = match[1].partition(".")
        unit = _UNIT_NS[match[2]]
        total += int(whole or "0") * unit
        if fraction:
            total += int(fraction) * unit // 10 ** len(fraction)
        position = match.end()
    return sign * total if digits and position == len(digits) else None


def _date_ns(text: str, match: re.Match[str]) -> int:
    date, hour, minute, second, fraction, zone = match.groups()
    zone = "+00:00" if zone in ("z", "Z") else zone or ""
    try:
        moment = datetime.fromisoformat(f"{date}T{hour or '00'}:{minute or '00'}:{second or '00'}{zone}")
    except ValueError as error:
        raise InvalidParameter(f'failed to parse "{text}" as a time: {error}') from None
    seconds = int(moment.astimezone(UTC).timestamp())
    return seconds * 1_000_000_000 + int((fraction or "")[:9].ljust(9, "0"))
