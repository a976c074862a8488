"""From the flags of ``create`` and ``run`` to the body of ContainerCreate."""

from __future__ import annotations

import json
from typing import Any

from boxship.cli.container_flags import CreateOptions
from boxship.cli.devices import gpu_request, is_cdi
from boxship.cli.environment import lines, variables
from boxship.cli.health_config import health_check, on_failure
from boxship.cli.network_config import network_config
from boxship.cli.publish import Publication, published
from boxship.errors import CommandError, InvalidValue

_FAILURE = 125


def create_body(options: CreateOptions, image: str, command: list[str], *, detached: bool = False) -> dict[str, Any]:
    """The body of ContainerCreate, as Docker's command line would send it.

    Args:
        options: the flags.
        image: the image's reference.
        command: overrides the image's command where not empty.
        detached: whether nothing is attached (``run -d``).

    Raises:
        CommandError: flags contradict each other or a file can't be read (status 125).
    """
    attached = set(options.attach) or ({"stdout", "stderr"} if not detached else set())
    if options.interactive and not detached:
        attached.add("stdin")
    binds: list[str] = []
    volumes: dict[str, dict[str, str]] = {}
    if options.volume:
        from boxship.cli.mounts import split_volumes

        binds, volumes = split_volumes(options.volume)
    mode, endpoints = network_config(options)
    ports = published(options.publish)
    body: dict[str, Any] = {
        "Hostname": options.hostname,
        "Domainname": options.domainname,
        "User": options.user,
        "AttachStdin": "stdin" in attached,
        "AttachStdout": "stdout" in attached,
        "AttachStderr": "stderr" in attached,
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        "StdinOnce": options.interactive and "stdin" in attached,
        "Env": [*variables(options.env_file), *options.env] or None,
        "Cmd": command or None,
        "Image": image,
        "Volumes": volumes,
        "WorkingDir": options.workdir,
        "Entrypoint": [options.entrypoint] if options.given("entrypoint") else None,
        "OnBuild": None,
        "Labels": _pairs([*lines(options.label_file), *options.label]),
        "HostConfig": _host_config(options, binds) | {"NetworkMode": mode, "PortBindings": _bindings(ports)},
        "NetworkingConfig": {"EndpointsConfig": endpoints},
    }
    if options.stop_signal:
        body["StopSignal"] = options.stop_signal
    if options.given("stop-timeout"):
        body["StopTimeout"] = options.stop_timeout
    if (check := health_check(options)) is not None:
        body["Healthcheck"] = check
    if exposed := _exposed(options.expose) | {port.port: {} for port in ports}:
        body["ExposedPorts"] = exposed
    if options.mac_address and not endpoints:
        body["MacAddress"] = options.mac_address
    return body


