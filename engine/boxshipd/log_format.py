"""The daemon's own log, on stderr: dockerd's key=value lines, or JSON.

Source: dockerd's ``--log-format``, whose two forms these are.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

_LEVELS: Final = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
}
_NAMES: Final = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


class LineFormatter(logging.Formatter):
    """A record as one line; a traceback stays in the line, escaped."""

    def __init__(self, form: str) -> None:
        """Set up; ``form`` is ``text`` or ``json``."""
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        level = _NAMES.get(record.levelno, "fatal")
        fields = {"time": moment, "level": level, "msg": record.getMessage()}
        if record.levelno != logging.INFO:
            fields["logger"] = record.name
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        if self._json:
            return json.dumps(fields, ensure_ascii=False)
        return " ".join(
            f"{key}={value if key == 'level' else json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()
        )


def set_up(level: str, form: str) -> None:
    """Send everything from ``level`` (dockerd's names) on to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(form))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)
    # Nobody reads these fields; collecting them costs something for each record.
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False


def set_level(level: str) -> None:
    """Change what is logged from now on."""
    logging.getLogger().setLevel(_LEVELS[level.lower()])
    # asyncio tells at DEBUG of every selector and executor; that is about asyncio, not about us.
    logging.getLogger("asyncio").setLevel(max(logging.INFO, _LEVELS[level.lower()]))
