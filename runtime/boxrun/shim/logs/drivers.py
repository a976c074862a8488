"""From a log's description to its writer."""

from __future__ import annotations

from boxrun.container.spec import Log
from boxrun.shim.logs.json_file import JSONFileLog
from boxrun.shim.logs.local import LocalLog
from boxrun.shim.logs.remote import RemoteLog
from boxrun.shim.logs.writer import LogWriter, NoLog


def open_log(log: Log, channel: int = -1) -> LogWriter:
    """Open the log that ``log`` describes.

    Args:
        log: driver, file and options.
        channel: the predecessor's ``channel``, which is taken over; -1 for a container that starts.

    Raises:
        OSError: its file can't be opened.
        LogDriverError: the place it is sent to can't be reached.
    """
    match log.driver:
        case "none":
            return NoLog()
        case "json-file":
            return JSONFileLog(log)
        case "local":
            return LocalLog(log)
        case _:
            return RemoteLog(log, channel)
