"""What could come next on a command line: commands, flags, flags' values, and names that the daemon knows.

Called by the shells' scripts as ``boxship __complete WORD…``, the last word being the one under the cursor. A shell waits for
the answer, so a daemon that doesn't answer costs the names, not an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from boxship.cli.command import Command, Context, GlobalOptions
from boxship.cli.flags import Absent, Flag, Options, parse
from boxship.cli.registry import ALIASES, GROUPS, HIDDEN, TOP, load
from boxship.errors import BoxshipError

FILES = ":files"
"""The shell adds the names of files."""
NO_SPACE = ":nospace"
"""More of the same word will follow."""
NOTHING_MORE = ":"

_WORD = re.compile(r"[A-Z][A-Z_:|\[\]/-]*[A-Z\]]|NAME\|ID")
_RUNNING = frozenset(("attach", "exec", "kill", "pause", "port", "stats", "stop", "top"))
_PAUSED = frozenset(("unpause",))
_STOPPED = frozenset(("start",))
_FILE_FLAGS = frozenset(
    ("cidfile", "config", "env-file", "file", "from-tls", "iidfile", "input", "label-file", "output", "tlscacert", "tlscert")
) | {"tlskey", "to-tls"}
_VALUES: dict[str, tuple[str, ...]] = {
    "cgroupns": ("host", "private"),
    "format": ("json", "table"),
    "health-on-failure": ("kill", "none", "restart", "stop"),
    "ipc": ("container:", "host", "none", "private", "shareable"),
    "log-driver": ("fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"),
    "network": ("bridge", "container:", "host", "none"),
    "pid": ("container:", "host"),
    "platform": ("linux/386", "linux/amd64", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/riscv64", "linux/s390x"),
    "pull": ("always", "missing", "never"),
    "restart": ("always", "no", "on-failure", "unless-stopped"),
    "security-opt": ("apparmor=", "label=", "no-new-privileges", "seccomp=", "systempaths=unconfined"),
    "signal": ("SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGSTOP", "SIGTERM", "SIGUSR1", "SIGUSR2"),
    "stop-signal": ("SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"),
    "type": ("container", "image", "network", "volume"),
    "userns": ("host",),
    "uts": ("host",),
}


class Candidate(NamedTuple):
    """A word, and what it is."""

    word: str
    note: str = ""


class Answer(NamedTuple):
    """The candidates, not yet narrowed to what was typed, and what the shell is to do beside."""

    candidates: Iterable[Candidate]
    directive: str = NOTHING_MORE


def complete(words: list[str]) -> str:
    """Answer a shell.

    Args:
        words: the command line without the program's name; the last is the one to complete, perhaps empty.

    Returns:
        A line for each candidate, with its description behind a tab, and a line with the directive.
    """
    typed = words[-1] if words else ""
    found, directive = _answer(words[:-1], typed)
    lines = [f"{word}\t{note}" if note else word for word, note in sorted(set(found)) if word.startswith(typed)]
    if directive == NOTHING_MORE and lines and all(line.split("\t")[0][-1:] in "=:" for line in lines):
        directive = NO_SPACE
    return "\n".join([*lines, directive]) + "\n"


def _answer(before: list[str], typed: str) -> Answer:
    options = GlobalOptions()
    try:
        rest = parse(options, before, interspersed=False)
    except BoxshipError:
        # A flag of the program's own lacks its value so far.
        return Answer((), FILES)
    if not rest:
        if typed.startswith("-"):
            return Answer(_flags(GlobalOptions))
        return Answer([*(Candidate(name, entry[2]) for name, entry in TOP.items() if name not in HIDDEN), *_groups()])
    name, rest = rest[0], rest[1:]
    if name in GROUPS:
        commands = GROUPS[name][1]
        if not rest:
            return Answer(Candidate(word, entry[2]) for word, entry in commands.items() if word not in HIDDEN)
        name, rest = ALIASES[name].get(rest[0], rest[0]), rest[1:]
        entry = commands.get(name)
    else:
        entry = TOP.get(name)
    if entry is None:
        return Answer(())
    return _of_command(name, load(entry), Context(options), rest, typed)


def _groups() -> list[Candidate]:
    return [Candidate(name, summary) for name, (summary, _) in GROUPS.items()]


def _of_command(name: str, command: Command[Any], context: Context, words: list[str], typed: str) -> Answer:
    arguments, pending, options_over = _walk(command, words)
    if pending is not None:
        return _values(pending.name, context)
    if typed.startswith("-") and not options_over:
        if typed.startswith("--") and "=" in typed:
            flag = typed[2:].partition("=")[0]
            answer = _values(flag, context)
            return Answer((Candidate(f"--{flag}={word}", note) for word, note in answer.candidates), answer.directive)
        return Answer(_flags(command.options))
    return _arguments(name, command, context, arguments)


def _walk(command: Command[Any], words: list[str]) -> tuple[int, Flag[Any] | None, bool]:
    """How many arguments there are so far, the flag whose value is next, and whether flags may still come."""
    flags: dict[str, Flag[Any]] = command.options.flags
    shorts: dict[str, Flag[Any]] = command.options.shorts
    arguments = 0
    pending: Flag[Any] | None = None
    for position, word in enumerate(words):
        if pending is not None:
            pending = None
        elif word == "--":
            return arguments + len(words) - position - 1, None, True
        elif word.startswith("--"):
            flag = flags.get(word[2:])
            pending = flag if flag is not None and flag.takes_value else None
        elif word.startswith("-") and word != "-":
            flag = shorts.get(word[-1])
            pending = flag if flag is not None and flag.takes_value and "=" not in word else None
        else:
            arguments += 1
            if not command.interspersed:
                return arguments + len(words) - position - 1, None, True
    return arguments, pending, False


def _flags(options: type[Options]) -> list[Candidate]:
    shown = [flag for flag in options.flags.values() if not flag.hidden and not isinstance(flag, Absent)]
    return [Candidate(f"--{flag.name}", flag.help) for flag in shown] + [Candidate("--help", "Print usage")]


def _values(flag: str, context: Context) -> Answer:
    """What a flag's value could be."""
    if flag in _FILE_FLAGS:
        return Answer((), FILES)
    words = [Candidate(word) for word in _VALUES.get(flag, ())]
    if flag in ("ipc", "network", "pid"):
        words += [Candidate(f"container:{name}") for name, _ in _ask(_containers("attach"), context)]
        if flag == "network":
            words += [word for word in _ask(_networks, context) if word not in words]
    elif flag == "volumes-from":
        words = _ask(_containers(""), context)
    elif flag == "volume":
        return Answer((Candidate(f"{name}:") for name, _ in _ask(_volumes, context)), FILES)
    return Answer(words, NOTHING_MORE if words else FILES)


