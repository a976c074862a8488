"""A container's spec as an OCI runtime's ``config.json``.

Source: OCI runtime specification 1.0.2 (config.md, config-linux.md).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Raw, Struct
from msgspec.json import Encoder

from boxrun.container import capabilities, masks
from boxrun.container.devices import Node
from boxrun.container.rlimits import RLIMITS
from boxrun.container.spec import DeviceRule, Mount, Spec
from boxrun.container.users import Identity

VERSION: Final = "1.0.2"
_KINDS: Final = {"mnt": "mount", "net": "network"}
_RLIMIT_NAMES: Final = {number: f"RLIMIT_{name.upper()}" for name, number in RLIMITS.items()}
_UNLIMITED: Final = (1 << 64) - 1
_encode = Encoder().encode


class Facts(Struct, frozen=True, kw_only=True):
    """What isn't in the spec but found out at the start.

    Attributes:
        rootfs: the path at which the root is mounted for the other runtime.
        identity: whom the program runs as.
        nodes: devices to make.
        joins: a path of the namespace for each kind that is joined.
        trees: paths at which mounts taken from other containers are, by their targets.
        rlimits: what this machine lets be set: numbers, and soft and hard limit.
        oom_score_adj: None to leave the present one.
        seccomp: ``linux.seccomp`` in JSON, empty for none.
    """

    rootfs: str
    identity: Identity
    nodes: Sequence[Node]
    joins: Mapping[str, str]
    trees: Mapping[str, str]
    rlimits: Sequence[tuple[int, tuple[int, int]]]
    oom_score_adj: int | None
    seccomp: bytes


def configuration(spec: Spec, facts: Facts) -> bytes:
    """The document, in JSON."""
    document: dict[str, Any] = {
        "ociVersion": VERSION,
        "process": _process(spec, facts),
        "root": {"path": facts.rootfs, "readonly": spec.root.readonly},
        "mounts": [_mount(mount, facts) for mount in spec.mounts],
        "linux": _linux(spec, facts),
    }
    if spec.hostname:
        document["hostname"] = spec.hostname
    if spec.annotations:
        document["annotations"] = spec.annotations
    return _encode(document)


def _process(spec: Spec, facts: Facts) -> dict[str, Any]:
    settings = spec.process
    bounding = capabilities.inherited_bounding_set()
    held = [name for name in settings.capabilities if bounding >> capabilities.CAPABILITIES[name] & 1]
    env = list(settings.env)
    if not any(variable.startswith("HOME=") for variable in env):
        env.append(f"HOME={facts.identity.home or '/'}")
    process: dict[str, Any] = {
        "terminal": settings.terminal,
        "user": {"uid": facts.identity.uid, "gid": facts.identity.gid, "additionalGids": facts.identity.groups},
        "args": settings.args,
        "env": env,
        "cwd": settings.cwd,
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), held),
        "noNewPrivileges": settings.no_new_privileges,
        "rlimits": [
            {"type": _RLIMIT_NAMES[number], "soft": _limit(soft), "hard": _limit(hard)}
            for number, (soft, hard) in facts.rlimits
        ],
    }
    if settings.terminal and (settings.console_height or settings.console_width):
        process["consoleSize"] = {"height": settings.console_height, "width": settings.console_width}
    if facts.oom_score_adj is not None:
        process["oomScoreAdj"] = facts.oom_score_adj
    return process


def _limit(value: int) -> int:
    return _UNLIMITED if value < 0 else value


def _mount(mount: Mount, facts: Facts) -> dict[str, Any]:
    tree = facts.trees.get(mount.target)
    # A tree has the options of its file system already.
    kind, options = ("bind", []) if tree else (mount.kind, list(mount.options))
    if kind == "bind":
        options = ["rbind" if mount.recursive else "bind", mount.propagation, *options]
    deep = kind == "bind" and mount.recursive and mount.recursive_readonly != "no"
    if mount.readonly:
        options += ["ro", "rro"] if deep else ["ro"]
    return {"destination": mount.target, "type": kind, "source": tree or mount.source or kind, "options": options}


def _linux(spec: Spec, facts: Facts) -> dict[str, Any]:
    sysctls = dict(spec.sysctls)
    if spec.domainname:
        # Runtimes before specification 1.1 don't know the field.
        sysctls["kernel.domainname"] = spec.domainname
    linux: dict[str, Any] = {
        "namespaces": [_namespace(namespace.kind, facts) for namespace in spec.namespaces],
        "devices": [_device(node) for node in facts.nodes],
        "cgroupsPath": f"{spec.cgroup.parent.rstrip('/')}/{spec.cgroup.name}",
        "resources": {"devices": [_rule(rule) for rule in spec.resources.devices]},
        "rootfsPropagation": spec.root.propagation,
        "sysctl": sysctls,
        "maskedPaths": _expanded(spec.masked_paths),
        "readonlyPaths": spec.readonly_paths,
    }
    if spec.uid_mappings:
        for key, mappings in (("uidMappings", spec.uid_mappings), ("gidMappings", spec.gid_mappings)):
            linux[key] = [{"containerID": m.inside, "hostID": m.outside, "size": m.size} for m in mappings]
    if facts.seccomp:
        linux["seccomp"] = Raw(facts.seccomp)
    return linux


def _namespace(kind: str, facts: Facts) -> dict[str, str]:
    name = _KINDS.get(kind, kind)
    return {"type": name, "path": facts.joins[kind]} if kind in facts.joins else {"type": name}


def _device(node: Node) -> dict[str, Any]:
    return {
        "path": node.target,
        "type": "b" if stat.S_ISBLK(node.mode) else "c",
        "major": os.major(node.device),
        "minor": os.minor(node.device),
        "fileMode": stat.S_IMODE(node.mode),
        "uid": node.uid,
        "gid": node.gid,
    }


def _rule(rule: DeviceRule) -> dict[str, Any]:
    numbers = {key: number for key, number in (("major", rule.major), ("minor", rule.minor)) if number >= 0}
    return {"allow": rule.allow, "type": rule.kind, "access": rule.access, **numbers}


def _expanded(paths: Sequence[str]) -> list[str]:
    """Masked paths without wildcards: what the host's sysfs has is what the container's will have."""
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return list(masks.expand(root_fd, paths))
    finally:
        os.close(root_fd)
