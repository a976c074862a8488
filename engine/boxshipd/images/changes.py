"""Dockerfile instructions that change an image's configuration, as ``import --change`` and ``commit --change`` take them.

Source: Dockerfile reference; moby builder/dockerfile/builder.go (BuildFromConfig).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from boxship.types.containers import ContainerConfig, HealthConfig
from boxship.units import parse_duration
from msgspec import UNSET, UnsetType, structs

from boxshipd.builder.dockerfile.arguments import ArgumentError
from boxshipd.builder.dockerfile.instructions import (
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    OnBuild,
    Pair,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from boxshipd.builder.dockerfile.parser import read_statements
from boxshipd.builder.dockerfile.readers import read
from boxshipd.builder.dockerfile.words import Words
from boxshipd.builder.errors import DockerfileError
from boxshipd.errors import InvalidParameter

_DEFAULT_SHELL = ["/bin/sh", "-c"]
_ALLOWED = frozenset(
    ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
)
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_WORDS = Words()


def apply_changes(config: ContainerConfig, changes: Sequence[str]) -> ContainerConfig:
    """The configuration with instructions applied to it, in order; variables are those of its environment.

    Raises:
        InvalidParameter: one of them can't be understood, or isn't allowed here.
    """
    draft = _Draft(config)
    try:
        for instruction in _instructions(changes):
            draft.apply(instruction)
    except DockerfileError as error:
        # The lines are those of changes, which nobody counts.
        raise InvalidParameter(error.message) from error
    return structs.replace(config, **draft.fields)


def _instructions(changes: Sequence[str]) -> list[Instruction]:
    statements = read_statements("\n".join(changes).encode("utf-8", "surrogateescape"))
    for statement in statements:
        if statement.keyword not in _ALLOWED:
            raise InvalidParameter(f"{statement.written.lower()} is not a valid change command")
    try:
        return [read(statement) for statement in statements]
    except ArgumentError as error:
        raise InvalidParameter(str(error)) from error


@dataclass(slots=True)
class _Draft:
    """A configuration that is being changed."""

    config: ContainerConfig
    fields: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        return self.fields.get(name, getattr(self.config, name))

    def apply(self, instruction: Instruction) -> None:
        """Do what an instruction says."""
        match instruction:
            case Cmd():
                self.fields["cmd"] = self._command(instruction.command)
            case Entrypoint():
                self.fields["entrypoint"] = self._command(instruction.command)
                self.fields.setdefault("cmd", None)
            case Env():
                values = self._env() | self._pairs(instruction.pairs)
                self.fields["env"] = [f"{name}={value}" for name, value in values.items()]
            case Label():
                self.fields["labels"] = {**(self.get("labels") or {}), **self._pairs(instruction.pairs)}
            case Expose():
                self.fields["exposed_ports"] = {**(self.get("exposed_ports") or {}), **self._ports(instruction.ports)}
            case Volume():
                paths = map(self._expand, instruction.paths)
                self.fields["volumes"] = {**(self.get("volumes") or {}), **{path: {} for path in paths}}
            case User():
                self.fields["user"] = _one_word("USER", self._expand(instruction.user))
            case Workdir():
                path = posixpath.join(self.get("working_dir") or "/", self._expand(instruction.path))
                self.fields["working_dir"] = posixpath.normpath(path)
            case StopSignal():
                self.fields["stop_signal"] = _one_word("STOPSIGNAL", self._expand(instruction.signal))
            case OnBuild():
                self.fields["on_build"] = [*(self.get("on_build") or ()), instruction.trigger]
            case HealthCheck():
                self.fields["healthcheck"] = _health(instruction)
            case _:
                raise AssertionError(f"{instruction.keyword} is allowed and not applied")

    def _command(self, command: Command) -> list[str]:
        shell = self.get("shell") or _DEFAULT_SHELL
        return [*shell, *command.args] if command.shell else list(command.args)

    def _env(self) -> dict[str, str]:
        return {name: value for name, _, value in (entry.partition("=") for entry in self.get("env") or ())}

    def _expand(self, text: str) -> str:
        return _WORDS.expand(text, self._env()).text

    def _pairs(self, pairs: Sequence[Pair]) -> dict[str, str]:
        return {self._expand(pair.name): self._expand(pair.value) for pair in pairs}

    def _ports(self, words: Sequence[str]) -> dict[str, Any]:
        ports: dict[str, Any] = {}
        for word in [word for text in words for word in _WORDS.split(text, self._env())[0]]:
            match = _PORT.fullmatch(word)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if match is None or not first <= last <= 65535:
                raise InvalidParameter(f"invalid containerPort: {word}")
            ports.update({f"{port}/{(match[3] or 'tcp').lower()}": {} for port in range(first, last + 1)})
        return ports


def _one_word(keyword: str, text: str) -> str:
    if len(text.split()) != 1:
        raise InvalidParameter(f"{keyword} requires exactly one argument")
    return text


def _health(instruction: HealthCheck) -> HealthConfig:
    command = instruction.command
    if command is None:
        return HealthConfig(test=["NONE"])
    return HealthConfig(
        test=["CMD-SHELL" if command.shell else "CMD", *command.args],
        interval=_nanoseconds(instruction.interval),
        timeout=_nanoseconds(instruction.timeout),
        retries=int(instruction.retries) if instruction.retries else UNSET,
        start_period=_nanoseconds(instruction.start_period),
        start_interval=_nanoseconds(instruction.start_interval),
    )


def _nanoseconds(text: str) -> int | UnsetType:
    return parse_duration(text) if text else UNSET
