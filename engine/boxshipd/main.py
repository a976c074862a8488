"""The ``boxshipd`` program: flags and configuration file in, a running daemon out."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import msgspec
import typer
from boxship.booleans import parse_boolean

from boxshipd import __version__
from boxshipd.config import ABSENT_FLAGS, ConfigError, load, refuse_absent
from boxshipd.errors import DaemonError
from boxshipd.options import FLAGS, Option

_SWITCHES = {f"--{option.flag}" for option in FLAGS if option.kind == "bool"}
_SHORT_SWITCHES = {f"-{option.short}": f"--{option.flag}" for option in FLAGS if option.kind == "bool" and option.short}
_SHORT_ABSENT = {"-s": "storage-driver"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the daemon; ends the process with its exit code."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": ["--help", "-h"]}
    app.command(context_settings=settings)(_command())
    command = typer.main.get_command(app)
    command.main(args=spell_out(sys.argv[1:] if arguments is None else arguments), prog_name="boxshipd")


def spell_out(arguments: Sequence[str]) -> list[str]:
    """Give every switch its value, as in ``--debug=true``: Go's flags may carry one, and a switch alone means true."""
    spelt = []
    for argument in arguments:
        name = _SHORT_SWITCHES.get(argument, argument)
        spelt.append(f"{name}=true" if name in _SWITCHES else argument)
    return spelt


def given_flags(options: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, by the configuration's keys, in the form the configuration file has them.

    Raises:
        ConfigError: a switch or number isn't one.
    """
    flags: dict[str, Any] = {}
    for option in FLAGS:
        value = options[_parameter(option)]
        if value is None or value == []:
            continue
        flags[option.key] = _switch(option, value) if option.kind == "bool" else value
    return flags


def refuse_unknown(arguments: Sequence[str]) -> None:
    """Refuse what isn't an option here: dockerd's by what is missing, everything else as dockerd would.

    Raises:
        ConfigError: there is any.
    """
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("-"):
            raise ConfigError(f'"boxshipd" accepts no arguments: {argument}')
        written, equals, value = argument.partition("=")
        name = _SHORT_ABSENT.get(written) or written.removeprefix("--")
        if name not in ABSENT_FLAGS:
            raise ConfigError(f"unknown flag: {written}")
        if not equals:
            value = waiting.pop(0) if waiting and not waiting[0].startswith("-") else "true"
        refuse_absent(ABSENT_FLAGS[name], {"true": True, "false": False}.get(value, value), f"--{name}")


def become_daemon(flags: dict[str, Any], config_file: str | None) -> NoReturn:
    """Go on as the daemon, in a fresh interpreter: what reads flags would stay in its memory for as long as it lives."""
    start = msgspec.json.encode({"flags": flags, "config_file": config_file}).decode()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "boxshipd.daemon", start])


def _switch(option: Option, value: str) -> bool:
    said = parse_boolean(value)
    if said is None:
        raise ConfigError(f'invalid argument "{value}" for "--{option.flag}" flag: it must be true or false')
    return said


def _parameter(option: Option) -> str:
    return option.key.replace("-", "_")


def _command() -> Callable[..., None]:
    """The command with a parameter for each option, so that an option is written down in one place only."""

    def boxshipd(context: typer.Context, config_file: str | None, validate: bool, version: bool, **options: Any) -> None:
        if version:
            typer.echo(f"Boxship version {__version__}")
            return
        try:
            refuse_unknown(context.args)
            flags = given_flags(options)
            policy = load(flags, config_file).signature_policy
            if policy:
                from boxshipd.trust.verifier import open_trust

                open_trust(policy)
        except (ConfigError, DaemonError) as error:
            typer.echo(f"boxshipd: {error}", err=True)
            raise typer.Exit(1) from None
        if validate:
            typer.echo("configuration OK")
            return
        become_daemon(flags, config_file)

    boxshipd.__doc__ = "A container engine that speaks the Docker Engine API."
    fixed = [
        _keyword("context", typer.Context, inspect.Parameter.empty),
        _keyword("config_file", str | None, typer.Option(None, "--config-file", help="Daemon configuration file")),
        _keyword("validate", bool, typer.Option(False, "--validate", help="Validate the configuration and exit")),
        _keyword("version", bool, typer.Option(False, "--version", "-v", help="Print version information and quit")),
    ]
    parameters = fixed + [_keyword(_parameter(option), *_typed(option)) for option in FLAGS]
    boxshipd.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    boxshipd.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return boxshipd


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _typed(option: Option) -> tuple[Any, Any]:
    names = [f"--{option.flag}", *([f"-{option.short}"] if option.short else [])]
    if option.kind in ("list", "map", "ulimits", "runtimes", "pools", "options"):
        return list[str] | None, typer.Option(None, *names, help=option.help)
    if option.kind == "int":
        return int | None, typer.Option(None, *names, help=option.help)
    return str | None, typer.Option(None, *names, help=option.help, metavar="BOOL" if option.kind == "bool" else None)


if __name__ == "__main__":
    main()
