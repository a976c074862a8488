"""The options of the log drivers that send, checked with the words of Docker's.

Source: moby daemon/logger (syslog, fluentd, gelf, journald, and loggerutils/cache).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

from boxrun.shim.logs.durations import seconds
from boxrun.shim.logs.syslog import FACILITIES

from boxshipd.containers.log.values import parse_boolean, parse_size
from boxshipd.errors import InvalidParameter

Options = Mapping[str, str]

ATTRIBUTES = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})

SYSLOG = frozenset(
    {"syslog-address", "syslog-facility", "syslog-format"}
    | {"syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"}
)
FLUENTD = frozenset(
    {"fluentd-address", "fluentd-async", "fluentd-async-reconnect-interval", "fluentd-buffer-limit", "fluentd-max-retries"}
    | {"fluentd-request-ack", "fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-read-timeout"}
    | {"fluentd-write-timeout"}
)
GELF = frozenset(
    {"gelf-address", "gelf-compression-level", "gelf-compression-type", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"}
)

BUFFER_LIMIT = 1 << 20
"""Messages that an asynchronous fluentd driver holds where nothing else is said."""

_TRANSPORTS = frozenset({"tcp", "tcp+tls", "udp", "unix", "unixgram"})


def validate_journald(options: Options) -> None:
    """It has no options but those that all have."""


def validate_syslog(options: Options) -> None:
    """Check the options of the syslog driver.

    Raises:
        InvalidParameter: one is malformed.
    """
    address = options.get("syslog-address", "")
    if address:
        url = _transport(address, "syslog-address")
        if url.scheme in {"unix", "unixgram"}:
            if not os.path.exists(url.path):
                raise InvalidParameter(f"stat {url.path}: no such file or directory")
        else:
            _port(url, "syslog-address")
    facility = options.get("syslog-facility", "")
    if facility and facility not in FACILITIES and not (facility.isascii() and facility.isdigit() and int(facility) <= 23):
        raise InvalidParameter("invalid syslog facility")
    if options.get("syslog-format", "") not in {"", "rfc3164", "rfc5424", "rfc5424micro"}:
        raise InvalidParameter("Invalid syslog format")
    if address.startswith("tcp+tls://"):
        for name in ("syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key"):
            path = options.get(name, "")
            if path and not os.path.exists(path):
                raise InvalidParameter(f"{name}: open {path}: no such file or directory")


def validate_fluentd(options: Options) -> None:
    """Check the options of the fluentd driver.

    Raises:
        InvalidParameter: one is malformed.
    """
    address = options.get("fluentd-address", "")
    if address:
        url = urlsplit(address if "://" in address else f"tcp://{address}")
        if url.scheme not in {"tcp", "tls", "unix"}:
            raise InvalidParameter(f"unsupported scheme in fluentd-address: {address}")
        if url.scheme == "unix":
            if not url.path:
                raise InvalidParameter("path is empty")
        elif url.path not in {"", "/"}:
            raise InvalidParameter(f"should not have a path element: invalid fluentd-address: {address}")
        else:
            _port(url, "fluentd-address")
    for name in ("fluentd-async", "fluentd-request-ack", "fluentd-sub-second-precision"):
        parse_boolean(name, options.get(name, ""))
    for name in ("fluentd-retry-wait", "fluentd-read-timeout", "fluentd-write-timeout", "fluentd-async-reconnect-interval"):
        try:
            seconds(options.get(name, ""))
        except ValueError as error:
            raise InvalidParameter(f"invalid value for {name}: {error}") from error
    if options.get("fluentd-buffer-limit"):
        parse_size(options["fluentd-buffer-limit"])
    _natural(options, "fluentd-max-retries")


def messages_limit(options: Options) -> int:
    """How many messages an asynchronous fluentd driver may hold; 0 where it isn't one."""
    if not parse_boolean("fluentd-async", options.get("fluentd-async", "")):
        return 0
    limit = options.get("fluentd-buffer-limit", "")
    return parse_size(limit) if limit else BUFFER_LIMIT


def validate_gelf(options: Options) -> None:
    """Check the options of the gelf driver.

    Raises:
        InvalidParameter: one is malformed, missing, or not for its transport.
    """
    address = options.get("gelf-address", "")
    if not address:
        raise InvalidParameter("gelf-address is a required parameter")
    url = urlsplit(address)
    if url.scheme not in {"udp", "tcp"}:
        raise InvalidParameter("gelf: endpoint needs to be TCP or UDP")
    if _port(url, "gelf-address") is None:
        raise InvalidParameter("gelf: please provide gelf-address as proto://host:port")
    for name in ("gelf-compression-level", "gelf-compression-type"):
        if name not in options:
            continue
        if url.scheme != "udp":
            raise InvalidParameter("compression is only supported on UDP")
        allowed = {str(level) for level in range(-1, 10)} if name.endswith("level") else {"gzip", "zlib", "none"}
        if options[name] not in allowed:
            raise InvalidParameter(f'unknown value "{options[name]}" for log opt "{name}" for gelf log driver')
    for name in ("gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"):
        if name in options and url.scheme != "tcp":
            raise InvalidParameter(f'"{name}" is only valid for TCP')
        if name in options and not (options[name].isascii() and options[name].isdigit()):
            raise InvalidParameter(f'"{name}" must be a positive integer')


VALIDATORS: dict[str, tuple[frozenset[str], Callable[[Options], None]]] = {
    "journald": (frozenset(), validate_journald),
    "syslog": (SYSLOG, validate_syslog),
    "fluentd": (FLUENTD, validate_fluentd),
    "gelf": (GELF, validate_gelf),
}
"""For each driver that sends: its own options, and what checks them."""


def _transport(address: str, option: str) -> SplitResult:
    url = urlsplit(address)
    if "://" not in address or url.scheme not in _TRANSPORTS:
        raise InvalidParameter(f"{option} should be in form proto://address, got {address}")
    return url


def _port(url: SplitResult, option: str) -> int | None:
    try:
        return url.port
    except ValueError as error:
        raise InvalidParameter(f"invalid {option} {url.geturl()}: {error}") from error


def _natural(options: Options, name: str) -> None:
    text = options.get(name, "")
    if text and not (text.isascii() and text.isdigit()):
        raise InvalidParameter(f'{name}: strconv.ParseUint: parsing "{text}": invalid syntax')
