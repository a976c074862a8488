"""What ``RUN --mount`` says: ``type=bind,source=...,target=...`` and so on, with commas between.

Source: BuildKit frontend/dockerfile/instructions/commands_runmount.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, cast

from boxship.booleans import parse_boolean
from boxship.errors import InvalidValue
from boxship.terminal.govalues import quote
from boxship.units import parse_size
from msgspec import Struct
from msgspec.structs import replace

from boxshipd.builder.dockerfile.arguments import ArgumentError
from boxshipd.builder.dockerfile.suggestions import did_you_mean
from boxshipd.builder.errors import DockerfileError

Kind = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
Sharing = Literal["shared", "private", "locked"]

_KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARINGS = ("shared", "private", "locked")
_OWNED = ("secret", "ssh", "cache")
_WANTED = ("secret", "ssh")
_KEYS = (
    *("type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid"),
    *("src", "dst", "destination", "ro", "rw", "readwrite", "env"),
)


class MountFlag(Struct, frozen=True, kw_only=True):
    """One ``--mount``.

    ``from_`` names a stage or an image, empty for the build's context. ``sharing`` is empty where nothing is said. ``size`` in
    bytes, 0 for no limit. ``env`` is the variable that gets a secret: None where it gets none, empty for one of the secret's
    own name.
    """

    kind: Kind = "bind"
    target: str = ""
    source: str = ""
    from_: str = ""
    readonly: bool = True
    id: str = ""
    sharing: Sharing | Literal[""] = ""
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    required: bool = False
    env: str | None = None


def parse_mount(text: str, expand: Callable[[str], str] = str) -> MountFlag:
    """Read a ``--mount``.

    Args:
        text: its value, as written.
        expand: expands the variables of each value; the value of ``from`` has none.

    Raises:
        DockerfileError: it can't be right; it doesn't know the line.
    """
    try:
        mount = MountFlag()
        writable: bool | None = None
        for field in _fields(text):
            key, equals, value = field.partition("=")
            key = key.lower()
            if key in ("readonly", "ro", "readwrite", "rw"):
                on = _boolean(key, expand(value)) if equals else True
                writable = on == (key in ("readwrite", "rw"))
            elif key == "required" and not equals:
                mount = _set(mount, key, "true", field)
            elif not equals:
                raise ArgumentError(f"invalid field '{field}' must be a key=value pair")
            else:
                mount = _set(mount, key, expand(value), field)
        if writable is None:
            writable = mount.kind in ("cache", "tmpfs")
        return _checked(replace(mount, readonly=not writable))
    except ArgumentError as error:
        raise DockerfileError(str(error)) from error


def check_mount(text: str) -> None:
    """Check what can be known of a ``--mount`` before its variables are.

    Raises:
        ArgumentError: it can't be right.
    """
    if "$" in mount_origin(text)[:-1]:
        raise ArgumentError("'from' doesn't support variable expansion, define alias stage instead")


def mount_origin(text: str) -> str:
    """The stage or image that a ``--mount`` takes files from, which is known before variables are; empty where it says none.

    Raises:
        ArgumentError: it can't be right.
    """
    pairs = (field.partition("=") for field in _fields(text))
    return next((value for key, _, value in reversed(list(pairs)) if key.lower() == "from"), "")


def _set(mount: MountFlag, key: str, value: str, field: str) -> MountFlag:
    """The mount with one key's value."""
    match key:
        case "type":
            if value.lower() not in _KINDS:
                raise ArgumentError(did_you_mean(f"unsupported mount type {quote(value)}", value, _KINDS))
            return replace(mount, kind=cast(Kind, value.lower()))
        case "from":
            return replace(mount, from_=value)
        case "source" | "src":
            return replace(mount, source=value)
        case "target" | "dst" | "destination":
            return replace(mount, target=value)
        case "id":
            return replace(mount, id=value)
        case "env":
            return replace(mount, env=value)
        case "sharing":
            if value.lower() not in _SHARINGS:
                raise ArgumentError(did_you_mean(f"unsupported sharing value {quote(value)}", value, _SHARINGS))
            return replace(mount, sharing=cast(Sharing, value.lower()))
        case "required":
            _only(key, mount.kind, _WANTED)
            return replace(mount, required=_boolean(key, value))
        case "size":
            _only(key, mount.kind, ("tmpfs",))
            return replace(mount, size=_size(key, value))
        case "mode":
            return replace(mount, mode=_number(key, value, 8))
        case "uid":
            return replace(mount, uid=_number(key, value, 10))
        case "gid":
            return replace(mount, gid=_number(key, value, 10))
        case _:
            raise ArgumentError(did_you_mean(f"unexpected key '{key}' in '{field}'", key, _KEYS))


def _only(key: str, kind: str, kinds: tuple[str, ...]) -> None:
    if kind not in kinds:
        raise ArgumentError(f"unexpected key '{key}' for mount type '{kind}'")


def _checked(mount: MountFlag) -> MountFlag:
    if mount.kind not in _OWNED:
        for key, value in (("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)):
            if value is not None:
                raise ArgumentError(f"{key} not allowed for {quote(mount.kind)} type mounts")
    if mount.kind == "secret":
        if mount.from_:
            raise ArgumentError("secret mount should not have a from")
        if mount.sharing:
            raise ArgumentError("secret mount should not define sharing")
        if not mount.source and not mount.target and not mount.id:
            raise ArgumentError("invalid secret mount. one of source, target required")
        if mount.source and mount.id:
            raise ArgumentError("both source and id can't be set")
    if mount.env is not None and mount.kind != "secret":
        raise ArgumentError(f"unexpected key 'env' for mount type '{mount.kind}'")
    if mount.sharing and mount.kind != "cache":
        raise ArgumentError(f"invalid cache sharing set for {mount.kind} mount")
    return mount


def _boolean(key: str, value: str) -> bool:
    said = parse_boolean(value)
    if said is None:
        raise ArgumentError(f"invalid value for {key}: {value}")
    return said


def _size(key: str, value: str) -> int:
    try:
        return parse_size(value)
    except InvalidValue as error:
        raise ArgumentError(f"invalid value for {key}: {value}") from error


def _number(key: str, value: str, base: int) -> int:
    if not re.fullmatch("[0-7]{1,11}" if base == 8 else "[0-9]{1,10}", value) or int(value, base) >= 2**32:
        raise ArgumentError(f"invalid value {value} for {key}")
    return int(value, base)


def _fields(text: str) -> list[str]:
    """What is between the commas; a field in double quotes may have some, and quotes doubled.

    Source: RFC 4180.
    """
    fields: list[str] = []
    at = 0
    while True:
        if text.startswith('"', at):
            field, at = _quoted_field(text, at + 1)
        else:
            end = text.find(",", at)
            field, at = (text[at:], len(text)) if end < 0 else (text[at:end], end)
            if '"' in field:
                raise ArgumentError('failed to parse csv mounts: bare " in non-quoted-field')
        fields.append(field)
        if at >= len(text):
            return fields
        at += 1


def _quoted_field(text: str, at: int) -> tuple[str, int]:
    parts: list[str] = []
    while True:
        end = text.find('"', at)
        if end < 0:
            raise ArgumentError('failed to parse csv mounts: extraneous or missing " in quoted-field')
        parts.append(text[at:end])
        if not text.startswith('""', end):
            break
        parts.append('"')
        at = end + 2
    if end + 1 < len(text) and text[end + 1] != ",":
        raise ArgumentError('failed to parse csv mounts: extraneous or missing " in quoted-field')
    return "".join(parts), end + 1
