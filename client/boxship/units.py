"""Sizes, durations and times as Docker's tools write and read them (go-units, Go's time package)."""

from __future__ import annotations

import time

from boxship.errors import InvalidValue

_BINARY = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_NANOSECONDS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
NEVER = "0001-01-01T00:00:00Z"
"""How Go writes a time that isn't."""


def parse_size(text: str) -> int:
    """A size in bytes: ``512``, ``64m``, ``1.5GiB``; every unit is a power of 1024, as for Docker's memory flags.

    Raises:
        InvalidValue: it isn't a size.
    """
    stripped = text.strip()
    end = len(stripped)
    while end and not (stripped[end - 1].isdigit() and stripped[end - 1].isascii()) and stripped[end - 1] != ".":
        end -= 1
    number, unit = stripped[:end], stripped[end:].strip().lower()
    for ending in ("ib", "b"):
        if len(unit) > len(ending) and unit.endswith(ending):
            unit = unit.removesuffix(ending)
            break
    if unit not in _BINARY or not _is_number(number):
        raise InvalidValue(f"invalid size: '{text}'")
    return int(float(number) * 1024 ** _BINARY[unit])


def _is_number(text: str) -> bool:
    digits = text.replace(".", "", 1)
    return digits.isascii() and digits.isdigit()


def human_size(size: float, precision: int = 3) -> str:
    """A size in powers of 1000: ``1.98MB``."""
    return _scaled(size, 1000, ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"), precision)


def binary_size(size: float) -> str:
    """A size in powers of 1024: ``23.54GiB``."""
    return _scaled(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"), 4)


def _scaled(size: float, base: int, units: tuple[str, ...], precision: int) -> str:
    step = 0
    while size >= base and step < len(units) - 1:
        size /= base
        step += 1
    return f"{size:.{precision}g}{units[step]}"


def parse_duration(text: str) -> int:
    """A duration in nanoseconds: ``300ms``, ``1h30m``, ``-1.5s``.

    Raises:
        InvalidValue: it isn't a duration.
    """
    failure = InvalidValue(f'time: invalid duration "{text}"')
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total = 0
    while rest:
        cut = 0
        while cut < len(rest) and (rest[cut].isdigit() or rest[cut] == "."):
            cut += 1
        number, rest = rest[:cut], rest[cut:]
        cut = 0
        while cut < len(rest) and not (rest[cut].isdigit() or rest[cut] == "."):
            cut += 1
        unit, rest = rest[:cut], rest[cut:]
        if not _is_number(number):
            raise failure
        if unit not in _NANOSECONDS:
            missing = "missing unit in duration" if not unit else f'unknown unit "{unit}" in duration'
            raise InvalidValue(f'time: {missing} "{text}"')
        whole, _, fraction = number.partition(".")
        scale = _NANOSECONDS[unit]
        total += int(whole or 0) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
    if not text.lstrip("+-") or total >= 1 << 63:
        raise failure
    return sign * total


def human_duration(seconds: float) -> str:
    """A duration in the words of ``ps``: ``About an hour``, ``3 weeks``."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    minutes, hours = whole // 60, int(seconds / 3600 + 0.5)
    for limit, words in (
        (2, "1 second"),
        (60, f"{whole} seconds"),
        (120, "About a minute"),
        (3600, f"{minutes} minutes"),
    ):
        if whole < limit:
            return words
    if hours == 1:
        return "About an hour"
    for limit, count, word in ((48, hours, "hours"), (24 * 14, hours // 24, "days"), (24 * 60, hours // 24 // 7, "weeks")):
        if hours < limit:
            return f"{count} {word}"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def parse_time(text: str) -> float:
    """An RFC 3339 time, as the API gives it, in seconds since the epoch.

    Raises:
        InvalidValue: it isn't one.
    """
    from datetime import UTC, datetime

    head, dot, tail = text.partition(".")
    digits = len(tail) - len(tail.lstrip("0123456789"))
    fraction, zone = (tail[:digits], tail[digits:]) if dot else ("", "")
    try:
        # datetime knows microseconds only.
        moment = datetime.fromisoformat((head + zone).replace("Z", "+00:00"))
    except ValueError as error:
        raise InvalidValue(f"invalid time: '{text}'") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() + (float(f"0.{fraction}") if fraction else 0.0)


def local_time(seconds: float) -> str:
    """A time as Go prints it: ``2026-11-23 22:21:16 +0000 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def rfc3339(seconds: int, nanoseconds: int | None = None) -> str:
    """A time in the local zone as RFC 3339, with nanoseconds where given."""
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    fraction = "" if nanoseconds is None else f".{nanoseconds:09d}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + fraction + ("Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}")


def moment(text: str, now: float | None = None) -> str:
    """A ``--since`` or ``--until`` value in the API's form, seconds with nanoseconds after a point.

    Args:
        text: a duration back from now (``42m``), an RFC 3339 time (or its beginning, in the local zone), or a Unix time.
        now: seconds since the epoch, for durations.

    Raises:
        InvalidValue: it is none of these.
    """
    if not text:
        return ""
    if _is_number(text.removeprefix("-")):
        return text
    try:
        nanoseconds = parse_duration(text)
    except InvalidValue:
        return f"{_absolute(text):.9f}"
    return f"{(time.time() if now is None else now) - nanoseconds / 1e9:.9f}"


def _absolute(text: str) -> float:
    zoned = text.endswith("Z") or "+" in text[10:] or "-" in text[10:]
    if zoned:
        return parse_time(text)
    head, _, fraction = text.partition(".")
    for layout in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d"):
        try:
            return time.mktime(time.strptime(head, layout)) + (float(f"0.{fraction}") if fraction.isdigit() else 0.0)
        except ValueError:
            continue
    raise InvalidValue(f'failed to parse value as time or duration: "{text}"')
