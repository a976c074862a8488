"""Reading containers' logs: by tail, by time, and following them for as long as the container lives."""

from boxshipd.logs.options import LogOptions, LogSource
from boxshipd.logs.reader import open_logs, read_logs

__all__ = ["LogOptions", "LogSource", "open_logs", "read_logs"]
