"""The daemon's command line: the flags of ``boxshipd.options``, in the grammar of dockerd's, which is the client's as well."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from boxship.cli.flags import Flag, HelpRequested, Integer, Items, Options, Switch, Text, parse
from boxship.errors import CommandError

from boxshipd.config import ABSENT, ABSENT_FLAGS, ConfigError, refuse_absent
from boxshipd.options import FLAGS, Option

_WIDTH = 100
_SHORT_ABSENT = {"storage-driver": "s"}


class _Absent(Text):
    """A flag of dockerd's for what isn't there: refused by what is missing, unless its value asks for nothing."""

    def take(self, text: str, current: str) -> str:
        """Refuse. Raises ConfigError."""
        value = text if self.takes_value else {"true": True, "false": False}.get(text, text)
        refuse_absent(ABSENT_FLAGS[self.name], value, f"--{self.name}")
        return current


class _AbsentSwitch(_Absent):
    takes_value = False


def _flag(option: Option) -> Flag[Any]:
    match option.kind:
        case "bool":
            return Switch(option.help, short=option.short, name=option.flag)
        case "int":
            return Integer(option.help, short=option.short, name=option.flag)
        case "text":
            return Text(option.help, short=option.short, name=option.flag)
        case _:
            return Items(option.help, short=option.short, name=option.flag)


def _absent(flag: str) -> Flag[Any]:
    switch = any(isinstance(value, bool) for value in ABSENT[ABSENT_FLAGS[flag]])
    return (_AbsentSwitch if switch else _Absent)("", name=flag, short=_SHORT_ABSENT.get(flag, ""), hidden=True)


class _Own(Options):
    """Flags that are no part of the configuration."""

    config_file = Text("Daemon configuration file")
    validate = Switch("Validate the configuration and exit")
    version = Switch("Print version information and quit", short="v")


_FLAGS = (*map(_flag, FLAGS), *map(_absent, ABSENT_FLAGS))
_Flags: type[Options] = type("_Flags", (_Own,), {flag.name: flag for flag in _FLAGS})


class CommandLine:
    """What a command line says.

    Args:
        arguments: the words after the program's name.

    Raises:
        ConfigError: a flag is unknown or not available, or its value is none.

    Attributes:
        flags: the configuration's part of it, by the configuration's keys, in the form the configuration file has them.
        config_file: the file that was named, None for the default one.
        validate: whether only to look at the configuration.
        version: whether to tell the version.
        help: whether to show the flags.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        options = _Flags()
        self.help = False
        try:
            if words := parse(options, arguments):
                raise ConfigError(f'"boxshipd" accepts no arguments: {words[0]}')
        except HelpRequested:
            self.help = True
        except CommandError as error:
            raise ConfigError(str(error)) from error
        given = options.values
        self.config_file: str | None = given.get("config-file")
        self.validate, self.version = bool(given.get("validate")), bool(given.get("version"))
        self.flags = {option.key: _plain(given[option.flag]) for option in FLAGS if option.flag in given}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def help_text() -> str:
    """What ``--help`` shows."""
    shown = [flag for flag in _Flags.flags.values() if not flag.hidden]
    rows = [*((_spelling(flag), flag.help) for flag in shown), ("    --help", "Show this message and exit")]
    indent = " " * (max(len(spelling) for spelling, _ in rows) + 4)
    lines = [
        textwrap.fill(text, _WIDTH, initial_indent=f"  {spelling}".ljust(len(indent)), subsequent_indent=indent)
        for spelling, text in rows
    ]
    return "\n".join(["Usage: boxshipd [OPTIONS]", "", "A container engine that speaks the Docker Engine API.", "", *lines, ""])


def _spelling(flag: Flag[Any]) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    return f"{short}--{flag.name} {flag.shown_kind}".rstrip()