def _host_config(options: CreateOptions, binds: list[str]) -> dict[str, Any]:
    security, unmasked = _security(options.security_opt)
    config: dict[str, Any] = {
        "Binds": binds or None,
        "ContainerIDFile": options.cidfile,
        "LogConfig": {"Type": options.log_driver, "Config": _pairs(options.log_opt)},
        "RestartPolicy": _restart(options),
        "AutoRemove": options.rm,
        "CapAdd": _capabilities(options.cap_add),
        "CapDrop": _capabilities(options.cap_drop),
        "CgroupnsMode": _mode(options.cgroupns, "--cgroupns: invalid CGROUP mode", ("host", "private")),
        "Dns": list(options.dns),
        "DnsOptions": list(options.dns_option),
        "DnsSearch": list(options.dns_search),
        "ExtraHosts": list(options.add_host) or None,
        "GroupAdd": list(options.group_add) or None,
        "IpcMode": options.ipc,
        "OomScoreAdj": options.oom_score_adj,
        "PidMode": _mode(options.pid, "--pid: invalid PID mode", ("host",), container=True),
        "Privileged": options.privileged,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": security or None,
        "Links": list(options.link) or None,
        "PublishAllPorts": options.publish_all,
        "UTSMode": _mode(options.uts, "--uts: invalid UTS mode", ("host",)),
        "VolumeDriver": options.volume_driver,
        "VolumesFrom": list(options.volumes_from) or None,
        "UsernsMode": _mode(options.userns, "--userns: invalid USER mode", ("host",)),
        "ShmSize": options.shm_size,
        "ConsoleSize": [0, 0],
        "MaskedPaths": [] if unmasked else None,
        "ReadonlyPaths": [] if unmasked else None,
        **_resources(options),
    }
    if options.given("init"):
        config["Init"] = options.init
    if options.isolation:
        config["Isolation"] = options.isolation
    if options.runtime:
        config["Runtime"] = options.runtime
    if options.storage_opt:
        config["StorageOpt"] = _storage(options.storage_opt)
    if options.tmpfs:
        config["Tmpfs"] = {path: settings for path, _, settings in (item.partition(":") for item in options.tmpfs)}
    if options.sysctl:
        config["Sysctls"] = _pairs(options.sysctl)
    if annotations := _pairs(options.annotation) | on_failure(options):
        config["Annotations"] = annotations
    if options.mount:
        config["Mounts"] = [_mount(text) for text in options.mount]
    return config


def _storage(items: tuple[str, ...]) -> dict[str, str]:
    for item in items:
        if "=" not in item:
            raise CommandError("invalid storage option", _FAILURE)
    return _pairs(items)


def _resources(options: CreateOptions) -> dict[str, Any]:
    if options.memory_swappiness != -1 and not 0 <= options.memory_swappiness <= 100:
        message = f"invalid value: {options.memory_swappiness}. Valid memory swappiness range is 0-100"
        raise CommandError(message, _FAILURE)
    ulimits = []
    for item in sorted(options.ulimit):
        name, _, limits = item.partition("=")
        soft, _, hard = limits.partition(":")
        ulimits.append({"Name": name, "Hard": int(hard), "Soft": int(soft)})
    return {
        "CpuShares": options.cpu_shares,
        "Memory": options.memory,
        "NanoCpus": options.cpus,
        "CgroupParent": options.cgroup_parent,
        "BlkioWeight": options.blkio_weight,
        "BlkioWeightDevice": _device_values(options.blkio_weight_device, "Weight"),
        "BlkioDeviceReadBps": _device_values(options.device_read_bps, "Rate"),
        "BlkioDeviceWriteBps": _device_values(options.device_write_bps, "Rate"),
        "BlkioDeviceReadIOps": _device_values(options.device_read_iops, "Rate"),
        "BlkioDeviceWriteIOps": _device_values(options.device_write_iops, "Rate"),
        "CpuPeriod": options.cpu_period,
        "CpuQuota": options.cpu_quota,
        "CpuRealtimePeriod": options.cpu_rt_period,
        "CpuRealtimeRuntime": options.cpu_rt_runtime,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "Devices": [_device(text) for text in options.device if not is_cdi(text)],
        "DeviceRequests": _device_requests(options) or None,
        "DeviceCgroupRules": list(options.device_cgroup_rule) or None,
        "MemoryReservation": options.memory_reservation,
        "MemorySwap": options.memory_swap,
        "MemorySwappiness": options.memory_swappiness,
        "OomKillDisable": options.oom_kill_disable,
        "PidsLimit": options.pids_limit,
        "Ulimits": ulimits,
    }


