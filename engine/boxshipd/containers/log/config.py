"""Log drivers and their options. Source: moby daemon/logger (factory.go, loginfo.go, jsonfilelog, local, loggerutils/cache)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from boxrun.container.spec import Log, LogSubject
from boxship.types.containers import ContainerConfig
from boxship.types.host import LogConfig
from msgspec.structs import replace

from boxshipd.containers.log.drivers import ATTRIBUTES, VALIDATORS, messages_limit
from boxshipd.containers.log.tag import DEFAULT, LogInfo, render_tag
from boxshipd.containers.log.values import parse_boolean, parse_size
from boxshipd.errors import InvalidParameter, NotImplementedHere

__all__ = ["DRIVERS", "build_log", "effective", "parse_size", "validate_options"]

DEFAULT_MAX_SIZE = 128 << 20
"""Bytes a log file grows to where nothing else is said, for the drivers that write files."""
DEFAULT_MAX_FILES = 4

CACHE_MAX_SIZE = 20 << 20
"""The same for the cache of a driver that sends; Docker's."""
CACHE_MAX_FILES = 5

DRIVERS = ("fluentd", "gelf", "journald", "json-file", "local", "none", "syslog")
"""The drivers there are."""

_ABSENT = frozenset({"awslogs", "splunk", "gcplogs", "etwlogs"})
_COMMON = frozenset({"mode", "max-buffer-size"})
_FILES = frozenset({"max-size", "max-file", "compress"})
_CACHE = frozenset({"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"})


def effective(config: LogConfig, default: LogConfig) -> LogConfig:
    """A container's log configuration with the daemon's filled in.

    The daemon's options count where the driver is its, too; those of the cache for whatever driver.
    """
    driver = config.type or default.type or "json-file"
    options = dict(config.config or {})
    inherited = default.config or {}
    if driver != default.type:
        inherited = {name: value for name, value in inherited.items() if name in _CACHE and driver in VALIDATORS}
    return LogConfig(type=driver, config={**inherited, **options})


def validate_options(config: LogConfig) -> None:
    """Check a driver's name and its options.

    Raises:
        InvalidParameter: an unknown driver or option, or a malformed value.
        NotImplementedHere: a driver of Docker's that this engine hasn't.
    """
    driver, options = config.type, config.config or {}
    if driver in _ABSENT:
        raise NotImplementedHere(f"--log-driver {driver}: there are {', '.join(DRIVERS)}")
    if driver not in DRIVERS:
        raise InvalidParameter(f"logger: no log driver named '{driver}' is registered")
    if driver == "none":
        # Docker looks at none of them.
        return
    _mode(options)
    own, validate = VALIDATORS.get(driver, (_FILES, None))
    for option in options:
        if option not in _COMMON | _CACHE | ATTRIBUTES | own:
            quoted = f'"{option}"' if driver == "gelf" else f"'{option}'"
            raise InvalidParameter(f"unknown log opt {quoted} for {driver} log driver")
    if validate is not None:
        validate(options)
    else:
        _rotation(driver, options)
    _cache(options)


def build_log(
    config: LogConfig,
    *,
    container: ContainerConfig,
    container_id: str,
    name: str,
    image: str,
    directory: str,
    image_id: str = "",
    command: tuple[str, ...] = (),
    created: str = "",
) -> Log:
    """What the runtime is told about a container's log.

    Args:
        config: the effective configuration.
        container: whose labels and environment options may name.
        container_id, name, image, image_id, command, created: see ``LogInfo``.
        directory: the container's directory, where the files go.

    Raises:
        InvalidParameter, NotImplementedHere: as ``validate_options`` has it, or the tag can't be made.
    """
    validate_options(config)
    driver, options = config.type, config.config or {}
    if driver == "none":
        return Log(driver="none")
    blocking, buffer_size = _mode(options)
    attributes = _attributes(options, container)
    info = LogInfo(
        container_id=container_id,
        name=name,
        image_id=image_id,
        image=image,
        command=command,
        created=created,
        attributes=attributes,
    )
    common = Log(attrs=attributes, blocking=blocking, buffer_size=buffer_size)
    if driver in VALIDATORS:
        return _sending(common, driver, options, info, directory)
    max_size, max_files, compress = _rotation(driver, options)
    tag = {"tag": render_tag(options["tag"], info)} if options.get("tag") else {}
    return replace(
        common,
        attrs=attributes | tag,
        driver=driver,
        path=f"{directory}/local-logs/container.log" if driver == "local" else f"{directory}/{container_id}-json.log",
        max_size=max_size,
        max_files=max_files,
        compress=compress,
    )


def _sending(common: Log, driver: str, options: Mapping[str, str], info: LogInfo, directory: str) -> Log:
    """The log of a driver that sends, whose file is the cache."""
    own, _ = VALIDATORS[driver]
    disabled, max_size, max_files, compress = _cache(options)
    return replace(
        common,
        driver=driver,
        path="" if disabled else f"{directory}/local-logs/container-cached.log",
        max_size=max_size,
        max_files=max_files,
        compress=compress,
        options={name: value for name, value in options.items() if name in own},
        subject=LogSubject(
            id=info.container_id,
            name=info.name,
            image_id=info.image_id,
            image_name=info.image,
            command=" ".join(info.command),
            created=info.created,
            tag=render_tag(options.get("tag") or DEFAULT, info),
        ),
        messages_limit=messages_limit(options),
    )


def _mode(options: Mapping[str, str]) -> tuple[bool, int]:
    mode = options.get("mode", "")
    if mode not in {"", "blocking", "non-blocking"}:
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    size = options.get("max-buffer-size")
    if size is None:
        return mode != "non-blocking", 1 << 20
    if mode != "non-blocking":
        raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    try:
        return False, parse_size(size)
    except InvalidParameter as error:
        raise InvalidParameter(f"error parsing option max-buffer-size: {error}") from error


def _rotation(driver: str, options: Mapping[str, str]) -> tuple[int, int, bool]:
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
        return max_size, max_files, driver == "local" and max_files > 1
    try:
        compress = parse_boolean("compress", text)
    except InvalidParameter as error:
        raise InvalidParameter(f"compress must be true or false: {text}") from error
    if compress and (max_files == 1 or max_size == -1):
        raise InvalidParameter("compress cannot be true when max-file is less than 2 or max-size is not set")
    return max_size, max_files, compress


def _cache(options: Mapping[str, str]) -> tuple[bool, int, int, bool]:
    """Whether there is no cache, and its rotation."""
    try:
        disabled = parse_boolean("cache-disabled", options.get("cache-disabled", ""))
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid value for option cache-disabled: {options['cache-disabled']}") from error
    text = options.get("cache-max-size", "")
    max_size = -1 if text == "-1" else parse_size(text) if text else CACHE_MAX_SIZE
    text = options.get("cache-max-file", "")
    if text and (not text.isdigit() or int(text) < 1):
        raise InvalidParameter(f"cache-max-file cannot be less than 1: {text}")
    compress = parse_boolean("cache-compress", options.get("cache-compress", ""), default=True)
    return disabled, max_size, int(text or CACHE_MAX_FILES), compress


def _attributes(options: Mapping[str, str], container: ContainerConfig) -> dict[str, str]:
    """What is logged with every line: the labels and variables that are asked for."""
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
    return attributes
