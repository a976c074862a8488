"""Values as Go's ``fmt`` prints them: that is how BuildKit words an image's history.

Source: Go strconv/quote.go, time/format.go (Duration.String), fmt's %v and %+v of slices and structs.
"""

from __future__ import annotations

from collections.abc import Iterable

_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", '"': r"\"", "\\": r"\\"}
_MILLISECOND, _MICROSECOND, _SECOND = 1_000_000, 1_000, 1_000_000_000


def quoted(text: str) -> str:
    """``%q`` of a string."""
    return f'"{"".join(_character(each) for each in text)}"'


def _character(each: str) -> str:
    if each in _ESCAPES:
        return _ESCAPES[each]
    if each.isprintable():
        return each
    code = ord(each)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted_list(values: Iterable[str]) -> str:
    """``%q`` of a slice of strings: ``["sh" "-c"]``."""
    return f"[{' '.join(quoted(each) for each in values)}]"


def plain_list(values: Iterable[str]) -> str:
    """``%v`` of a slice of strings: ``[/a /b]``."""
    return f"[{' '.join(values)}]"


def duration(nanoseconds: int) -> str:
    """``%v`` of a duration that isn't negative: ``1h2m0.5s``."""
    if not nanoseconds:
        return "0s"
    if nanoseconds < _SECOND:
        for unit, name in ((_MILLISECOND, "ms"), (_MICROSECOND, "µs")):
            if nanoseconds >= unit:
                return _decimal(nanoseconds, unit) + name
        return f"{nanoseconds}ns"
    minutes, rest = divmod(nanoseconds, 60 * _SECOND)
    text = _decimal(rest, _SECOND) + "s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{fraction:0{digits}d}".rstrip("0") if fraction else str(whole)
