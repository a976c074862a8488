"""A container's settings as Dockerfile instructions, the form in which an import takes them.

Source: Dockerfile reference; the instructions that moby's builder/dockerfile/builder.go allows as changes.
"""

from __future__ import annotations

import json
from typing import Any

from boxship.errors import TransferError


def instructions(config: dict[str, Any], container: str) -> list[str]:
    """What makes an image's configuration that of a container.

    Args:
        config: the container's ``Config``.
        container: its name, for the error's message.

    Raises:
        TransferError: a value has a line break, which no instruction can hold.
    """
    found = [
        *(f"ENV {_quoted(name)}={_quoted(value)}" for name, value in _pairs(config.get("Env"))),
        *_words("ENTRYPOINT", config.get("Entrypoint")),
        *_words("CMD", config.get("Cmd")),
        *_words("SHELL", config.get("Shell")),
        *_text("WORKDIR", config.get("WorkingDir")),
        *_text("USER", config.get("User")),
        *_text("STOPSIGNAL", config.get("StopSignal")),
        *(f"EXPOSE {port}" for port in sorted(config.get("ExposedPorts") or {})),
        *(f"VOLUME {json.dumps([path])}" for path in sorted(config.get("Volumes") or {})),
        *(f"LABEL {_quoted(name)}={_quoted(value)}" for name, value in sorted((config.get("Labels") or {}).items())),
        *_health(config.get("Healthcheck") or {}),
    ]
    for instruction in found:
        if "\n" in instruction or "\r" in instruction:
            name = instruction.partition("=")[0].replace('"', "")
            raise TransferError(f"container {container} has a setting with a line break, which an import can't carry: {name}")
    return found


def _pairs(variables: list[str] | None) -> list[tuple[str, str]]:
    return [(name, value) for name, equals, value in (variable.partition("=") for variable in variables or ()) if equals]


def _quoted(text: str) -> str:
    for character in ("\\", '"', "$"):
        text = text.replace(character, "\\" + character)
    return f'"{text}"'


def _words(instruction: str, words: list[str] | None) -> list[str]:
    return [f"{instruction} {json.dumps(words, ensure_ascii=False)}"] if words else []


def _text(instruction: str, value: str | None) -> list[str]:
    return [f"{instruction} {value}"] if value else []


def _health(check: dict[str, Any]) -> list[str]:
    test = check.get("Test") or []
    if not test:
        return []
    if test[0] == "NONE":
        return ["HEALTHCHECK NONE"]
    times = (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start-period", "StartPeriod"),
        ("start-interval", "StartInterval"),
    )
    flags = [f"--{flag}={check[key]}ns" for flag, key in times if check.get(key)]
    if check.get("Retries"):
        flags.append(f"--retries={check['Retries']}")
    command = " ".join(test[1:]) if test[0] == "CMD-SHELL" else json.dumps(test[1:], ensure_ascii=False)
    return [" ".join(["HEALTHCHECK", *flags, "CMD", command])]
