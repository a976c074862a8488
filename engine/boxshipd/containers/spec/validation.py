"""Checks of a configuration that need nothing but itself and the machine.

Source: moby daemon/container.go, daemon_unix.go (verifyPlatformContainerResources), runconfig; the messages are Docker's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from boxship import ulimits
from boxship.types.containers import ContainerConfig
from boxship.types.host import HostConfig, Ulimit
from msgspec import UNSET

from boxshipd.containers.signals import parse_signal
from boxshipd.errors import InvalidParameter, NotImplementedHere
from boxshipd.health import settings as health
from boxshipd.scheduler.restart import validate_policy

MINIMUM_MEMORY = 6 << 20
"""Bytes; runc's first process doesn't fit in less, and Docker's clients know the message."""

_DEVICE_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})\Z")


def validate_config(config: ContainerConfig) -> None:
    """Check the portable part.

    Raises:
        InvalidParameter: something can't be.
    """
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter(f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path")
    for entry in config.env or ():
        if not entry or entry.startswith("="):
            raise InvalidParameter(f"invalid environment variable: {entry}")
        if "\0" in entry:
            raise InvalidParameter("invalid environment variable: it contains a zero byte")
    if config.stop_signal:
        parse_signal(config.stop_signal)
    if config.stop_timeout is not UNSET and config.stop_timeout is not None and config.stop_timeout < -1:
        raise InvalidParameter(f"invalid stop timeout: {config.stop_timeout}")
    health.validate(config.healthcheck)


def validate_request(host: HostConfig) -> None:
    """Check what only a request may say, and what this engine hasn't.

    Raises:
        InvalidParameter, NotImplementedHere
    """
    absent = {
        "--cpu-count": bool(host.cpu_count),
        "--cpu-percent": bool(host.cpu_percent),
        "--io-maxiops": bool(host.io_maximum_iops),
        "--io-maxbandwidth": bool(host.io_maximum_bandwidth),
    }
    for flag, given in absent.items():
        if given:
            raise NotImplementedHere(f"{flag} is not available yet")
    if host.isolation not in {"", "default"}:
        raise InvalidParameter(f'invalid isolation "{host.isolation}" on linux')
    if host.cgroup:
        raise InvalidParameter(f"invalid cgroup mode: {host.cgroup}")


def validate_host_config(config: ContainerConfig, host: HostConfig) -> None:
    """Check the part that depends on the host.

    Raises:
        InvalidParameter: something can't be.
    """
    _modes(config, host)
    validate_resources(host)
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    health.on_failure(config, host)
    policy = host.restart_policy
    if policy is not None:
        if host.auto_remove and policy.name not in {"", "no"}:
            raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
        validate_policy(policy)
    for ulimit in host.ulimits or ():
        validate_ulimit(ulimit)
    for rule in host.device_cgroup_rules or ():
        if not _DEVICE_RULE.match(rule):
            raise InvalidParameter(f"invalid device cgroup rule format: '{rule}'")
    for entry in host.extra_hosts or ():
        name, sep, address = entry.replace("=", ":", 1).partition(":")
        if not sep or not name or not address:
            raise InvalidParameter(f'bad format for add-host: "{entry}"')
    for mapping in host.devices or ():
        if not set(mapping.cgroup_permissions) <= set("rwm"):
            raise InvalidParameter(f"invalid device mode: {mapping.cgroup_permissions}")


def validate_resources(host: HostConfig) -> None:
    """Check limits on memory, processors and block I/O, be they a new container's or changes to an old one's.

    Raises:
        InvalidParameter: one can't be.
    """
    _memory(host)
    _cpu(host)
    _blkio(host)


def validate_ulimit(ulimit: Ulimit) -> None:
    """Check one limit.

    Raises:
        InvalidParameter: no such limit, or the soft one is above the hard one.
    """
    if ulimit.name not in ulimits.NAMES:
        raise InvalidParameter(f"invalid ulimit type: {ulimit.name}")
    if ulimit.hard != -1 and (ulimit.soft == -1 or ulimit.soft > ulimit.hard):
        raise InvalidParameter(f"ulimit soft limit must be less than or equal to hard limit: {ulimit.soft} > {ulimit.hard}")


def _one_of(what: str, value: str, *allowed: str) -> None:
    joins = "container:" in allowed and value.startswith("container:") and value != "container:"
    if joins or (value in allowed and value != "container:"):
        return
    raise InvalidParameter(f"invalid {what}: {value}")


def _modes(config: ContainerConfig, host: HostConfig) -> None:
    _one_of("IPC mode", host.ipc_mode, "", "none", "private", "shareable", "host", "container:")
    _one_of("PID mode", host.pid_mode, "", "host", "container:")
    _one_of("UTS mode", host.uts_mode, "", "host")
    _one_of("userns mode", host.userns_mode, "", "host")
    _one_of("cgroup namespace mode", host.cgroupns_mode, "", "private", "host")
    if host.uts_mode == "host" and config.hostname:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    mode = host.network_mode
    if not mode.startswith("container:"):
        return
    if len(mode) == len("container:"):
        raise InvalidParameter("invalid container format container:<name|id>")
    conflicts = {
        "hostname": bool(config.hostname),
        "links": bool(host.links),
        "dns": bool(host.dns),
        "custom host-to-IP mapping": bool(host.extra_hosts),
    }
    for what, given in conflicts.items():
        if given:
            raise InvalidParameter(f"conflicting options: {what} and the network mode")
    if host.port_bindings or host.publish_all_ports:
        raise InvalidParameter("conflicting options: port publishing and the container type network mode")
    if config.exposed_ports:
        raise InvalidParameter("conflicting options: port exposing and the container type network mode")


def _memory(host: HostConfig) -> None:
    if host.memory and host.memory < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if host.memory > 0 and 0 < host.memory_swap < host.memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory == 0 and host.memory_swap > 0:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    swappiness = host.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidParameter(f"invalid value: {swappiness}, valid memory swappiness range is 0-100")
    reservation = host.memory_reservation
    if reservation and reservation < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if host.memory > 0 and reservation > host.memory:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host.kernel_memory:
        raise InvalidParameter("kernel memory limits are no longer supported by the kernel")


def _cpu(host: HostConfig) -> None:
    if host.nano_cpus:
        if host.cpu_period:
            raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
        if host.cpu_quota:
            raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
        cpus = os.cpu_count() or 1
        if host.nano_cpus < 0 or host.nano_cpus > cpus * 1_000_000_000:
            raise InvalidParameter(f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if host.cpu_shares < 0:
        raise InvalidParameter(f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer")
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    _set_within(host.cpuset_cpus, "cpus", "CPUs", "/sys/devices/system/cpu/online")
    _set_within(host.cpuset_mems, "mems", "memory nodes", "/sys/devices/system/node/online")


def parse_set(text: str) -> set[int]:
    """The numbers of a kernel list (``0-2,4``).

    Raises:
        ValueError: it is none.
    """
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, sep, last = part.partition("-")
        if sep and int(last) < int(first):
            raise ValueError(text)
        numbers.update(range(int(first), int(last if sep else first) + 1))
    return numbers


def _set_within(text: str, field: str, what: str, path: str) -> None:
    """Every member of a cpuset is online."""
    if not text:
        return
    try:
        wanted = parse_set(text)
    except ValueError:
        raise InvalidParameter(f"Invalid value {text} for cpuset {field}") from None
    try:
        with open(path, encoding="ascii") as file:
            available = file.read().strip()
    except FileNotFoundError:
        available = "0"
    if not wanted <= parse_set(available):
        raise InvalidParameter(f"Requested {what} are not available - requested {text}, available: {available}")


def _blkio(host: HostConfig) -> None:
    weights: Iterable[int] = [host.blkio_weight, *(w.weight for w in host.blkio_weight_device or ())]
    for weight in weights:
        if weight and not 10 <= weight <= 1000:
            raise InvalidParameter("Range of blkio weight is from 10 to 1000")
