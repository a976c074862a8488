"""The C library's heap, as a daemon wants it that runs for months: small and level."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
"""From glibc's malloc.h."""


def share_one_arena() -> bool:
    """Have all threads allocate from one arena, before there is a second thread; whether the C library can.

    Otherwise each thread gets an arena of its own, which is never given up. What an executor's threads read is freed by the
    event loop's, the arenas fragment, and under load the daemon grows by megabytes a minute. Threads that hold the
    interpreter's lock while they allocate don't contend. Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, 1))
