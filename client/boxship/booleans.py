"""Truth values as Docker's programs write and read them (Go's strconv.ParseBool)."""

from __future__ import annotations

TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse_boolean(text: str) -> bool | None:
    """What ``text`` says; None where it is no truth value."""
    if text in TRUE:
        return True
    return False if text in FALSE else None