def _pairs(items: tuple[str, ...] | list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _bindings(ports: list[Publication]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        found.setdefault(port.port, []).append({"HostIp": port.host_ip, "HostPort": port.host_port})
    return found


def _restart(options: CreateOptions) -> dict[str, Any]:
    name, colon, count = options.restart.partition(":")
    if colon and not (count.isascii() and count.isdigit()):
        raise CommandError("invalid restart policy format: maximum retry count must be an integer", _FAILURE)
    if options.rm and name not in ("", "no"):
        raise CommandError("conflicting options: cannot specify both --restart and --rm", _FAILURE)
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def _capabilities(names: tuple[str, ...]) -> list[str] | None:
    if not names:
        return None
    from boxship.capabilities import full_name

    return sorted({full_name(name) for name in names})


def _mode(value: str, message: str, allowed: tuple[str, ...], *, container: bool = False) -> str:
    if not value or value in allowed or (container and value.startswith("container:") and len(value) > len("container:")):
        return value
    raise CommandError(message, _FAILURE)


def _security(items: tuple[str, ...]) -> tuple[list[str], bool]:
    """Security options, profiles read here as the daemon may be elsewhere; and whether system paths are to be visible."""
    result: list[str] = []
    unmasked = False
    for item in items:
        name, equals, value = item.partition("=")
        if not equals and item != "no-new-privileges":
            name, colon, value = item.partition(":")
            if not colon:
                raise CommandError(f'Invalid --security-opt: "{item}"', _FAILURE)
        if name == "systempaths" and value == "unconfined":
            unmasked = True
        elif name == "seccomp" and value not in ("unconfined", "builtin"):
            result.append(f"seccomp={_seccomp_profile(value)}")
        else:
            result.append(item)
    return result, unmasked


def _seccomp_profile(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return json.dumps(json.load(file), separators=(",", ":"))
    except OSError as error:
        raise CommandError(f"opening seccomp profile ({path}) failed: open {path}: {_reason(error)}", _FAILURE) from error
    except ValueError as error:
        raise CommandError(f"compacting json for seccomp profile ({path}) failed: {error}", _FAILURE) from error


def _mount(text: str) -> dict[str, Any]:
    from boxship.cli.mounts import parse_mount

    try:
        return parse_mount(text)
    except InvalidValue as error:
        raise CommandError(f'invalid argument "{text}" for "--mount" flag: {error}', _FAILURE) from error


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise CommandError(f"bad format for path: {text}", _FAILURE)
    inside, access = parts[0], "rwm"
    if len(parts) == 3:
        inside, access = parts[1] or parts[0], parts[2]
    elif len(parts) == 2:
        # A word of r, w and m alone is the access, anything else a path.
        inside, access = (parts[0], parts[1]) if parts[1] and not set(parts[1]) - set("rwm") else (parts[1], "rwm")
    if set(access) - set("rwm"):
        raise CommandError(f"bad mode specified: {access}", _FAILURE)
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": access}


def _device_requests(options: CreateOptions) -> list[dict[str, Any]]:
    """GPUs, then the CDI devices among ``--device``, in one request, as Docker's command line puts them."""
    requests = []
    for text in options.gpus:
        try:
            requests.append(gpu_request(text))
        except InvalidValue as error:
            raise CommandError(f'invalid argument "{text}" for "--gpus" flag: {error}', _FAILURE) from error
    if named := [text for text in options.device if is_cdi(text)]:
        requests.append({"Driver": "cdi", "DeviceIDs": named})
    return requests


def _device_values(items: tuple[str, ...], key: str) -> list[dict[str, Any]]:
    return [{"Path": path, key: int(value)} for path, _, value in (item.partition(":") for item in items)]


def _exposed(items: tuple[str, ...]) -> dict[str, dict[str, str]]:
    ports: dict[str, dict[str, str]] = {}
    for item in items:
        numbers, _, protocol = item.partition("/")
        first, dash, last = numbers.partition("-")
        limits = (first, last if dash else first)
        if not all(limit.isascii() and limit.isdigit() and 0 < int(limit) < 65536 for limit in limits):
            raise CommandError(f"invalid range format for --expose: {item}", _FAILURE)
        if protocol not in ("", "tcp", "udp", "sctp"):
            raise CommandError(f"invalid protocol for --expose: {item}", _FAILURE)
        for port in range(int(limits[0]), int(limits[1]) + 1):
            ports[f"{port}/{protocol or 'tcp'}"] = {}
    return ports
