"""Values as Go's templates see them: how they print, which are true, and the functions templates may call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from boxship.errors import TemplateError

SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""White space, in the sense of Go's unicode.IsSpace: ``str.isspace`` takes the separators U+001C to U+001F for it as well."""


class NoValue:
    """What a map gives for a key it hasn't."""

    def __str__(self) -> str:
        return "<no value>"


NO_VALUE = NoValue()


class NilList(list[Any]):
    """A nil slice: prints as an empty one, is null in JSON."""


class NilMap(dict[str, Any]):
    """A nil map: prints as an empty one, is null in JSON."""


# Fields that JSON shows as null and Go as an empty list or map.
_LISTS = frozenset(
    [
        "Args",
        "Binds",
        "BlkioDeviceReadBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceWriteIOps",
        "BlkioWeightDevice",
        "CapAdd",
        "CapDrop",
        "Cmd",
        "DeviceCgroupRules",
        "DeviceRequests",
        "Devices",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "Entrypoint",
        "Env",
        "ExecIDs",
        "ExtraHosts",
        "GroupAdd",
        "Links",
        "MaskedPaths",
        "Mounts",
        "OnBuild",
        "ReadonlyPaths",
        "RepoDigests",
        "RepoTags",
        "SecondaryIPAddresses",
        "SecondaryIPv6Addresses",
        "SecurityOpt",
        "Ulimits",
        "VolumesFrom",
        "Aliases",
        "DNSNames",
    ]
)
_MAPS = frozenset(["Labels", "Volumes", "Config", "DriverOpts", "Data", "PortBindings", "Ports"])
# Fields that Docker leaves out when they are empty.
_OPTIONAL = frozenset(
    [
        "Annotations",
        "ArgsEscaped",
        "CDISpecDirs",
        "Descriptor",
        "Driver",
        "Error",
        "ExposedPorts",
        "Health",
        "Healthcheck",
        "IP",
        "Init",
        "MacAddress",
        "Mounts",
        "Name",
        "NetworkDisabled",
        "OnBuild",
        "OsVersion",
        "PublicPort",
        "ReadOnly",
        "Runtime",
        "Shell",
        "SizeRootFs",
        "SizeRw",
        "StopSignal",
        "StopTimeout",
        "StorageOpt",
        "Sysctls",
        "Tmpfs",
        "Variant",
        "BindOptions",
        "TmpfsOptions",
        "VolumeOptions",
        "ImageOptions",
    ]
)


def _is_struct(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object stands for a struct rather than a map: its names are Go's exported ones."""
    return bool(value) and all(name[:1].isupper() and name.isidentifier() for name in value)


def field(value: Any, name: str) -> Any:
    """A field of a struct or an entry of a map.

    Raises:
        TemplateError: a struct hasn't the field.
    """
    if isinstance(value, Mapping):
        if name in value:
            found = value[name]
            if found is None:
                return NilList() if name in _LISTS else NilMap() if name in _MAPS else None
            return found
        if not _is_struct(value):
            return NO_VALUE
        # Go's name of a field and JSON's differ in case at most: ID and Id, APIVersion and ApiVersion.
        lowered = name.lower()
        for key in value:
            if key.lower() == lowered:
                return field(value, key)
        if name in _OPTIONAL:
            return NilList() if name in _LISTS else None
        raise TemplateError(f"template: can't evaluate field {name}")
    if value is None:
        raise TemplateError(f"template: nil pointer evaluating .{name}")
    if value is NO_VALUE:
        return NO_VALUE
    raise TemplateError(f"template: can't evaluate field {name} in type {type(value).__name__}")


def truth(value: Any) -> bool:
    """Whether a value counts as true: not nil, zero, or empty."""
    return value is not NO_VALUE and bool(value)


def items(value: Any) -> list[tuple[Any, Any]]:
    """What a range goes through.

    Raises:
        TemplateError: it is nothing to go through.
    """
    if value is None or value is NO_VALUE:
        return []
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(value)]
    raise TemplateError(f"template: range can't iterate over {text(value)}")


def text(value: Any) -> str:
    """A value as fmt's ``%v`` prints it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    if isinstance(value, Mapping):
        if _is_struct(value):
            return "{" + " ".join(text(item) for item in value.values()) + "}"
        return "map[" + " ".join(f"{key}:{text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(text(item) for item in value) + "]"
    return str(value)


def to_json(value: Any) -> str:
    """A value as JSON, in Go's compact form and without escaping what only HTML minds."""
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)


