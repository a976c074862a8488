"""The shim's side of logging: a container's output, framed, written and rotated, or sent away.

``writer`` is what a shim asks of a log. Two formats of files: ``json_file`` is Docker's, ``local`` is compact. The drivers that
send (``journald``, ``syslog``, ``fluentd``, ``gelf``) work in a process of their own (``sender``), which ``remote`` feeds.

Runs in a process forked from the zygote, so it imports only what is already there.
"""

from boxrun.shim.logs.drivers import open_log
from boxrun.shim.logs.frames import FINAL, FRAME_HEAD, FRAME_TAIL, MAX_PAYLOAD, PARTIAL
from boxrun.shim.logs.json_file import escape
from boxrun.shim.logs.rotation import GZIP_HEAD
from boxrun.shim.logs.writer import MAX_LINE, LogWriter, NoLog, Position, Stream

__all__ = [
    "FINAL",
    "FRAME_HEAD",
    "FRAME_TAIL",
    "GZIP_HEAD",
    "MAX_LINE",
    "MAX_PAYLOAD",
    "PARTIAL",
    "LogWriter",
    "NoLog",
    "Position",
    "Stream",
    "escape",
    "open_log",
]