def _arguments(name: str, command: Command[Any], context: Context, position: int) -> Answer:
    """What an argument could be, by the word that stands for it in the command's usage."""
    kinds = _WORD.findall(command.usage.removeprefix("[OPTIONS]"))
    if (command.maximum is not None and position >= command.maximum) or not kinds:
        return Answer((), FILES if "file" in command.usage else NOTHING_MORE)
    kind = kinds[min(position, len(kinds) - 1)]
    if name == "cp" and kind.startswith("CONTAINER:"):
        return Answer((Candidate(f"{word}:", note) for word, note in _ask(_containers(""), context)), FILES)
    if name == "completion":
        return Answer([Candidate("bash"), Candidate("fish"), Candidate("zsh")])
    if kind == "IMAGE|CONTAINER":
        return Answer([*_ask(_images, context), *_ask(_containers(""), context)])
    if kind.startswith("CONTAINER"):
        return Answer(_ask(_containers(name), context))
    if kind.startswith("SERVER"):
        return Answer(_ask(_servers, context))
    if kind.startswith(("IMAGE", "MANIFEST", "NAME[:TAG", "SOURCE_IMAGE", "REPOSITORY")):
        return Answer(_ask(_images, context))
    if kind.startswith("NETWORK") and name != "create":
        return Answer(_ask(_networks, context))
    if kind.startswith("VOLUME"):
        return Answer(_ask(_volumes, context))
    if kind == "NAME|ID":
        return Answer([*_ask(_containers(""), context), *_ask(_images, context)])
    return Answer((), FILES)


def _ask(question: Callable[[Context], list[Candidate]], context: Context) -> list[Candidate]:
    """The daemon's answer; none where it doesn't give one."""
    try:
        return question(context)
    except (BoxshipError, OSError):
        return []


def _containers(command: str) -> Callable[[Context], list[Candidate]]:
    """The names of containers in a state that a command can use."""

    def ask(context: Context) -> list[Candidate]:
        rows = context.api.call("GET", "/containers/json", {"all": None if command in _RUNNING else True})
        if command in _PAUSED:
            rows = [row for row in rows if row["State"] == "paused"]
        elif command in _STOPPED:
            rows = [row for row in rows if row["State"] not in ("running", "paused", "restarting")]
        return [Candidate(name.removeprefix("/"), row["Image"]) for row in rows for name in row["Names"]]

    return ask


def _images(context: Context) -> list[Candidate]:
    """Every tag, and each repository's name where that means ``latest``."""
    tags = [tag for row in context.api.call("GET", "/images/json") for tag in row.get("RepoTags") or ()]
    shorter = [tag.removesuffix(":latest") for tag in tags if tag.endswith(":latest")]
    return [Candidate(tag) for tag in (*tags, *shorter)]


def _servers(context: Context) -> list[Candidate]:
    """The registries that there are accounts for."""
    from boxship.cli.accounts import keeper

    return [Candidate(server) for server in keeper(context).file.servers]


def _networks(context: Context) -> list[Candidate]:
    return [Candidate(row["Name"], row["Driver"]) for row in context.api.call("GET", "/networks")]


def _volumes(context: Context) -> list[Candidate]:
    answer = context.api.call("GET", "/volumes")
    return [Candidate(row["Name"], row["Driver"]) for row in answer.get("Volumes") or ()]