def escaped_json(value: Any) -> str:
    """A value as Go's json.Marshal writes it, safe inside HTML."""
    return to_json(value).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _plain(value: Any) -> Any:
    if value is NO_VALUE or isinstance(value, (NilList, NilMap)):
        return None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def unquote(literal: str) -> str:
    """The text of a Go string literal.

    Raises:
        TemplateError: it isn't one.
    """
    try:
        return str(json.loads(literal.replace("\\'", "'")))
    except ValueError as error:
        raise TemplateError(f"template: bad string {literal}") from error


def quote(value: str) -> str:
    """A Go string literal of a text."""
    return json.dumps(value, ensure_ascii=False)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, NO_VALUE)
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or not 0 <= key < len(value):
                raise TemplateError(f"template: error calling index: index out of range: {text(key)}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise TemplateError("template: error calling index: index of untyped nil")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    return value[slice(*bounds)] if len(bounds) != 1 else value[bounds[0] :]


def _length(value: Any) -> int:
    if value is None or value is NO_VALUE:
        raise TemplateError("template: error calling len: len of nil pointer")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("template: error calling eq: missing argument for comparison")
    return any(first == other and isinstance(first, bool) == isinstance(other, bool) for other in others)


def _compare(operation: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(first: Any, second: Any) -> bool:
        if isinstance(first, str) != isinstance(second, str):
            raise TemplateError("template: incompatible types for comparison")
        return operation(first, second)

    return compare


def _print(*values: Any) -> str:
    """fmt.Sprint: a blank between two operands when neither is a string."""
    result = ""
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            result += " "
        result += text(value)
    return result


def _printf(pattern: str, *values: Any) -> str:
    import re

    rest = list(values)

    def one(match: re.Match[str]) -> str:
        flags, verb = match.group(1), match.group(2)
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb in "vs":
            return f"%{flags}s" % text(value)
        if verb == "q":
            return f"%{flags}s" % quote(text(value))
        if verb == "t":
            return f"%{flags}s" % text(bool(value))
        if verb in "xX" and isinstance(value, str):
            return f"%{flags}s" % (value.encode().hex() if verb == "x" else value.encode().hex().upper())
        if verb == "b":
            return f"%{flags}s" % format(int(value), "b")
        if verb == "T":
            return type(value).__name__
        return str(f"%{flags}{verb}" % value)

    result = re.sub(r"%([-+# 0]*\d*(?:\.\d+)?)([a-zA-Z%])", one, pattern)
    return result + "".join(f"%!(EXTRA {text(value)})" for value in rest)


def _join(values: Any, separator: str) -> str:
    return separator.join(text(value) for value in values or ())


def _title(value: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in value.split(" "))


def _pad(value: str, before: int, after: int) -> str:
    return " " * before + value + " " * after if value else value


def _truncate(value: str, length: int) -> str:
    return value[:length]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": truth,
    "or": truth,
    "not": lambda value: not truth(value),
    "len": _length,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "println": lambda *values: " ".join(text(value) for value in values) + "\n",
    "printf": _printf,
    "html": lambda *values: (
        "".join(text(v) for v in values)
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace('"', "&#34;")
        .replace("'", "&#39;")
    ),
    "eq": _equal,
    "ne": lambda first, second: not _equal(first, second),
    "lt": _compare(lambda first, second: bool(first < second)),
    "le": _compare(lambda first, second: bool(first <= second)),
    "gt": _compare(lambda first, second: bool(first > second)),
    "ge": _compare(lambda first, second: bool(first >= second)),
    "json": to_json,
    "join": _join,
    "split": lambda value, separator: value.split(separator),
    "title": _title,
    "lower": lambda value: text(value).lower(),
    "upper": lambda value: text(value).upper(),
    "pad": _pad,
    "truncate": _truncate,
}

# In a table's header these leave the column's title as it is.
HEADER_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: value,
    "join": lambda value, *_: value,
    "split": lambda value, *_: value,
    "title": lambda value: value,
    "lower": lambda value: value,
    "upper": lambda value: value,
    "truncate": lambda value, *_: value,
}
