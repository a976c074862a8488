"""Times as logs show them."""

from __future__ import annotations

import time


def rfc3339_nano(moment: int) -> bytes:
    """Ns since the epoch in RFC 3339 with nine decimals, in UTC."""
    seconds, fraction = divmod(moment, 1_000_000_000)
    t = time.gmtime(seconds)
    return b"%04d-%02d-%02dT%02d:%02d:%02d.%09dZ" % (t[0], t[1], t[2], t[3], t[4], t[5], fraction)


def rfc3339(moment: int, *, micro: bool) -> str:
    """Ns since the epoch in RFC 3339 of the machine's time zone, to the second or the microsecond."""
    seconds, fraction = divmod(moment, 1_000_000_000)
    t = time.localtime(seconds)
    offset = (t.tm_gmtoff or 0) // 60
    zone = "Z" if not offset else f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    decimals = f".{fraction // 1000:06d}" if micro else ""
    return f"{t[0]:04d}-{t[1]:02d}-{t[2]:02d}T{t[3]:02d}:{t[4]:02d}:{t[5]:02d}{decimals}{zone}"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def stamp(moment: int) -> str:
    """Ns since the epoch as RFC 3164 has it (``Jan _2 15:04:05``), in the machine's time zone."""
    t = time.localtime(moment // 1_000_000_000)
    return f"{_MONTHS[t[1] - 1]} {t[2]:2d} {t[3]:02d}:{t[4]:02d}:{t[5]:02d}"
