"""Signals by name or number. Source: moby/sys/signal."""

from __future__ import annotations

import signal

from boxshipd.errors import InvalidParameter

_MIN, _MAX = int(signal.SIGRTMIN), int(signal.SIGRTMAX)
_NAMES = {s.name.removeprefix("SIG"): int(s) for s in signal.Signals} | {"CLD": int(signal.SIGCHLD), "POLL": int(signal.SIGIO)}
_NAMES |= {f"RTMIN+{n}": _MIN + n for n in range(1, 16)} | {f"RTMAX-{n}": _MAX - n for n in range(1, 15)}


def parse_signal(text: str) -> int:
    """The number of a signal given as ``SIGTERM``, ``term`` or ``15``.

    Raises:
        InvalidParameter: there is none such.
    """
    if text.isascii() and text.isdigit():
        number = int(text)
        if 1 <= number <= _MAX:
            return number
        raise InvalidParameter(f"invalid signal: {text}")
    number = _NAMES.get(text.upper().removeprefix("SIG"), 0)
    if not number:
        raise InvalidParameter(f"invalid signal: {text}")
    return number
