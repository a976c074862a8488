"""Saying what went wrong where nobody asked: on standard error, which is the supervisor's log."""

from __future__ import annotations

import os


def complain(process: str, text: str) -> None:
    """Write a line. Where the log is gone, or full, that is nothing to die of."""
    try:
        os.write(2, f"{process}: {text}\n".encode(errors="replace"))
    except OSError:
        return
