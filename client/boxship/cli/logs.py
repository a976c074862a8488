"""``boxship logs``."""

from __future__ import annotations

from boxship.cli.attached import write_all
from boxship.cli.command import Command, Context
from boxship.cli.flags import Options, Switch, Text
from boxship.errors import CommandError, InvalidValue, ProtocolError
from boxship.http.target import quote
from boxship.streams import STDERR, SYSTEM_ERROR, logs
from boxship.units import moment


class LogsOptions(Options):
    """The flags of ``logs``."""

    details = Switch("Show extra details provided to logs")
    follow = Switch("Follow log output", short="f")
    since = Text('Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)')
    tail = Text("Number of lines to show from the end of the logs", short="n", default="all", shown='"all"')
    timestamps = Switch("Show timestamps", short="t")
    until = Text('Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)')


def _moment(flag: str, text: str) -> str | None:
    try:
        return moment(text) or None
    except InvalidValue as error:
        raise CommandError(f'invalid value for "{flag}": {error}') from error


def _run(context: Context, options: LogsOptions, arguments: list[str]) -> int:
    api = context.api
    about = api.call("GET", f"/containers/{quote(arguments[0])}/json")
    query = {
        "stdout": True,
        "stderr": True,
        "follow": options.follow or None,
        "details": options.details or None,
        "timestamps": options.timestamps or None,
        "since": _moment("since", options.since),
        "until": _moment("until", options.until),
        "tail": options.tail,
    }
    for kind, data in logs(api, about["Id"], query, tty=bool(about["Config"]["Tty"])):
        if kind == SYSTEM_ERROR:
            raise ProtocolError(data.decode("utf-8", "replace").strip())
        write_all(2 if kind == STDERR else 1, data)
    return 0


LOGS: Command[LogsOptions] = Command(
    "[OPTIONS] CONTAINER", "Fetch the logs of a container", LogsOptions, _run, minimum=1, maximum=1
)
