"""The daemon's configuration: dockerd's flags and ``daemon.json`` keys, where they mean the same.

An option whose feature isn't here is refused by name, unless its value only says that the feature is off. Nothing that
was asked for is ever ignored.
Source: dockerd's ``daemon/config`` and ``daemon/command/options.go``, from which the messages are.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
from collections.abc import Mapping
from typing import Any

import msgspec
from boxship.types.host import LogConfig, Ulimit
from msgspec import Struct

from boxshipd import __version__
from boxshipd.absent_options import ABSENT, ABSENT_FLAGS, REASONS
from boxshipd.builder.cache import policy
from boxshipd.builder.cache.policy import BuilderSettings
from boxshipd.builder.cache.pruning import PruneOptions
from boxshipd.containers.log.config import validate_options
from boxshipd.containers.spec.validation import validate_ulimit
from boxshipd.errors import DaemonError, InvalidParameter
from boxshipd.networks.configured import check_networks, parse_network_option, parse_pool
from boxshipd.networks.pools import DEFAULT_POOLS
from boxshipd.networks.settings import NetworkSettings
from boxshipd.options import BY_KEY, FLAGS, OPTIONS, Option
from boxshipd.registry.hosts import CERTIFICATE_DIRECTORIES, RegistrySettings, check_insecure, check_mirror
from boxshipd.registry.proxies import Proxies, masked
from boxshipd.registry.settings import ClientSettings
from boxshipd.registry.timing import Timing

DEFAULT_CONFIG_FILE = "/etc/boxship/daemon.json"
OWN_RUNTIME = "boxrun"
CDI_SPEC_DIRS = ("/etc/cdi", "/var/run/cdi")
__all__ = ["ABSENT", "ABSENT_FLAGS", "BY_KEY", "FLAGS", "OPTIONS", "Config", "ConfigError", "load", "refuse_absent", "reload"]
RELEASE = ".".join(__version__.split(".")[:2])


class ConfigError(Exception):
    """The configuration can't be used; the text says what is wrong with which option."""


class Runtime(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Another OCI runtime: its program, which is looked up in PATH where it has no slash, and arguments for it."""

    path: str
    runtime_args: tuple[str, ...] = ()


def known_runtimes(configured: Mapping[str, Runtime]) -> dict[str, Runtime]:
    """The other runtimes that containers may ask for: those configured, and runc and crun where this machine has them."""
    return {name: Runtime(path=name) for name in ("runc", "crun") if shutil.which(name)} | dict(configured)


class Config(NetworkSettings, Struct, frozen=True, kw_only=True, rename="kebab"):
    """Every setting. Names are daemon.json's keys with underscores; see OPTIONS for what each means."""

    hosts: tuple[str, ...] = ()
    data_root: str = "/var/lib/boxship"
    exec_root: str = "/var/run/boxship"
    pidfile: str = "/var/run/boxship.pid"
    group: str = ""
    cgroup_parent: str = "/boxship"
    debug: bool = False
    log_level: str = "info"
    log_format: str = "text"
    labels: tuple[str, ...] = ()
    live_restore: bool = True
    shutdown_timeout: int = 15
    log_driver: str = "json-file"
    log_opts: dict[str, str] = {}
    default_shm_size: int = 64 << 20
    default_ulimits: dict[str, Ulimit] = {}
    default_ipc_mode: str = "private"
    default_cgroupns_mode: str = "private"
    no_new_privileges: bool = False
    seccomp_profile: str = ""
    init: bool = False
    userns_remap: str = ""
    runtimes: dict[str, Runtime] = {}
    default_runtime: str = OWN_RUNTIME
    cdi_spec_dirs: tuple[str, ...] = CDI_SPEC_DIRS
    signature_policy: str = ""
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registries: dict[str, RegistrySettings] = {}
    registry_certs_dirs: tuple[str, ...] = CERTIFICATE_DIRECTORIES
    proxies: Proxies = Proxies()
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    insecure_tcp: bool = False
    builder: BuilderSettings = BuilderSettings()

    @property
    def level(self) -> str:
        """The log level in effect: ``--debug`` wins."""
        return "debug" if self.debug else self.log_level

    @property
    def registry_client(self) -> ClientSettings:
        """What the registry client is told. The proxies' own options win over those of ``proxies``, as they are flags."""
        proxies = Proxies(
            http_proxy=self.http_proxy or self.proxies.http_proxy,
            https_proxy=self.https_proxy or self.proxies.https_proxy,
            no_proxy=self.no_proxy or self.proxies.no_proxy,
        )
        return ClientSettings(
            mirrors=self.registry_mirrors,
            insecure=self.insecure_registries,
            registries=self.registries,
            certificates=self.registry_certs_dirs,
            proxies=proxies,
            timing=Timing(attempts=self.max_download_attempts),
        )

    @property
    def log_config(self) -> LogConfig:
        """The log driver containers get that ask for none."""
        return LogConfig(type=self.log_driver, config=dict(self.log_opts))


_WITH_USERS = frozenset({"proxies", "http-proxy", "https-proxy", "registry-mirrors"})
_LEVELS = ("debug", "info", "warn", "error", "fatal", "panic", "trace")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)


