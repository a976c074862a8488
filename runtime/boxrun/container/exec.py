"""Executing the program: looking it up in the container's PATH, and Docker's words and exit codes when that fails.

Sources: execve(2), environ(7); moby daemon/errors.go for the exit codes, Go's os/exec for the words.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from errno import EACCES, EISDIR, ELOOP, ENOENT, ENOTDIR, EPERM
from typing import Final, NoReturn

from boxrun.errors import StartError

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126


def environment(variables: Sequence[str]) -> dict[str, str]:
    """Return ``NAME=value`` strings as a mapping; later ones win, and those without a value are left out."""
    result = {}
    for variable in variables:
        name, separator, value = variable.partition("=")
        if separator and name:
            result[name] = value
    return result


def lookup(args: tuple[str, ...], env: dict[str, str]) -> str | None:
    """The path that ``execute`` would succeed with, where that can be told without trying."""
    name = args[0] if args else ""
    candidates = [name] if "/" in name else [f"{d}/{name}" for d in env.get("PATH", DEFAULT_PATH).split(":") if d[:1] == "/"]
    for path in candidates if name else ():
        try:
            if stat.S_ISREG(os.stat(path).st_mode):
                return path if os.access(path, os.X_OK) else None
        except (OSError, ValueError):
            continue
    return None


def execute(args: tuple[str, ...], env: dict[str, str]) -> NoReturn:
    """Replace this process by the program ``args``.

    Raises:
        StartError: it isn't there (exit code 127) or can't be run (126).
    """
    name = args[0] if args else ""
    if not name:
        raise StartError("exec", ENOENT, "no command specified", _NOT_FOUND)
    if "/" in name:
        try:
            os.execve(name, args, env)
        except OSError as error:
            raise _refused(name, error) from error
        except ValueError as error:
            raise StartError("exec", 0, f'exec: "{name}": {error}', _NOT_EXECUTABLE) from error
    denied: OSError | None = None
    for directory in env.get("PATH", DEFAULT_PATH).split(":"):
        # Like Go's LookPath, and unlike a shell, never the working directory.
        if directory[:1] != "/":
            continue
        path = f"{directory}/{name}"
        try:
            os.execve(path, args, env)
        except OSError as error:
            if error.errno in (EACCES, EPERM) and not os.path.isdir(path):
                denied = denied or error
            elif error.errno not in (ENOENT, ENOTDIR, EACCES, EPERM, ELOOP) or _is_file(path):
                raise _refused(path, error) from error
        except ValueError as error:
            raise StartError("exec", 0, f'exec: "{name}": {error}', _NOT_EXECUTABLE) from error
    if denied is not None:
        raise StartError("exec", EACCES, f'exec: "{name}": permission denied', _NOT_EXECUTABLE) from denied
    raise StartError("exec", ENOENT, f'exec: "{name}": executable file not found in $PATH', _NOT_FOUND)


def _refused(path: str, error: OSError) -> StartError:
    """Return the error for a program that ``path`` names but execve refused."""
    number = error.errno or 0
    reason = (error.strerror or "").lower()
    if number == ENOENT and not _is_file(path):
        return StartError("exec", number, f'exec: "{path}": stat {path}: {reason}', _NOT_FOUND)
    if number in (EACCES, EISDIR) and os.path.isdir(path):
        return StartError("exec", EISDIR, f'exec: "{path}": is a directory', _NOT_EXECUTABLE)
    if number in (EACCES, EPERM, ENOTDIR):
        return StartError("exec", number, f'exec: "{path}": {reason}', _NOT_EXECUTABLE)
    # The file is there, but its interpreter isn't (ENOENT), or its format is unknown, or the like.
    return StartError("exec", number, f"exec {path}: {reason}", _NOT_FOUND if number == ENOENT else _NOT_EXECUTABLE)


def _is_file(path: str) -> bool:
    # A seccomp profile may refuse stat, which then only costs the message some precision.
    try:
        os.stat(path)
    except OSError:
        return False
    return True
