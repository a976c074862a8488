"""Reading containers' logs: by tail, by time, and following them for as long as the container lives."""

from boxshipd.logs.options import LogOptions, LogSource
from boxshipd.logs.reader import read_logs

__all__ = ["LogOptions", "LogSource", "read_logs"]