def load(flags: Mapping[str, Any], config_file: str | None) -> Config:
    """Merge what the command line and the file say.

    Args:
        flags: values given on the command line, by key.
        config_file: the file; None for the default one, which need not exist.

    Raises:
        ConfigError: an option is unknown, given twice, not available, or wrong.
    """
    path = config_file or DEFAULT_CONFIG_FILE
    try:
        values = read_file(path)
        conflicts = [
            f"{key}: (from flag: {_told(key, flags[key])}, from file: {_told(key, values[key])})"
            for key in values
            if key in flags
        ]
        if conflicts:
            raise ConfigError(
                f"the following directives are specified both as a flag and in the configuration file: {', '.join(conflicts)}"
            )
        build(values)
    except FileNotFoundError as error:
        if config_file is not None:
            raise ConfigError(f"unable to configure the daemon with file {path}: {error}") from error
        values = {}
    except (OSError, ConfigError) as error:
        raise ConfigError(f"unable to configure the daemon with file {path}: {error}") from error
    return build({**values, **flags})


def read_file(path: str) -> dict[str, Any]:
    """The file's keys and values; unknown keys are refused, absent features too unless they are off.

    Raises:
        OSError: it can't be read.
        ConfigError: it isn't a JSON object, or names what isn't known.
    """
    with open(path, "rb") as file:
        text = file.read().removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        return {}
    try:
        values = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigError(str(error)) from error
    if isinstance(values.get("host-gateway-ip"), str) and "host-gateway-ips" not in values:
        # Its name while there could be only one.
        values["host-gateway-ips"] = [values.pop("host-gateway-ip")]
    unknown = [key for key in values if key not in BY_KEY and key not in ABSENT]
    if unknown:
        raise ConfigError(f"the following directives don't match any configuration option: {', '.join(unknown)}")
    for key in values.keys() & ABSENT.keys():
        refuse_absent(key, values[key], key)
    return {key: value for key, value in values.items() if key in BY_KEY}


def refuse_absent(key: str, value: Any, named: str) -> None:
    """Refuse an option whose feature isn't here.

    Raises:
        ConfigError: ``value`` asks for the feature; ``named`` is the option as the user wrote it.
    """
    accepted = ABSENT[key]
    if isinstance(value, str) and [] in accepted:
        # A flag gives a list's items one by one.
        value = [value]
    if value in accepted or (isinstance(value, dict) and value and not any(value.values()) and {} in accepted):
        return
    hint = f" (only {' or '.join(_shown(entry) or 'nothing' for entry in accepted)})" if accepted else ""
    reason = f": {REASONS[key]}" if key in REASONS else ""
    raise ConfigError(f"{named} {_shown(value)} is not available in Boxship {RELEASE}{hint}{reason}")


