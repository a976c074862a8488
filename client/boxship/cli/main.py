"""The program ``boxship``: finds the command, imports only that, runs it, and turns errors into messages and exit statuses."""

from __future__ import annotations

import gc
import os
import sys

from boxship.cli.command import Command, Context, GlobalOptions
from boxship.cli.flags import HelpRequested, Options, parse
from boxship.cli.registry import ABSENT, ABSENT_IN_GROUP, ALIASES, GROUPS, TOP, load
from boxship.errors import APIError, BoxshipError, CommandError, DaemonUnreachable, Terminated, UsageError

FLAG_FAILURE = 125
COMPLETE = "__complete"
"""What the shells' completion scripts call."""


def main() -> None:
    """Run the command line and end the process with its exit status."""
    # Importing makes many objects and no garbage; collecting in between would cost a tenth of a command's start.
    gc.set_threshold(50_000)
    try:
        status = run(sys.argv[1:])
    except OSError as error:
        status = _output_failed(error)
    except Terminated as ending:
        import signal

        # The terminal is restored; now end the way the signal asks for, so that the shell sees it.
        signal.signal(ending.signum, signal.SIG_DFL)
        signal.raise_signal(ending.signum)
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _output_failed(error)
    # Everything is flushed and closed: tearing the interpreter down would only cost time.
    os._exit(status)


def run(words: list[str]) -> int:
    """Run a command line, given without the program's name; the exit status."""
    if words and words[0] == COMPLETE:
        from boxship.cli.candidates import complete

        sys.stdout.write(complete(words[1:]))
        return 0
    options = GlobalOptions()
    try:
        rest = parse(options, words, interspersed=False)
    except HelpRequested:
        return _help()
    except UsageError as error:
        return _refuse(
            f"{error}\n\nUsage:  boxship [OPTIONS] COMMAND [ARG...]\n\nRun 'boxship --help' for more information", error.status
        )
    except CommandError as error:
        return _refuse(str(error), FLAG_FAILURE)
    if options.version:
        from boxship import __version__

        sys.stdout.write(f"Boxship version {__version__}\n")
        return 0
    if not rest or rest == ["help"]:
        return _help()
    if rest[0] == "help":
        rest = [*rest[1:], "--help"]
    return _dispatch(options, rest)


def _dispatch(options: GlobalOptions, words: list[str]) -> int:
    name, rest = words[0], words[1:]
    if name in GROUPS:
        return _dispatch_group(options, name, rest)
    if name in ABSENT:
        return _refuse(f"boxship: '{name}' is not available in Boxship 0.1", FLAG_FAILURE if name == "exec" else 1)
    if name not in TOP:
        return _refuse(f"boxship: unknown command: boxship {name}\n\nRun 'boxship --help' for more information", 1)
    return invoke(load(TOP[name]), Context(options, f"boxship {name}"), rest)


def _dispatch_group(options: GlobalOptions, group: str, words: list[str]) -> int:
    path = f"boxship {group}"
    if not words or words[0] in ("--help", "-h", "help"):
        return _help(group)
    name = ALIASES[group].get(words[0], words[0])
    commands = GROUPS[group][1]
    if name in commands:
        return invoke(load(commands[name]), Context(options, f"{path} {words[0]}"), words[1:])
    if name in ABSENT_IN_GROUP[group]:
        return _refuse(f"boxship: '{group} {name}' is not available in Boxship 0.1", 1)
    if name.startswith("-"):
        return _refuse(
            f"unknown flag: {name}\n\nUsage:  {path} COMMAND\n\nRun '{path} --help' for more information", FLAG_FAILURE
        )
    return _refuse(
        f"boxship: unknown command: {path} {name}\n\nUsage:  {path} COMMAND\n\nRun '{path} --help' for more information", 1
    )


def invoke(command: Command[Options], context: Context, words: list[str]) -> int:
    """Parse a command's own command line and run it.

    Args:
        command: the command.
        context: what it works with.
        words: the command line after the command's name.

    Returns:
        The exit status.
    """
    path = context.path
    options = command.options()
    try:
        arguments = parse(options, words, interspersed=command.interspersed)
    except HelpRequested:
        return _help(*path.split()[1:])
    except UsageError as error:
        return _refuse(f"{error}\n\nUsage:  {path} {command.usage}\n\nRun '{path} --help' for more information", error.status)
    except CommandError as error:
        return _refuse(str(error), FLAG_FAILURE if command.failure == FLAG_FAILURE else 1)
    try:
        command.check_arguments(path, arguments)
        return command.run(context, options, arguments)
    except KeyboardInterrupt:
        return 130
    except UsageError as error:
        return _refuse(str(error), error.status)
    except BoxshipError as error:
        if context.options.debug:
            raise
        return _report(command, path, error)
    finally:
        context.close()


def _report(command: Command[Options], path: str, error: BoxshipError) -> int:
    message = f"Error response from daemon: {error}" if isinstance(error, APIError) else str(error)
    status = error.status if isinstance(error, CommandError) else command.failure
    if command.prefix and not isinstance(error, DaemonUnreachable) and message:
        message = f"boxship: {message}\n\nRun '{path} --help' for more information"
    return _refuse(message, status)


def _refuse(message: str, status: int) -> int:
    if message:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _abandon_output()
        sys.stderr.write(message + "\n")
        sys.stderr.flush()
    return status


def _output_failed(error: OSError) -> int:
    """What becomes of a command whose output can't be written."""
    _abandon_output()
    if isinstance(error, BrokenPipeError):
        # Nobody reads any more; like the shell's tools, say nothing.
        return 128 + 13
    return _refuse(f"boxship: {error.filename or 'write to standard output'}: {error.strerror or error}", 1)


def _abandon_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help(*words: str) -> int:
    from boxship.cli.help import help_text

    if len(words) == 2:
        words = (words[0], ALIASES[words[0]].get(words[1], words[1]))
    sys.stdout.write(help_text(list(words)))
    return 0


if __name__ == "__main__":
    main()
