"""``boxship events``."""

from __future__ import annotations

import json
from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_ONE_HELP, check_filter, encode_filters, template_of
from boxship.cli.flags import Items, Options, Text
from boxship.units import moment, rfc3339


class EventsOptions(Options):
    """The flags of ``events``."""

    filter = Items("Filter output based on conditions provided", short="f", check=check_filter, kind="filter")
    format = Text(FORMAT_ONE_HELP)
    since = Text("Show all events created since timestamp")
    until = Text("Stream events until this timestamp")


def line(event: dict[str, Any]) -> str:
    """An event in one line: time, type, action, object and its attributes in order."""
    nanoseconds = event.get("timeNano") or event.get("time", 0) * 10**9
    when = rfc3339(nanoseconds // 10**9, nanoseconds % 10**9)
    actor = event.get("Actor") or {}
    text = f"{when} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    attributes = actor.get("Attributes") or {}
    if attributes:
        text += " (" + ", ".join(f"{name}={attributes[name]}" for name in sorted(attributes)) + ")"
    return text


def _run(context: Context, options: EventsOptions, _arguments: list[str]) -> int:
    import sys

    template = template_of(options.format)
    query = {
        "since": moment(options.since) or None,
        "until": moment(options.until) or None,
        "filters": encode_filters(options.filter),
    }
    with context.api.open("GET", "/events", query) as response:
        for raw in response.lines():
            if not raw.strip():
                continue
            if options.format == "json":
                context.print(raw.decode().strip())
            else:
                event = json.loads(raw)
                context.print(template.execute(_fields(event)) if template else line(event))
            # Somebody may be waiting for this very line.
            sys.stdout.flush()
    return 0


def _fields(event: dict[str, Any]) -> dict[str, Any]:
    """The event under the names that Go's struct has."""
    names = {"status": "Status", "id": "ID", "from": "From", "scope": "Scope", "time": "Time", "timeNano": "TimeNano"}
    empty = {"Status": "", "ID": "", "From": "", "Scope": ""}
    return {**empty, **{names.get(name, name): value for name, value in event.items()}}


EVENTS: Command[EventsOptions] = Command("[OPTIONS]", "Get real time events from the server", EventsOptions, _run, maximum=0)
