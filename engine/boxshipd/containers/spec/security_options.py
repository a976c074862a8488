"""``SecurityOpt``, capabilities and sysctls: parsing and validation.

Source: moby daemon (daemon_unix.go parseSecurityOpt), oci/caps; runc libcontainer/configs/validate.
"""

from __future__ import annotations

import os
from functools import cache

from boxrun.container.capabilities import CAPABILITIES
from boxrun.container.defaults import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from boxrun.container.spec import Seccomp
from boxship.booleans import parse_boolean
from boxship.capabilities import ALL, full_name
from boxship.types.host import HostConfig
from msgspec import Struct

from boxshipd.containers.spec.machine import has_apparmor, has_selinux
from boxshipd.errors import InvalidParameter, NotImplementedHere

_IPC_SYSCTLS = frozenset(
    {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni"}
    | {"kernel.shm_rmid_forced"}
)
_UNPRIVILEGED_PORTS, _PING_GROUPS = "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"
_OPEN = {_UNPRIVILEGED_PORTS: "0", _PING_GROUPS: "0 2147483647"}
_UTS_SYSCTLS = frozenset({"kernel.domainname", "kernel.hostname"})


class SecurityOptions(Struct, frozen=True):
    """What ``--security-opt`` says."""

    no_new_privileges: bool
    seccomp: Seccomp
    writable_cgroups: bool


def parse_security_options(config: HostConfig, *, profile: str, no_new_privileges: bool) -> SecurityOptions:
    """Read ``SecurityOpt``.

    Args:
        config: the container's.
        profile: the daemon's seccomp profile: empty for the built-in one, ``unconfined``, or JSON.
        no_new_privileges: the daemon's default.

    Raises:
        InvalidParameter: an option Docker doesn't know either.
        NotImplementedHere: AppArmor or SELinux settings, on a kernel that has these.
    """
    seccomp = "unconfined" if config.privileged else profile
    writable_cgroups = config.privileged
    for option in config.security_opt or ():
        if option == "no-new-privileges":
            no_new_privileges = True
            continue
        if option == "writable-cgroups":
            writable_cgroups = True
            continue
        if option == "disable":
            continue
        separator = "=" if "=" in option else ":"
        key, found, value = option.partition(separator)
        if not found:
            raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
        if key == "seccomp":
            seccomp = "" if value == "builtin" else value
        elif key in {"no-new-privileges", "writable-cgroups"}:
            said = parse_boolean(value)
            if said is None:
                raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
            if key == "no-new-privileges":
                no_new_privileges = said
            else:
                writable_cgroups = said
        elif key == "apparmor":
            if value not in {"unconfined", ""} and has_apparmor():
                raise NotImplementedHere(f"--security-opt {option}: AppArmor profiles are not available")
        elif key == "label":
            if value != "disable" and has_selinux():
                raise NotImplementedHere(f"--security-opt {option}: SELinux labels are not available")
        else:
            raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return SecurityOptions(no_new_privileges, _seccomp(seccomp), writable_cgroups)


def wants_writable_cgroups(config: HostConfig) -> bool:
    """Whether the container may write its own cgroups."""
    return parse_security_options(config, profile="", no_new_privileges=False).writable_cgroups


def _seccomp(profile: str) -> Seccomp:
    if profile == "unconfined":
        return Seccomp(mode="unconfined")
    return Seccomp(mode="custom", profile=profile) if profile else Seccomp()


def capabilities(config: HostConfig) -> tuple[str, ...]:
    """The capabilities a container gets.

    Raises:
        InvalidParameter: a name that is no capability.
    """
    add = _names(config.cap_add, "CapAdd")
    drop = _names(config.cap_drop, "CapDrop")
    if config.privileged:
        return ALL_CAPABILITIES
    if ALL in add:
        return tuple(name for name in ALL_CAPABILITIES if name not in drop)
    if ALL in drop:
        return tuple(dict.fromkeys(name for name in add if name in ALL_CAPABILITIES))
    kept = [name for name in DEFAULT_CAPABILITIES if name not in drop]
    added = [name for name in add if name in ALL_CAPABILITIES and name not in kept]
    return tuple(dict.fromkeys([*kept, *added]))


def _names(given: list[str] | str | None, field: str) -> list[str]:
    """Capabilities with their prefix; ``ALL`` stays."""
    names = [given] if isinstance(given, str) else given or []
    normal = []
    for name in names:
        full = full_name(name)
        if full != ALL and full not in CAPABILITIES:
            raise InvalidParameter(f'invalid {field}: unknown capability: "{full}"')
        normal.append(full)
    return normal


def sysctls(config: HostConfig, *, remapped: bool) -> dict[str, str]:
    """A container's sysctls: in a network namespace of its own anybody may bind any port and ping, unless it says otherwise.

    Source: moby daemon/oci_linux.go (WithCommonOptions). In a user namespace there are no ping sockets for everybody, since the
    groups of the range would all have to be there.

    Raises:
        InvalidParameter: one isn't of a namespace of its own.
    """
    given = validate_sysctls(config)
    if config.network_mode == "host" or config.network_mode.startswith("container:"):
        return given
    names = [_UNPRIVILEGED_PORTS] if remapped or not _all_groups() else [_UNPRIVILEGED_PORTS, _PING_GROUPS]
    return {name: _OPEN[name] for name in names if _there(name)} | given


@cache
def _all_groups() -> bool:
    """Whether every group is there: not so where this daemon is in a user namespace itself."""
    with open("/proc/self/gid_map", encoding="ascii") as file:
        return file.read().split() == ["0", "0", "4294967295"]


@cache
def _there(sysctl: str) -> bool:
    return os.path.exists(f"/proc/sys/{sysctl.replace('.', '/')}")


def validate_sysctls(config: HostConfig) -> dict[str, str]:
    """The sysctls, all of which belong to a namespace that is the container's own.

    Raises:
        InvalidParameter: one doesn't.
    """
    sysctls = config.sysctls or {}
    for name in sysctls:
        if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
            if config.ipc_mode == "host":
                raise InvalidParameter(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
        elif name.startswith("net."):
            if config.network_mode == "host":
                raise InvalidParameter(f'sysctl "{name}" not allowed in host network namespace')
        elif name in _UTS_SYSCTLS:
            if config.uts_mode == "host" or name == "kernel.hostname":
                raise InvalidParameter(f'sysctl "{name}" is not allowed as it conflicts with the hostname of the container')
        else:
            raise InvalidParameter(f'sysctl "{name}" is not in a separate kernel namespace')
    return dict(sysctls)
