"""The command line as a typer application, made from the same declarations that the parser reads.

It renders help, of which only the command that is asked for is loaded. Commands themselves are run by ``boxship.cli.main``,
which imports one of them and neither typer nor any other, because typer's import alone takes longer than most commands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

from boxship.cli.command import Command, Context, GlobalOptions
from boxship.cli.flags import Absent, Flag, Integer, Items, Options, Size, Switch
from boxship.cli.registry import GROUPS, HIDDEN, TOP, load

PROGRAM = "boxship"


def build(words: list[str]) -> typer.Typer:
    """The application as far as help for ``words`` shows it: that command alone, or names and summaries of those below it."""
    app = typer.Typer(
        name=PROGRAM,
        help="A container engine that speaks Docker's language.",
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help"]},
    )
    app.callback()(_callback(GlobalOptions, lambda options, _words: None, arguments=""))
    _add_all(app, TOP, words)
    for group, (summary, entries) in GROUPS.items():
        if words[:1] not in ([], [group]):
            continue
        nested = typer.Typer(name=group, help=summary, rich_markup_mode=None, no_args_is_help=True)
        nested.callback()(lambda: None)  # a group stays one, however few commands it has
        if words[:1] == [group]:
            _add_all(nested, entries, words[1:], group)
        app.add_typer(nested)
    return app


def _add_all(app: typer.Typer, entries: dict[str, tuple[str, str, str]], words: list[str], *group: str) -> None:
    for name, entry in entries.items():
        if words[:1] == [name]:
            _add(app, name, load(entry), " ".join((PROGRAM, *group, name)))
        elif not words:
            app.command(name, help=entry[2], hidden=name in HIDDEN)(lambda: None)


def _add(app: typer.Typer, name: str, command: Command[Any], path: str) -> None:
    def run(options: Options, words: list[str]) -> None:
        raise typer.Exit(command.run(Context(GlobalOptions(), path), options, words))

    callback = _callback(command.options, run, arguments=command.usage.removeprefix("[OPTIONS]").strip())
    shape = type("Shape", (TyperCommand,), {"collect_usage_pieces": lambda _self, _context: [command.usage or "[OPTIONS]"]})
    text = command.summary + (f"\n\n{command.description}" if command.description else "")
    settings = {"allow_interspersed_args": command.interspersed}
    app.command(name, cls=shape, help=text, hidden=name in HIDDEN, context_settings=settings)(callback)


def _callback(options: type[Options], run: Callable[[Options, list[str]], None], arguments: str) -> Callable[..., None]:
    """A function whose signature says to typer what the declarations say."""

    def callback(**values: Any) -> None:
        given = options()
        words = values.pop("arguments", None) or []
        names = {_identifier(flag): flag for flag in options.flags.values()}
        for identifier, value in values.items():
            flag = names[identifier]
            if value is not None and value != flag.default and list(value if isinstance(value, list) else [0]):
                given.values[flag.name] = tuple(value) if isinstance(value, list) else value
        run(given, words)

    parameters = [_parameter(flag) for flag in options.flags.values()]
    if arguments:
        parameters.append(
            inspect.Parameter(
                "arguments",
                inspect.Parameter.KEYWORD_ONLY,
                default=typer.Argument(None, metavar=arguments, show_default=False, hidden=True),
                annotation=list[str],
            )
        )
    callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    callback.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return callback


def _identifier(flag: Flag[Any]) -> str:
    return "flag_" + flag.name.replace("-", "_")


def _parameter(flag: Flag[Any]) -> inspect.Parameter:
    names = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]
    annotation: Any = str
    default: Any = flag.default if isinstance(flag.default, str) and flag.default else None
    if isinstance(flag, Switch) or (isinstance(flag, Absent) and flag.is_switch):
        annotation, default = bool, bool(flag.default)
    elif isinstance(flag, Items):
        annotation, default = list[str], None
    elif isinstance(flag, (Integer, Size)):
        annotation = str
    hidden = flag.hidden or isinstance(flag, Absent)
    metavar = flag.shown_kind or None
    option = typer.Option(
        default,
        *names,
        help=flag.help + (f" (default {flag.shown})" if flag.shown else ""),
        hidden=hidden,
        show_default=False,
        metavar=None if annotation is bool else metavar,
    )
    return inspect.Parameter(_identifier(flag), inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)


def show_help(words: list[str]) -> None:
    """Print help.

    Args:
        words: the command's words without the program's name; none for the whole program.
    """
    command: Any = typer.main.get_command(build(words))
    context = command.context_class(command, info_name=PROGRAM)
    # Asked for its help and not run with --help: for what it might be run with typer imports all of pydantic.
    for word in words:
        command = command.get_command(context, word)
        context = command.context_class(command, info_name=word, parent=context)
    typer.echo(command.get_help(context))
