"""The daemon's command line: the flags of ``boxshipd.options``, in the grammar of dockerd's (pflag's).

Read here and not by a library, because a library's import takes longer than all of the daemon's own, and it speaks another
grammar (``--debug=false``, ``-Hunix:///x``).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from boxshipd.config import ABSENT_FLAGS, ConfigError, refuse_absent
from boxshipd.options import FLAGS, Option

_OWN = (
    Option("config-file", "config-file", "text", "Daemon configuration file"),
    Option("validate", "validate", "bool", "Validate the configuration and exit"),
    Option("version", "version", "bool", "Print version information and quit", "v"),
    Option("help", "help", "bool", "Show this message and exit", "h"),
)
"""Flags that are no part of the configuration."""
_OPTIONS = (*_OWN, *FLAGS)
_LONG = {option.flag: option for option in _OPTIONS}
_SHORT = {option.short: option for option in _OPTIONS if option.short}
_SHORT_ABSENT = {"s": "storage-driver"}
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_WIDTH = 100


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
        given = _parse(arguments)
        self.config_file: str | None = given.pop("config-file", None)
        self.validate, self.version, self.help = (bool(given.pop(key, False)) for key in ("validate", "version", "help"))
        self.flags = given


def _parse(arguments: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    waiting = list(reversed(arguments))
    while waiting:
        argument = waiting.pop()
        if argument.startswith("--") and len(argument) > 2:
            name, equals, value = argument[2:].partition("=")
            _take_long(values, name, value if equals else None, waiting)
        elif argument.startswith("-") and len(argument) > 1 and argument != "--":
            _take_short(values, argument, waiting)
        else:
            raise ConfigError(f'"boxshipd" accepts no arguments: {argument}')
    return values


def _take_long(values: dict[str, Any], name: str, value: str | None, waiting: list[str]) -> None:
    option = _LONG.get(name)
    if option is None:
        _refuse(name, f"--{name}", value, waiting)
    elif value is not None or option.kind == "bool":
        _store(values, option, "true" if value is None else value)
    elif waiting:
        _store(values, option, waiting.pop())
    else:
        raise ConfigError(f"flag needs an argument: --{name}")


def _take_short(values: dict[str, Any], argument: str, waiting: list[str]) -> None:
    """One-letter flags: several switches in one word, or one with its value behind it."""
    letters = argument[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        option = _SHORT.get(letter)
        if option is None:
            given = letters.removeprefix("=") or None
            _refuse(_SHORT_ABSENT.get(letter, ""), f"-{letter}", given, waiting)
            return
        if letters and (letters.startswith("=") or option.kind != "bool"):
            _store(values, option, letters.removeprefix("="))
            return
        _take_long(values, option.flag, None, waiting)


def _refuse(name: str, written: str, value: str | None, waiting: list[str]) -> None:
    """A flag that isn't one here: dockerd's is refused by what is missing, unless its value asks for nothing.

    Raises:
        ConfigError: it is refused, or nobody knows it.
    """
    if name not in ABSENT_FLAGS:
        raise ConfigError(f"unknown flag: {written}")
    if value is None:
        value = waiting.pop() if waiting and not waiting[-1].startswith("-") else "true"
    refuse_absent(ABSENT_FLAGS[name], {"true": True, "false": False}.get(value, value), f"--{name}")


def _store(values: dict[str, Any], option: Option, text: str) -> None:
    if option.kind == "bool":
        if text not in _TRUE | _FALSE:
            raise ConfigError(f'invalid argument "{text}" for "--{option.flag}" flag: it must be true or false')
        values[option.key] = text in _TRUE
    elif option.kind == "int":
        try:
            values[option.key] = int(text)
        except ValueError:
            raise ConfigError(f'invalid argument "{text}" for "--{option.flag}" flag: it must be a whole number') from None
    elif option.kind == "text":
        values[option.key] = text
    else:
        values.setdefault(option.key, []).append(text)


def help_text() -> str:
    """What ``--help`` shows."""
    rows = [(_spelling(option), option.help) for option in _OPTIONS]
    indent = " " * (max(len(spelling) for spelling, _ in rows) + 4)
    lines = [
        textwrap.fill(text, _WIDTH, initial_indent=f"  {spelling}".ljust(len(indent)), subsequent_indent=indent)
        for spelling, text in rows
    ]
    return "\n".join(["Usage: boxshipd [OPTIONS]", "", "A container engine that speaks the Docker Engine API.", "", *lines, ""])


def _spelling(option: Option) -> str:
    short = f"-{option.short}, " if option.short else "    "
    value = {"bool": "", "int": " int", "text": " string"}.get(option.kind, " list")
    return f"{short}--{option.flag}{value}"
