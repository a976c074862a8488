"""A process listing for hosts without ps(1): ``-ef``, ``aux`` and the columns of ``-o``, read from /proc.

Source: proc(5), ps(1); columns and their titles are procps'.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import time
from collections.abc import Callable, Sequence

from boxship.types.containers import TopResponse

from boxshipd import host
from boxshipd.errors import InvalidParameter

_TICKS = os.sysconf("SC_CLK_TCK")
_TTY_MAJORS = {4: "tty", 136: "pts/"}


class Process:
    """One process at the moment of its creation here.

    Raises:
        OSError: it has ended.
    """

    def __init__(self, pid: int, boot: float) -> None:
        directory = f"/proc/{pid}"
        with open(f"{directory}/stat", encoding="utf-8", errors="replace") as file:
            head, _, tail = file.read().rpartition(")")
        self.pid = pid
        self.name = head.partition("(")[2]
        fields = tail.split()
        self.state = fields[0]
        self.parent, self.group, self.session = (int(field) for field in fields[1:4])
        self.terminal = int(fields[4])
        self.foreground = int(fields[5])
        self.ticks = int(fields[11]) + int(fields[12])
        self.priority, self.nice, self.threads = (int(field) for field in fields[15:18])
        self.started = boot + int(fields[19]) / _TICKS
        self.size = int(fields[20])
        with open(f"{directory}/cmdline", "rb") as raw:
            words = raw.read().rstrip(b"\0").split(b"\0")
        text = b" ".join(words).decode(errors="replace") or f"[{self.name}]"
        # As ps does: what a program calls itself may be meant to look like something else.
        self.command = "".join(character if character.isprintable() else "?" for character in text)
        with open(f"{directory}/status", encoding="utf-8", errors="replace") as file:
            status = dict(line.split(":", 1) for line in file if ":" in line)
        # The effective ids, as ps shows.
        self.uid, self.gid = int(status["Uid"].split()[1]), int(status["Gid"].split()[1])
        self.resident = int(status.get("VmRSS", "0").split()[0]) * 1024
        self.locked = status.get("VmLck", "0").split()[0] != "0"

    @property
    def lived(self) -> float:
        """Seconds since its start, never 0."""
        return max(time.time() - self.started, 1 / _TICKS)


def _user(process: Process) -> str:
    try:
        return pwd.getpwuid(process.uid).pw_name
    except KeyError:
        return str(process.uid)


def _group(process: Process) -> str:
    try:
        return grp.getgrgid(process.gid).gr_name
    except KeyError:
        return str(process.gid)


def _terminal(process: Process) -> str:
    if not process.terminal:
        return "?"
    major, minor = os.major(process.terminal), os.minor(process.terminal)
    return f"{_TTY_MAJORS.get(major, f'{major}:')}{minor}"


def _clock(seconds: float, *, hours: bool) -> str:
    minutes, rest = divmod(int(seconds), 60)
    if not hours:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def _elapsed(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86400)
    text = _clock(rest, hours=days > 0 or rest >= 3600)
    return f"{days}-{text}" if days else text.rjust(5, "0")


def _start(process: Process) -> str:
    moment, now = time.localtime(process.started), time.localtime()
    if moment[:3] == now[:3]:
        return time.strftime("%H:%M", moment)
    return time.strftime("%b%d" if moment.tm_year == now.tm_year else "%Y", moment)


def _states(process: Process) -> str:
    flags = {
        "<": process.nice < 0,
        "N": process.nice > 0,
        "L": process.locked,
        "s": process.session == process.pid,
        "l": process.threads > 1,
        "+": process.foreground == process.group,
    }
    return process.state + "".join(flag for flag, holds in flags.items() if holds)


def _processor(process: Process) -> float:
    return process.ticks / _TICKS / process.lived * 100


Column = tuple[str, Callable[[Process], str]]
COLUMNS: dict[str, Column] = {
    "pid": ("PID", lambda p: str(p.pid)),
    "ppid": ("PPID", lambda p: str(p.parent)),
    "pgid": ("PGID", lambda p: str(p.group)),
    "sid": ("SID", lambda p: str(p.session)),
    "user": ("USER", _user),
    "uid": ("UID", lambda p: str(p.uid)),
    "group": ("GROUP", _group),
    "gid": ("GID", lambda p: str(p.gid)),
    "comm": ("COMMAND", lambda p: p.name),
    "args": ("COMMAND", lambda p: p.command),
    "cmd": ("CMD", lambda p: p.command),
    "s": ("S", lambda p: p.state),
    "stat": ("STAT", _states),
    "tty": ("TT", _terminal),
    "time": ("TIME", lambda p: _clock(p.ticks / _TICKS, hours=True)),
    "etime": ("ELAPSED", lambda p: _elapsed(p.lived)),
    "etimes": ("ELAPSED", lambda p: str(int(p.lived))),
    "stime": ("STIME", _start),
    "vsz": ("VSZ", lambda p: str(p.size // 1024)),
    "rss": ("RSS", lambda p: str(p.resident // 1024)),
    "nlwp": ("NLWP", lambda p: str(p.threads)),
    "ni": ("NI", lambda p: str(p.nice)),
    "pri": ("PRI", lambda p: str(39 - p.priority)),
    "pcpu": ("%CPU", lambda p: f"{_processor(p):.1f}"),
    "pmem": ("%MEM", lambda p: f"{p.resident / host.memory_total() * 100:.1f}"),
}
_ALIASES = {
    "%cpu": "pcpu",
    "%mem": "pmem",
    "command": "args",
    "euser": "user",
    "euid": "uid",
    "state": "s",
    "tt": "tty",
    "tname": "tty",
    "rssize": "rss",
    "vsize": "vsz",
    "ucmd": "comm",
    "ucomm": "comm",
    "nice": "ni",
    "thcount": "nlwp",
    "cputime": "time",
    "start_time": "stime",
    "pgrp": "pgid",
    "sess": "sid",
    "session": "sid",
}
_FULL: tuple[Column, ...] = (
    ("UID", _user),
    COLUMNS["pid"],
    COLUMNS["ppid"],
    ("C", lambda p: str(min(99, int(_processor(p))))),
    COLUMNS["stime"],
    ("TTY", _terminal),
    COLUMNS["time"],
    COLUMNS["cmd"],
)
_BSD: tuple[Column, ...] = (
    *(COLUMNS[name] for name in ("user", "pid", "pcpu", "pmem", "vsz", "rss")),
    ("TTY", _terminal),
    COLUMNS["stat"],
    ("START", _start),
    ("TIME", lambda p: _clock(p.ticks / _TICKS, hours=False)),
    ("COMMAND", lambda p: p.command),
)


def table(arguments: str, pids: Sequence[int]) -> TopResponse:
    """The processes ``pids`` as ps with ``arguments`` shows them; those that have ended are left out.

    Raises:
        InvalidParameter: the arguments are none of those known here.
    """
    columns = chosen(arguments)
    with open("/proc/stat", encoding="ascii") as file:
        boot = next(float(line.split()[1]) for line in file if line.startswith("btime"))
    rows = []
    for pid in pids:
        try:
            process = Process(pid, boot)
        except OSError:
            continue
        rows.append([value(process) for _, value in columns])
    return TopResponse(titles=[title for title, _ in columns], processes=rows)


def chosen(arguments: str) -> tuple[Column, ...]:
    """The columns that ps's arguments ask for. Raises InvalidParameter."""
    words = arguments.split()
    if words in (["-ef"], ["-e", "-f"], ["-fe"], ["-Af"]):
        return _FULL
    if words in (["aux"], ["-aux"], ["axu"]):
        return _BSD
    found: list[Column] = []
    for position, word in enumerate(words):
        match = re.fullmatch(r"-?[eA]?o(\S*)|--format=(\S+)", word)
        if match is not None:
            found += _named(match[1] or match[2] or "".join(words[position + 1 : position + 2]))
        elif word not in ("-e", "-A", "ax") and not (position and re.fullmatch(r"-?[eA]?o", words[position - 1])):
            found.clear()
            break
    if not found:
        raise InvalidParameter(f"ps is not installed on this host; without it top knows -ef, aux and -o, not {arguments!r}")
    if "PID" not in (title for title, _ in found):
        raise InvalidParameter("Couldn't find PID field in ps output")
    return tuple(found)


def _named(names: str) -> list[Column]:
    """The columns of a list (``pid,comm=NAME``). Raises InvalidParameter."""
    found = []
    for item in filter(None, names.split(",")):
        name, equals, title = item.partition("=")
        column = COLUMNS.get(_ALIASES.get(name, name))
        if column is None:
            raise InvalidParameter(f"ps is not installed on this host, and {name!r} is no column that top knows without it")
        found.append((title if equals else column[0], column[1]))
    return found
