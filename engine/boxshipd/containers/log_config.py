"""Log drivers and their options. Source: moby daemon/logger (jsonfilelog, local, factory.go)."""

from __future__ import annotations

import re

from boxrun.container.spec import Log
from boxship.types.containers import ContainerConfig
from boxship.types.host import LogConfig

from boxshipd.errors import InvalidParameter, NotImplementedHere

DEFAULT_MAX_SIZE = 128 << 20
"""Bytes a log file grows to where nothing else is said, for any driver that writes files."""
DEFAULT_MAX_FILES = 4

_DOCKERS = frozenset({"syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "gcplogs", "etwlogs"})
_COMMON = frozenset({"mode", "max-buffer-size"})
_FILES = frozenset({"max-size", "max-file", "compress"})
_ATTRIBUTES = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})
_OPTIONS = {"json-file": _COMMON | _FILES | _ATTRIBUTES, "local": _COMMON | _FILES | _ATTRIBUTES, "none": _COMMON}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKmMgGtTpP]?)[iI]?[bB]?\Z")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse_size(text: str) -> int:
    """A size in bytes from a number with a binary unit (``10m``, ``1.5GiB``).

    Raises:
        InvalidParameter: it is none.
    """
    match = _SIZE.match(text)
    if match is None:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def effective(config: LogConfig, default: LogConfig) -> LogConfig:
    """A container's log configuration with the daemon's filled in: its options only where the driver is its, too."""
    driver = config.type or default.type or "json-file"
    options = dict(config.config or {})
    if driver == default.type:
        options = {**(default.config or {}), **options}
    return LogConfig(type=driver, config=options)


def build_log(
    config: LogConfig, *, container: ContainerConfig, container_id: str, name: str, image: str, directory: str
) -> Log:
    """What the runtime is told about a container's log.

    Args:
        config: the effective configuration.
        container: whose labels and environment options may name.
        container_id, name, image: what ``tag`` may name.
        directory: the container's directory, where the file goes.

    Raises:
        InvalidParameter: an unknown driver or option, or a malformed value.
        NotImplementedHere: a driver of Docker's that this engine hasn't.
    """
    driver = config.type
    options = config.config or {}
    if driver in _DOCKERS:
        raise NotImplementedHere(f"--log-driver {driver}: only json-file, local and none are available yet")
    if driver not in _OPTIONS:
        raise InvalidParameter(f"logger: no log driver named '{driver}' is registered")
    for option in options:
        if option not in _OPTIONS[driver]:
            raise InvalidParameter(f"unknown log opt '{option}' for {driver} log driver")
    blocking, buffer_size = _mode(options)
    if driver == "none":
        return Log(driver="none", blocking=blocking, buffer_size=buffer_size)
    max_size, max_files, compress = _rotation(driver, options)
    return Log(
        driver="local" if driver == "local" else "json-file",
        path=f"{directory}/local-logs/container.log" if driver == "local" else f"{directory}/{container_id}-json.log",
        max_size=max_size,
        max_files=max_files,
        compress=compress,
        attrs=_attributes(options, container, container_id, name, image),
        blocking=blocking,
        buffer_size=buffer_size,
    )


def _mode(options: dict[str, str]) -> tuple[bool, int]:
    mode = options.get("mode", "")
    if mode not in {"", "blocking", "non-blocking"}:
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    size = options.get("max-buffer-size")
    if size is None:
        return mode != "non-blocking", 1 << 20
    if mode != "non-blocking":
        raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    return False, parse_size(size)


def _rotation(driver: str, options: dict[str, str]) -> tuple[int, int, bool]:
    text = options.get("max-size")
    max_size = DEFAULT_MAX_SIZE
    if text is not None:
        max_size = -1 if text == "-1" else parse_size(text)
        if max_size == 0 or max_size < -1:
            raise InvalidParameter(f"max-size must be a positive number, or -1 for no limit: {text}")
    text = options.get("max-file")
    max_files = DEFAULT_MAX_FILES
    if text is not None:
        if not text.isdigit() or int(text) < 1:
            raise InvalidParameter(f"max-file cannot be less than 1: {text}")
        max_files = int(text)
    text = options.get("compress")
    if text is None:
        return max_size, max_files, driver == "local"
    if text not in _TRUE | _FALSE:
        raise InvalidParameter(f"compress must be true or false: {text}")
    return max_size, max_files, text in _TRUE


def _attributes(
    options: dict[str, str], container: ContainerConfig, container_id: str, name: str, image: str
) -> dict[str, str]:
    """What is written with every line: the labels and variables that are asked for, and the tag."""
    attributes: dict[str, str] = {}
    labels = container.labels or {}
    environment = dict(entry.partition("=")[::2] for entry in container.env or ())
    for option, values in (("labels", labels), ("env", environment)):
        for key in filter(None, options.get(option, "").split(",")):
            if key in values:
                attributes[key] = values[key]
    for option, values in (("labels-regex", labels), ("env-regex", environment)):
        if options.get(option):
            try:
                expression = re.compile(options[option])
            except re.error as error:
                raise InvalidParameter(f"{option} {options[option]!r}: {error}") from error
            attributes.update({key: value for key, value in values.items() if expression.search(key)})
    if "tag" in options:
        attributes["tag"] = _tag(
            options["tag"], {"ID": container_id[:12], "FullID": container_id, "Name": name, "ImageName": image}
        )
    return attributes


def _tag(template: str, values: dict[str, str]) -> str:
    """Docker's tag template, as far as it names fields."""

    def field(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise InvalidParameter(f"log opt tag: {match[0]} is not one of {', '.join('{{.' + n + '}}' for n in values)}")
        return values[match[1]]

    return re.sub(r"\{\{\s*\.(\w+)\s*\}\}", field, template)
