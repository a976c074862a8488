"""``boxship stats``: a live table, or one sample of each container.

A thread reads each container's stream; the table is drawn twice a second from what they have read last.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_HELP, encode_filters
from boxship.cli.flags import Options, Switch, Text
from boxship.cli.stats_numbers import TITLES, row
from boxship.errors import APIError, BoxshipError, CommandError
from boxship.http.target import quote
from boxship.terminal.table import render

COLUMNS = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
_REFRESH = 0.5
_SILENCE = 3.0
"""Seconds without a sample after which a container's numbers count as unknown."""
_AT_ONCE = 128
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


class StatsOptions(Options):
    """The flags of ``stats``."""

    all = Switch("Show all containers (default shows just running)", short="a")
    format = Text(FORMAT_HELP)
    no_stream = Switch("Disable streaming stats and only pull the first result")
    no_trunc = Switch("Do not truncate output")


class Watched:
    """One container and its newest sample."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sample: dict[str, Any] | None = None
        self.moment = 0.0
        self.error: BoxshipError | None = None
        self.first = threading.Event()

    def take(self, sample: dict[str, Any]) -> None:
        """A sample has come."""
        self.sample, self.moment = sample, time.monotonic()
        self.first.set()

    def end(self, error: BoxshipError | None) -> None:
        """None will come any more."""
        self.sample, self.error = None, error
        self.first.set()

    @property
    def current(self) -> dict[str, Any] | None:
        """The newest sample, None where it is too old to be true."""
        return self.sample if time.monotonic() - self.moment < _SILENCE else None


class Board:
    """The containers of the table, in the order in which they came."""

    def __init__(self, context: Context) -> None:
        self._api = context.api
        self._watched: dict[str, Watched] = {}
        self._lock = threading.Lock()
        self.failure: BoxshipError | None = None

    def add(self, name: str) -> None:
        """Begin to follow a container, unless it is followed already."""
        with self._lock:
            if name in self._watched:
                return
            watched = self._watched[name] = Watched(name)
        threading.Thread(target=self._follow, args=(watched,), daemon=True).start()

    def drop(self, name: str) -> None:
        """Leave a container out."""
        with self._lock:
            self._watched.pop(name, None)

    def watched(self) -> list[Watched]:
        """Those that are followed."""
        with self._lock:
            return list(self._watched.values())

    def follow_events(self, *, every: bool) -> None:
        """Have containers come and go as they start and end (or, with ``every``, are created and removed)."""
        filters = encode_filters(("type=container", *(f"event={name}" for name in (_EVERY if every else _RUNNING))))
        response = self._api.open("GET", "/events", {"filters": filters})
        threading.Thread(target=self._listen, args=(response.lines(), every), daemon=True).start()

    def _listen(self, lines: Iterable[bytes], every: bool) -> None:
        try:
            for line in lines:
                if not line.strip():
                    continue
                event = json.loads(line)
                identifier = event["Actor"]["ID"]
                if event["Action"] in ("die", "destroy"):
                    if event["Action"] == "destroy" or not every:
                        self.drop(identifier)
                else:
                    self.add(identifier)
        except BoxshipError as error:
            self.failure = error

    def _follow(self, watched: Watched) -> None:
        try:
            with self._api.open("GET", f"/containers/{quote(watched.name)}/stats", {"stream": True}) as response:
                for line in response.lines():
                    if line.strip():
                        watched.take(json.loads(line))
            watched.end(None)
        except BoxshipError as error:
            watched.end(error)
        finally:
            if watched.error is None or getattr(watched.error, "status", 0) == 404:
                self.drop(watched.name)


_EVERY = ("create", "start", "destroy")
_RUNNING = ("start", "die", "destroy")


def _run(context: Context, options: StatsOptions, arguments: list[str]) -> int:
    names = arguments or _running(context, every=options.all)
    if options.no_stream:
        return _once(context, options, names)
    board = Board(context)
    if not arguments:
        # Before the first are followed, so that none that starts meanwhile is missed.
        board.follow_events(every=options.all)
    for name in names:
        board.add(name)
    first = board.watched()
    for watched in first:
        watched.first.wait()
    for watched in first:
        if watched.error is not None:
            raise watched.error
    return _draw(context, options, board, chosen=bool(arguments))


def _running(context: Context, *, every: bool) -> list[str]:
    return [container["Id"] for container in context.api.call("GET", "/containers/json", {"all": every or None})]


def _once(context: Context, options: StatsOptions, names: list[str]) -> int:
    """One sample of each, all at once, as each takes a second."""
    api, chosen = context.api, not names

    def ask(name: str) -> dict[str, Any] | APIError:
        try:
            sample: dict[str, Any] = api.call("GET", f"/containers/{quote(name)}/stats", {"stream": False})
        except APIError as error:
            return error
        return sample

    samples: list[dict[str, Any] | APIError] = []
    if names:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(names), _AT_ONCE)) as pool:
            samples = list(pool.map(ask, names))
    rows = []
    for name, sample in zip(names, samples, strict=True):
        if isinstance(sample, APIError):
            # One that has gone since it was listed is nobody's mistake.
            if sample.status == 404 and chosen:
                continue
            raise sample
        rows.append(row(name, sample, truncate=not options.no_trunc))
    context.print(render(options.format, rows, TITLES, COLUMNS), end="")
    return 0


def _draw(context: Context, options: StatsOptions, board: Board, *, chosen: bool) -> int:
    """Show the table until the user, or the last container, has had enough."""
    terminal = sys.stdout.isatty()
    while True:
        watched = board.watched()
        if chosen and not watched:
            return 0
        if board.failure is not None:
            raise CommandError(str(board.failure))
        rows = [row(one.name, one.current, truncate=not options.no_trunc) for one in watched]
        text = render(options.format, rows, TITLES, COLUMNS)
        if terminal:
            text = _HOME + text.replace("\n", f"{_CLEAR_LINE}\n") + _CLEAR_BELOW
        context.print(text, end="")
        sys.stdout.flush()
        time.sleep(_REFRESH)


STATS: Command[StatsOptions] = Command(
    "[OPTIONS] [CONTAINER...]", "Display a live stream of container(s) resource usage statistics", StatsOptions, _run
)
