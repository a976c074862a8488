"""Variables on the command line and in files, and the lines of files in general."""

from __future__ import annotations

import os

from boxship.errors import CommandError, InvalidValue

_FAILURE = 125


def variable(text: str) -> str:
    """A variable as ``--env`` takes it: a name alone gets its value from here, if it has one.

    Raises:
        InvalidValue: there is no name.
    """
    name, equals, _ = text.partition("=")
    if not name:
        raise InvalidValue(f"invalid environment variable: {text}")
    return text if equals or name not in os.environ else f"{name}={os.environ[name]}"


def lines(paths: tuple[str, ...]) -> list[str]:
    """The lines of files: comments and blank lines dropped, leading blanks too.

    Raises:
        CommandError: a file can't be read (status 125).
    """
    found: list[str] = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                found += [line for line in (raw.rstrip("\n\r").lstrip() for raw in file) if line and not line.startswith("#")]
        except OSError as error:
            raise CommandError(f"open {path}: {(error.strerror or str(error)).lower()}", _FAILURE) from error
        except UnicodeDecodeError as error:
            raise CommandError(f"env file {path} contains invalid utf8 bytes", _FAILURE) from error
    return found


def variables(paths: tuple[str, ...]) -> list[str]:
    """The variables of environment files; a name alone takes its value from here, if it has one.

    Raises:
        CommandError: a file can't be read, or a line is no variable (status 125).
    """
    result = []
    for path, line in [(file, line) for file in paths for line in lines((file,))]:
        name, equals, _ = line.partition("=")
        if not name or any(blank in name for blank in " \t"):
            reason = f"variable '{name}' contains whitespaces" if name else f"no variable name on line '{line}'"
            raise CommandError(f"invalid env file ({path}): {reason}", _FAILURE)
        if equals:
            result.append(line)
        elif name in os.environ:
            result.append(f"{name}={os.environ[name]}")
    return result
