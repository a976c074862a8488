"""Dockerfile instructions that change an image's configuration, as ``import --change`` takes them.

Source: Dockerfile reference; moby builder/dockerfile/builder.go (BuildFromConfig).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from boxship.errors import InvalidValue
from boxship.types.containers import ContainerConfig, HealthConfig
from boxship.units import parse_duration
from msgspec import UNSET, structs

from boxshipd.errors import InvalidParameter

_DEFAULT_SHELL = ["/bin/sh", "-c"]
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""", re.DOTALL)
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_HEALTH_TIMES = {
    "interval": "interval",
    "timeout": "timeout",
    "start-period": "start_period",
    "start-interval": "start_interval",
}


@dataclass(slots=True)
class _Draft:
    """A configuration that is being changed."""

    config: ContainerConfig
    fields: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        return self.fields.get(name, getattr(self.config, name))


def apply_changes(config: ContainerConfig, changes: Sequence[str]) -> ContainerConfig:
    """The configuration with instructions applied to it, in order.

    Raises:
        InvalidParameter: one of them can't be understood, or isn't allowed here.
    """
    draft = _Draft(config)
    for text in changes:
        for line in text.split("\n"):
            if stripped := line.strip():
                instruction, _, rest = stripped.partition(" ")
                _apply(draft, instruction, rest.strip())
    return structs.replace(config, **draft.fields)


def _apply(draft: _Draft, instruction: str, rest: str) -> None:
    handler = _HANDLERS.get(instruction.upper())
    if handler is None:
        raise InvalidParameter(f"{instruction.lower()} is not a valid change command")
    if not rest:
        raise InvalidParameter(f"{instruction.upper()} requires at least one argument")
    handler(draft, rest)


def _command(rest: str) -> list[str]:
    """A command: a JSON list, or text for the shell."""
    return _json(rest) or [*_DEFAULT_SHELL, rest]


def _json(rest: str) -> list[str] | None:
    if rest.startswith("["):
        try:
            return msgspec.json.decode(rest, type=list[str])
        except msgspec.DecodeError:
            return None
    return None


def _cmd(draft: _Draft, rest: str) -> None:
    draft.fields["cmd"] = _command(rest)


def _entrypoint(draft: _Draft, rest: str) -> None:
    draft.fields["entrypoint"] = _command(rest)
    draft.fields.setdefault("cmd", None)


def _env(draft: _Draft, rest: str) -> None:
    values = dict(entry.partition("=")[::2] for entry in draft.get("env") or ())
    values.update(_pairs("ENV", rest))
    draft.fields["env"] = [f"{key}={value}" for key, value in values.items()]


def _label(draft: _Draft, rest: str) -> None:
    draft.fields["labels"] = {**(draft.get("labels") or {}), **_pairs("LABEL", rest)}


def _expose(draft: _Draft, rest: str) -> None:
    ports: dict[str, Any] = dict(draft.get("exposed_ports") or {})
    for word in rest.split():
        match = _PORT.fullmatch(word)
        if match is None:
            raise InvalidParameter(f"invalid containerPort: {word}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= 65535:
            raise InvalidParameter(f"invalid containerPort: {word}")
        ports.update({f"{port}/{(match[3] or 'tcp').lower()}": {} for port in range(first, last + 1)})
    draft.fields["exposed_ports"] = ports


def _volume(draft: _Draft, rest: str) -> None:
    paths = _json(rest) or rest.split()
    if not all(path.strip() for path in paths):
        raise InvalidParameter("VOLUME specified can not be an empty string")
    draft.fields["volumes"] = {**(draft.get("volumes") or {}), **{path: {} for path in paths}}


def _user(draft: _Draft, rest: str) -> None:
    if len(rest.split()) != 1:
        raise InvalidParameter("USER requires exactly one argument")
    draft.fields["user"] = rest


def _workdir(draft: _Draft, rest: str) -> None:
    draft.fields["working_dir"] = posixpath.normpath(posixpath.join(draft.get("working_dir") or "/", _unquote(rest)))


def _stop_signal(draft: _Draft, rest: str) -> None:
    if len(rest.split()) != 1:
        raise InvalidParameter("STOPSIGNAL requires exactly one argument")
    draft.fields["stop_signal"] = rest


def _on_build(draft: _Draft, rest: str) -> None:
    trigger = rest.split(maxsplit=1)[0].upper()
    if trigger in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InvalidParameter(f"{trigger} isn't allowed as an ONBUILD trigger")
    draft.fields["on_build"] = [*(draft.get("on_build") or ()), rest]


def _health_check(draft: _Draft, rest: str) -> None:
    options: dict[str, int] = {}
    while match := re.match(r"--([a-z-]+)=(\S+)\s*", rest):
        name, value = match[1], match[2]
        rest = rest[match.end() :]
        if name != "retries" and name not in _HEALTH_TIMES:
            raise InvalidParameter(f"unknown flag: --{name}")
        try:
            if name == "retries":
                options["retries"] = int(value)
            else:
                options[_HEALTH_TIMES[name]] = parse_duration(value)
        except (InvalidValue, ValueError) as error:
            raise InvalidParameter(f"HEALTHCHECK --{name}: {error}") from error
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE" and not command.strip():
        draft.fields["healthcheck"] = HealthConfig(test=["NONE"])
    elif kind.upper() == "CMD" and command.strip():
        exact = _json(command.strip())
        test = ["CMD", *exact] if exact else ["CMD-SHELL", command.strip()]
        draft.fields["healthcheck"] = HealthConfig(
            test=test,
            interval=options.get("interval", UNSET),
            timeout=options.get("timeout", UNSET),
            retries=options.get("retries", UNSET),
            start_period=options.get("start_period", UNSET),
            start_interval=options.get("start_interval", UNSET),
        )
    else:
        raise InvalidParameter(f"unknown type {kind!r} in HEALTHCHECK (try CMD)")


def _pairs(instruction: str, rest: str) -> dict[str, str]:
    """``key=value`` pairs with quotes, or a single key followed by its value."""
    words = _WORD.findall(rest)
    if not words:
        raise InvalidParameter(f"{instruction} must have two arguments")
    if "=" not in words[0]:
        key, _, value = rest.partition(" ")
        if not value.strip():
            raise InvalidParameter(f"{instruction} must have two arguments")
        return {key: value.strip()}
    pairs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidParameter(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        if not _unquote(key):
            raise InvalidParameter(f"{instruction} names can not be blank")
        pairs[_unquote(key)] = _unquote(value)
    return pairs


def _unquote(word: str) -> str:
    """A word without its quotes and backslashes."""
    out: list[str] = []
    for quoted, single, escaped, plain in re.findall(r"""("(?:[^"\\]|\\.)*")|('[^']*')|\\(.)|([^"'\\])""", word, re.DOTALL):
        if quoted:
            out.append(re.sub(r'\\(["\\$])', r"\1", quoted[1:-1]))
        elif single:
            out.append(single[1:-1])
        else:
            out.append(escaped or plain)
    return "".join(out)


_HANDLERS: dict[str, Callable[[_Draft, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _health_check,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