def build(values: Mapping[str, Any]) -> Config:
    """Make the configuration of values by key.

    Raises:
        ConfigError: a value is wrong, or doesn't go with another.
    """
    prepared = {key: _prepare(BY_KEY[key], value) for key, value in values.items()}
    if prepared.get("tlsverify") or (prepared.get("tls") and "tlsverify" not in prepared):
        prepared["tls"] = prepared["tlsverify"] = True
    if prepared.get("tls"):
        _default_certificates(prepared)
    for key in ("data-root", "exec-root", "pidfile", "signature-policy"):
        if prepared.get(key):
            prepared[key] = os.path.abspath(prepared[key])
    try:
        config = msgspec.convert(prepared, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from error
    _validate(config)
    return config


def reload(running: Config, flags: Mapping[str, Any], config_file: str | None) -> tuple[Config, list[str]]:
    """The configuration after SIGHUP: reloadable keys as the file has them now, the rest as it runs.

    Returns:
        The configuration, and the keys that have changed in the file and take effect at the daemon's next start only.

    Raises:
        ConfigError: the file is wrong; nothing has changed then.
    """
    fresh = load(flags, config_file)
    values: dict[str, Any] = {}
    waiting = []
    for option in OPTIONS:
        name = option.key.replace("-", "_")
        value = getattr(fresh, name)
        if option.reloadable:
            values[name] = value
        elif value != getattr(running, name):
            waiting.append(option.key)
    return msgspec.structs.replace(running, **values), waiting


def _default_certificates(values: dict[str, Any]) -> None:
    directory = os.environ.get("DOCKER_CERT_PATH") or os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    for key, name in (("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem")):
        values.setdefault(key, os.path.join(directory, name))


def _prepare(option: Option, value: Any) -> Any:
    """Bring a value from the file or the command line into the form that Config has."""
    if option.kind == "bytes" and isinstance(value, str):
        return parse_size(value, option.key)
    if option.kind == "ulimits" and isinstance(value, list):
        return dict(parse_ulimit(text) for text in value)
    if option.kind == "runtimes" and isinstance(value, list):
        return {name: Runtime(path=path) for name, path in (_pair(text, option.flag) for text in value)}
    if option.kind == "registries" and isinstance(value, list):
        mirrors: dict[str, list[str]] = {}
        for name, address in (_pair(text, option.flag) for text in value):
            mirrors.setdefault(name, []).append(address)
        return {name: RegistrySettings(mirrors=tuple(addresses)) for name, addresses in mirrors.items()}
    try:
        if option.kind == "pools" and all(isinstance(item, str) for item in value):
            return [parse_pool(text) for text in value] or DEFAULT_POOLS
        if option.kind == "options" and isinstance(value, list):
            return parse_network_option(value)
    except InvalidParameter as error:
        raise ConfigError(f'invalid argument "{",".join(value)}" for "--{option.flag}" flag: {error}') from error
    if option.kind == "map" and isinstance(value, list):
        return dict(_pair(text, option.flag) for text in value)
    return value


def _pair(text: str, flag: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f'invalid argument "{text}" for "--{flag}" flag: it must be key=value')
    return name, value


def parse_size(text: str, name: str) -> int:
    """Read a size such as ``64m`` (powers of 1024) as bytes.

    Raises:
        ConfigError: it isn't one.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ConfigError(f"{name}: invalid size: '{text}'")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


def parse_ulimit(text: str) -> tuple[str, Ulimit]:
    """Read ``name=soft[:hard]``.

    Raises:
        ConfigError: it isn't that.
    """
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        return name, Ulimit(name=name, soft=int(soft), hard=int(hard or soft))
    except ValueError:
        raise ConfigError(f"invalid ulimit argument: {text}") from None


def _validate(config: Config) -> None:
    if config.log_level.lower() not in _LEVELS:
        raise ConfigError(f"invalid logging level: {config.log_level}")
    if config.log_format not in ("text", "json"):
        raise ConfigError(f"invalid log format: {config.log_format}")
    try:
        validate_options(config.log_config)
    except DaemonError as error:
        raise ConfigError(f"failed to set log opts: {error}") from error
    try:
        check_networks(config)
    except DaemonError as error:
        raise ConfigError(str(error)) from error
    if config.default_ipc_mode not in ("private", "shareable"):
        raise ConfigError(f'IPC mode "{config.default_ipc_mode}" is not valid: it must be private or shareable')
    if config.default_cgroupns_mode not in ("private", "host"):
        raise ConfigError(f'default cgroup namespace mode "{config.default_cgroupns_mode}" is invalid, use "host" or "private"')
    _validate_registries(config)
    if ".." in config.cgroup_parent.split("/"):
        raise ConfigError(f"cgroup-parent: {config.cgroup_parent} leads out of the hierarchy")
    for server in config.dns:
        try:
            ipaddress.ip_address(server)
        except ValueError:
            raise ConfigError(f"dns: IP address is not correctly formatted: {server}") from None
    try:
        policy.check(config.builder, lambda text: parse_size(text, "builder"))
    except DaemonError as error:
        raise ConfigError(f"builder: {error}") from error
    for ulimit in config.default_ulimits.values():
        try:
            validate_ulimit(ulimit)
        except DaemonError as error:
            raise ConfigError(f"default-ulimits: {error}") from error
    if OWN_RUNTIME in config.runtimes:
        raise ConfigError(f"runtime name '{OWN_RUNTIME}' is reserved")
    for name, runtime in config.runtimes.items():
        if not name or not runtime.path:
            raise ConfigError(f"runtime '{name}' is configured without a path")
    if config.default_runtime != OWN_RUNTIME and config.default_runtime not in known_runtimes(config.runtimes):
        raise ConfigError(f"specified default runtime '{config.default_runtime}' does not exist")
    seen: dict[str, str] = {}
    for label in config.labels:
        name, equals, value = label.partition("=")
        if not equals or not name:
            raise ConfigError(f"bad attribute format: {label}")
        if seen.setdefault(name, value) != value:
            raise ConfigError(f"conflict labels for {name}={value} and {name}={seen[name]}")


def _validate_registries(config: Config) -> None:
    try:
        for mirror in config.registry_mirrors:
            check_mirror(mirror)
        for insecure in config.insecure_registries:
            check_insecure(insecure)
        for prefix, settings in config.registries.items():
            check_insecure(prefix.partition("/")[0])
            for mirror in settings.mirrors:
                check_mirror(mirror)
    except DaemonError as error:
        raise ConfigError(str(error)) from error
    for key, value in (
        ("max concurrent downloads", config.max_concurrent_downloads),
        ("max concurrent uploads", config.max_concurrent_uploads),
    ):
        if value < 0:
            raise ConfigError(f"invalid {key}: {value}")
    if config.max_download_attempts <= 0:
        raise ConfigError(f"invalid max download attempts: {config.max_download_attempts}")


def _told(key: str, value: Any) -> str:
    """A value for a message, without the passwords that addresses of proxies and mirrors may have."""
    return _shown(_without_users(value) if key in _WITH_USERS else value)


def _without_users(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_users(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_users(entry) for entry in value]
    return masked(value) if isinstance(value, str) else value


def cache_rules(config: Config) -> list[PruneOptions]:
    """What of the build cache is removed by itself; the data root must be there."""
    return policy.rules(config.builder.gc, lambda text: parse_size(text, "builder"), config.data_root)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(_shown, value))}]"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
