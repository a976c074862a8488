"""From a statement to a typed instruction: each keyword's own rules.

Source: BuildKit frontend/dockerfile/instructions/parse.go, whose messages these are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from boxship.errors import InvalidValue
from boxship.terminal.govalues import SPACE, quote
from boxship.units import parse_duration

from boxshipd.builder.dockerfile.arguments import (
    ArgumentError,
    json_list,
    names_and_values,
    quoted_words,
    white_words,
)
from boxshipd.builder.dockerfile.flags import read_flags
from boxshipd.builder.dockerfile.heredocs import heredoc
from boxshipd.builder.dockerfile.instructions import (
    Add,
    Arg,
    Argument,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthCheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from boxshipd.builder.dockerfile.mounts import check_mount
from boxshipd.builder.dockerfile.statement import Statement
from boxshipd.builder.dockerfile.suggestions import did_you_mean

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_ONBUILD = re.compile(rf"ONBUILD[{SPACE}]*", re.IGNORECASE)
_NETWORKS = ("default", "none", "host")
_SECURITIES = ("sandbox", "insecure")
_SHORTEST_INTERVAL = 1_000_000
"""Nanoseconds."""


def read(statement: Statement) -> Instruction:
    """The instruction that a statement is.

    Raises:
        ArgumentError: it can't be right.
    """
    reader = _READERS.get(statement.keyword)
    if reader is None:
        raise ArgumentError(did_you_mean(f"unknown instruction: {statement.written}", statement.written, _READERS, cased=False))
    return reader(statement)


def _from(statement: Statement) -> From:
    words = white_words(statement.rest)
    if len(words) != 1 and not (len(words) == 3 and words[1].lower() == "as"):
        raise ArgumentError("FROM requires either one or three arguments")
    name = words[2].lower() if len(words) == 3 else ""
    if name and not _STAGE_NAME.fullmatch(name):
        raise ArgumentError(
            f"invalid name for build stage: {quote(words[2])}, name can't start with a number or contain symbols"
        )
    flags = read_flags(statement.flags, single=("platform",))
    return From(**_base(statement), image=words[0], platform=flags.text("platform"), name=name)


def _run(statement: Statement) -> Run:
    flags = read_flags(statement.flags, single=("network", "security"), several=("mount",))
    network, security = flags.text("network"), flags.text("security")
    if "network" in flags.single and network not in _NETWORKS:
        raise ArgumentError(did_you_mean(f"invalid network mode {quote(network)}", network, _NETWORKS))
    if "security" in flags.single and security not in _SECURITIES:
        raise ArgumentError(did_you_mean(f"security {quote(security)} is not valid", security, _SECURITIES))
    for mount in flags.texts("mount"):
        check_mount(mount)
    return Run(
        **_base(statement),
        command=_command(statement.rest, statement.heredocs),
        mounts=flags.texts("mount"),
        network=network,
        security=security,
    )


def _copy(statement: Statement) -> Copy:
    sources, destination, heredocs = _sources(statement)
    flags = read_flags(statement.flags, single=("from", "chown", "chmod"), several=("exclude",), switches=("link", "parents"))
    return Copy(
        **_base(statement),
        sources=sources,
        destination=destination,
        heredocs=heredocs,
        from_=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.on("link"),
        parents=flags.on("parents"),
        exclude=flags.texts("exclude"),
    )


def _add(statement: Statement) -> Add:
    sources, destination, heredocs = _sources(statement)
    flags = read_flags(
        statement.flags,
        single=("chown", "chmod", "checksum"),
        several=("exclude",),
        switches=("link", "keep-git-dir", "unpack"),
    )
    return Add(
        **_base(statement),
        sources=sources,
        destination=destination,
        heredocs=heredocs,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.on("keep-git-dir"),
        link=flags.on("link"),
        unpack=flags.switches.get("unpack"),
        exclude=flags.texts("exclude"),
    )


def _sources(statement: Statement) -> tuple[tuple[str, ...], str, tuple[Heredoc, ...]]:
    """What COPY and ADD take, where to, and the files that they make."""
    exact = json_list(statement.rest)
    words = white_words(statement.rest) if exact is None else exact
    if len(words) < 2:
        raise ArgumentError(
            f"{statement.keyword} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    *sources, destination = words
    if exact is not None:
        return tuple(sources), destination, ()
    if heredoc(destination) is not None:
        raise ArgumentError(f"{statement.keyword} cannot accept a heredoc as a destination")
    contents = {each.name: each for each in statement.heredocs}
    paths: list[str] = []
    files: list[Heredoc] = []
    for source in sources:
        found = heredoc(source)
        if found is None:
            paths.append(source)
        elif found.name in contents:
            files.append(contents[found.name])
        else:
            raise ArgumentError(f"heredoc {quote(found.name)} has no content: the line's quotes aren't closed")
    return tuple(paths), destination, tuple(files)


def _env(statement: Statement) -> Env:
    read_flags(statement.flags)
    return Env(**_base(statement), pairs=names_and_values(statement.rest, "ENV", statement.escape))


def _label(statement: Statement) -> Label:
    read_flags(statement.flags)
    return Label(**_base(statement), pairs=names_and_values(statement.rest, "LABEL", statement.escape))


def _arg(statement: Statement) -> Arg:
    read_flags(statement.flags)
    arguments: list[Argument] = []
    for word in quoted_words(statement.rest, statement.escape):
        name, equals, default = word.partition("=")
        if not name:
            raise ArgumentError("ARG names can not be blank")
        arguments.append(Argument(name, default if equals else None))
    if not arguments:
        raise ArgumentError("ARG requires at least one argument")
    return Arg(**_base(statement), arguments=tuple(arguments))


def _cmd(statement: Statement) -> Cmd:
    read_flags(statement.flags)
    return Cmd(**_base(statement), command=_command(statement.rest))


def _entrypoint(statement: Statement) -> Entrypoint:
    read_flags(statement.flags)
    return Entrypoint(**_base(statement), command=_command(statement.rest))


def _shell(statement: Statement) -> Shell:
    read_flags(statement.flags)
    args = json_list(statement.rest)
    if not statement.rest or args == []:
        raise ArgumentError("SHELL requires at least one argument")
    if args is None:
        raise ArgumentError("SHELL requires the arguments to be in JSON form")
    return Shell(**_base(statement), args=tuple(args))


def _expose(statement: Statement) -> Expose:
    ports = white_words(statement.rest)
    if not ports:
        raise ArgumentError("EXPOSE requires at least one argument")
    read_flags(statement.flags)
    return Expose(**_base(statement), ports=tuple(sorted(ports)))


def _volume(statement: Statement) -> Volume:
    exact = json_list(statement.rest)
    paths = white_words(statement.rest) if exact is None else exact
    if not paths:
        raise ArgumentError("VOLUME requires at least one argument")
    read_flags(statement.flags)
    stripped = tuple(path.strip(SPACE) for path in paths)
    if not all(stripped):
        raise ArgumentError("VOLUME specified can not be an empty string")
    return Volume(**_base(statement), paths=stripped)


def _user(statement: Statement) -> User:
    return User(**_base(statement), user=_single(statement))


def _workdir(statement: Statement) -> Workdir:
    return Workdir(**_base(statement), path=_single(statement))


def _stop_signal(statement: Statement) -> StopSignal:
    return StopSignal(**_base(statement), signal=_single(statement))


def _maintainer(statement: Statement) -> Maintainer:
    return Maintainer(**_base(statement), name=_single(statement))


def _single(statement: Statement) -> str:
    """The only argument, which is all of the line."""
    if not statement.rest:
        raise ArgumentError(f"{statement.keyword} requires exactly one argument")
    read_flags(statement.flags)
    return statement.rest


def _health_check(statement: Statement) -> HealthCheck:
    flags = read_flags(statement.flags, single=("interval", "timeout", "start-period", "start-interval", "retries"))
    kind, *command = re.split(f"[{SPACE}]+", statement.rest, maxsplit=1)
    rest = command[0] if command else ""
    if not kind:
        raise ArgumentError("HEALTHCHECK requires at least one argument")
    if kind.upper() == "NONE":
        if rest:
            raise ArgumentError("HEALTHCHECK NONE takes no arguments")
        return HealthCheck(**_base(statement), command=None)
    if kind.upper() != "CMD":
        raise ArgumentError(f"Unknown type {quote(kind.upper())} in HEALTHCHECK (try CMD)")
    if not rest or json_list(rest) == []:
        raise ArgumentError("Missing command after HEALTHCHECK CMD")
    return HealthCheck(
        **_base(statement),
        command=_command(rest),
        interval=_interval(flags.text("interval"), "interval"),
        timeout=_interval(flags.text("timeout"), "timeout"),
        start_period=_interval(flags.text("start-period"), "start-period"),
        start_interval=_interval(flags.text("start-interval"), "start-interval"),
        retries=_retries(flags.text("retries")),
    )


def _interval(text: str, name: str) -> str:
    if text:
        try:
            duration = parse_duration(text)
        except InvalidValue as error:
            raise ArgumentError(str(error)) from error
        if duration and duration < _SHORTEST_INTERVAL:
            raise ArgumentError(f"Interval {quote(name)} cannot be less than 1ms")
    return text


def _retries(text: str) -> str:
    if text:
        if not re.fullmatch(r"[+-]?[0-9]{1,10}", text) or not -(2**31) <= int(text) < 2**31:
            raise ArgumentError(f"invalid value {quote(text)} for --retries")
        if int(text) < 0:
            raise ArgumentError(f"--retries cannot be negative ({int(text)})")
    return text


def _on_build(statement: Statement) -> OnBuild:
    if not statement.rest:
        raise ArgumentError("ONBUILD requires at least one argument")
    read_flags(statement.flags)
    inner = statement.trigger()
    if inner.keyword == "ONBUILD":
        raise ArgumentError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if inner.keyword in ("MAINTAINER", "FROM"):
        raise ArgumentError(f"{inner.keyword} isn't allowed as an ONBUILD trigger")
    # What can't be read now can't be read in any image that is made of this one.
    read(inner)
    trigger = _ONBUILD.sub("", statement.text, count=1)
    for each in statement.heredocs:
        trigger += f"\n{each.content}{each.name}"
    return OnBuild(**_base(statement), trigger=trigger)


def _command(rest: str, heredocs: tuple[Heredoc, ...] = ()) -> Command:
    """A program: a JSON list, or one line for the shell."""
    exact = json_list(rest)
    if exact is not None:
        return Command(args=tuple(exact), shell=False)
    return Command(args=(rest,), heredocs=heredocs)


def _base(statement: Statement) -> dict[str, Any]:
    return {"span": statement.span, "keyword": statement.keyword, "text": statement.text}


_READERS: dict[str, Callable[[Statement], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _health_check,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _on_build,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
