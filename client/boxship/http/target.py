"""Request targets. ``urllib.parse`` would cost a tenth of a command's start."""

from __future__ import annotations

from collections.abc import Mapping

from boxship.errors import InvalidValue

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def quote(text: str, safe: str = "") -> str:
    """Percent-encode a name in a path, but for unreserved characters and those of ``safe``.

    Raises:
        InvalidValue: it is empty: the path would be another operation's.
    """
    if not text:
        raise InvalidValue("invalid name or ID: value is empty")
    return _encode(text, safe)


def _encode(text: str, safe: str = "") -> str:
    keep = _PLAIN | frozenset(safe.encode())
    return "".join(chr(byte) if byte in keep else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))


def query_string(query: Mapping[str, object]) -> str:
    """Encode a query; ``None`` leaves a key out, booleans become 1 and 0, a list repeats its key."""
    parts: list[str] = []
    for key, value in query.items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is None:
                continue
            text = ("1" if item else "0") if isinstance(item, bool) else str(item)
            parts.append(f"{_encode(key)}={_encode(text)}")
    return "&".join(parts)
