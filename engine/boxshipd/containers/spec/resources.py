"""Limits and devices: from Docker's units and paths to the runtime's.

Source: moby daemon/daemon_unix.go (getCPUResources, getBlkio…), pkg/oci/devices_linux.go.
"""

from __future__ import annotations

import os
import stat

from boxrun.container.defaults import DEFAULT_DEVICES, default_device_rules
from boxrun.container.spec import Device, DeviceRule, DeviceValue, Resources, Rlimit
from boxship.types.host import DeviceMapping, HostConfig, ThrottleDevice, Ulimit, WeightDevice

from boxshipd.errors import InternalError, InvalidParameter

_CFS_PERIOD = 100_000
_DEFAULT_TARGETS = frozenset(device.target for device in DEFAULT_DEVICES)
_NOT_WALKED = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})


def build_resources(host: HostConfig, rules: tuple[DeviceRule, ...]) -> Resources:
    """The limits of a container; ``rules`` are the devices it may use.

    Raises:
        InvalidParameter: a limit names something that isn't a block device.
    """
    period, quota = host.cpu_period or None, host.cpu_quota or None
    if host.nano_cpus:
        period, quota = _CFS_PERIOD, host.nano_cpus * _CFS_PERIOD // 1_000_000_000
    swap = host.memory_swap or (host.memory * 2 if host.memory > 0 else 0)
    swappiness = host.memory_swappiness
    return Resources(
        memory=host.memory or None,
        memory_reservation=host.memory_reservation or None,
        memory_swap=swap or None,
        memory_swappiness=None if swappiness in {None, -1} else swappiness,
        oom_kill_disable=bool(host.oom_kill_disable),
        cpu_shares=host.cpu_shares or None,
        cpu_quota=quota,
        cpu_period=period,
        cpu_realtime_period=host.cpu_realtime_period or None,
        cpu_realtime_runtime=host.cpu_realtime_runtime or None,
        cpuset_cpus=host.cpuset_cpus,
        cpuset_mems=host.cpuset_mems,
        pids_limit=host.pids_limit or None,
        blkio_weight=host.blkio_weight or None,
        blkio_weight_device=tuple(_value(device, device.weight) for device in host.blkio_weight_device or ()),
        read_bps=_rates(host.blkio_device_read_bps),
        write_bps=_rates(host.blkio_device_write_bps),
        read_iops=_rates(host.blkio_device_read_iops),
        write_iops=_rates(host.blkio_device_write_iops),
        devices=rules,
    )


def build_rlimits(host: HostConfig, defaults: dict[str, Ulimit]) -> tuple[Rlimit, ...]:
    """The container's limits, and the daemon's where it sets none of that name."""
    limits = {**defaults, **{ulimit.name: ulimit for ulimit in host.ulimits or ()}}
    return tuple(Rlimit(name=name, soft=limit.soft, hard=limit.hard) for name, limit in limits.items())


def _rates(devices: list[ThrottleDevice] | None) -> tuple[DeviceValue, ...]:
    return tuple(_value(device, device.rate) for device in devices or ())


def _value(device: ThrottleDevice | WeightDevice, value: int) -> DeviceValue:
    try:
        status = os.stat(device.path)
    except OSError as error:
        raise InvalidParameter(f"block device {device.path}: {error.strerror}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidParameter(f"{device.path} is not a block device")
    return DeviceValue(major=os.major(status.st_rdev), minor=os.minor(status.st_rdev), value=value)


def named_devices(host: HostConfig) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """The nodes ``--device`` names and the rules for the device controller.

    Raises:
        InternalError: a device isn't there, as Docker has it.
        InvalidParameter: it is no device.
    """
    devices: list[Device] = []
    rules = list(default_device_rules())
    for mapping in host.devices or ():
        for source, target in _expand(mapping):
            rules.append(_rule(source, mapping.cgroup_permissions or "rwm"))
            devices.append(Device(source=source, target=target))
    for text in host.device_cgroup_rules or ():
        kind, numbers, access = text.split(" ")
        major, minor = (-1 if part == "*" else int(part) for part in numbers.split(":"))
        rules.append(
            DeviceRule(
                allow=True, kind="a" if kind == "a" else "b" if kind == "b" else "c", major=major, minor=minor, access=access
            )
        )
    return tuple(devices), tuple(rules)


def _expand(mapping: DeviceMapping) -> list[tuple[str, str]]:
    """Source and target of each node a mapping means; a directory means those below it."""
    target = mapping.path_in_container or mapping.path_on_host
    source = os.path.realpath(mapping.path_on_host)
    try:
        mode = os.stat(source).st_mode
    except OSError as error:
        raise InternalError(
            f'error gathering device information while adding custom device "{mapping.path_on_host}": '
            f"{(error.strerror or '').lower()}"
        ) from error
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        return [(source, target)]
    found = [(path, target + path.removeprefix(source)) for path in _walk(source)] if stat.S_ISDIR(mode) else []
    if not found:
        raise InvalidParameter(
            f'error gathering device information while adding custom device "{mapping.path_on_host}": not a device node'
        )
    return found


def _rule(path: str, access: str) -> DeviceRule:
    status = os.stat(path)
    return DeviceRule(
        allow=True,
        kind="b" if stat.S_ISBLK(status.st_mode) else "c",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        access=access,
    )


def host_devices(host: HostConfig) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """All of the host's devices, for a privileged container, and those it wants under other names.

    Raises:
        InternalError, InvalidParameter: as ``named_devices``.
    """
    paths = [path for path in _walk("/dev") if path not in _DEFAULT_TARGETS and path not in {"/dev/console", "/dev/ptmx"}]
    devices = [Device(source=path, target=path) for path in paths]
    for mapping in host.devices or ():
        # Under its own name it is there already.
        if mapping.path_in_container not in ("", mapping.path_on_host):
            devices += [Device(source=source, target=target) for source, target in _expand(mapping)]
    return tuple(devices), default_device_rules(privileged=True)


def _walk(directory: str) -> list[str]:
    """Device nodes in a directory and below, but for other file systems' mount points; links aren't followed."""
    found = []
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _NOT_WALKED:
                    found += _walk(entry.path)
            elif not entry.is_symlink():
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
                    found.append(entry.path)
    return found
