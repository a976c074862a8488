"""CDI devices: named by ``vendor.com/class=name``, described by files that their vendors install.

A specification says what a container needs for a device: nodes, mounts, variables, groups. Hooks would run programs of the
host at moments of an OCI runtime's course; they are refused by name.
Source: container-device-interface SPEC.md, pkg/cdi and pkg/parser; moby daemon/cdi.go.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from boxrun.container.spec import Device, DeviceRule, Mount
from boxship.types.host import DeviceRequest
from msgspec import Struct

from boxshipd.errors import InternalError

_NAME = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]|[A-Za-z])/([A-Za-z][A-Za-z0-9_-]*)=([A-Za-z0-9][A-Za-z0-9_.:-]*)\Z")
_GPU_KINDS = ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu")
_PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_ALL_ACCESS = "rwm"


class Node(Struct, frozen=True, rename="camel"):
    """A device node; what is left out is as on the host."""

    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class CDIMount(Struct, frozen=True, rename="camel"):
    """A path of the host that is mounted in the container."""

    host_path: str
    container_path: str
    options: tuple[str, ...] | None = None
    type: str = ""


class Edits(Struct, frozen=True, rename="camel"):
    """What a device changes about a container."""

    env: tuple[str, ...] | None = None
    device_nodes: tuple[Node, ...] | None = None
    mounts: tuple[CDIMount, ...] | None = None
    hooks: tuple[dict[str, Any], ...] | None = None
    intel_rdt: dict[str, Any] | None = None
    additional_gids: tuple[int, ...] | None = msgspec.field(name="additionalGids", default=None)


class NamedDevice(Struct, frozen=True, rename="camel"):
    """One device of a specification."""

    name: str
    container_edits: Edits = Edits()


class Specification(Struct, frozen=True, rename="camel"):
    """A vendor's file."""

    cdi_version: str
    kind: str
    devices: tuple[NamedDevice, ...] = ()
    container_edits: Edits = Edits()


class Injection(Struct, frozen=True, kw_only=True):
    """All that the devices of a container change, in the runtime's words."""

    devices: tuple[Device, ...] = ()
    rules: tuple[DeviceRule, ...] = ()
    mounts: tuple[Mount, ...] = ()
    env: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


NOTHING = Injection()


def inject(requests: Iterable[DeviceRequest], directories: Iterable[str]) -> Injection:
    """What the requested devices change about a container.

    Args:
        requests: of the driver ``cdi``, or for GPUs, which are CDI devices where a specification has them.
        directories: where specifications are, later ones overriding earlier ones.

    Raises:
        InternalError: a device is unknown, or wants what can't be had.
    """
    edits: list[Edits] = []
    seen: set[str] = set()
    specifications = load(directories)
    for name in [name for request in requests for name in _names(request, specifications)]:
        found = _find(name, specifications)
        if found is None:
            raise InternalError(f"CDI device injection failed: unresolvable CDI devices {name}")
        specification, device = found
        if specification.kind not in seen:
            seen.add(specification.kind)
            edits.append(specification.container_edits)
        if name not in seen:
            seen.add(name)
            edits.append(device.container_edits)
    return _combined(edits)


def load(directories: Iterable[str]) -> list[Specification]:
    """Every specification, the overriding ones first; files that aren't one are passed over, as in CDI's own library."""
    found: list[Specification] = []
    for directory in directories:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            if name.endswith((".json", ".yaml", ".yml")):
                try:
                    found.insert(0, read(f"{directory}/{name}"))
                except (OSError, ValueError):
                    continue
    return found


def read(path: str) -> Specification:
    """One file.

    Raises:
        OSError: it can't be read.
        ValueError: it is no specification.
    """
    with open(path, "rb") as file:
        content = file.read()
    if path.endswith(".json"):
        return msgspec.json.decode(content, type=Specification)
    return msgspec.yaml.decode(content, type=Specification)


def _names(request: DeviceRequest, specifications: list[Specification]) -> Iterator[str]:
    """The devices of one request, by their qualified names."""
    capabilities = {name for group in request.capabilities or () for name in group}
    if request.driver == "cdi" or (not request.driver and "cdi" in capabilities):
        for name in request.device_ids or ():
            if not _NAME.match(name):
                raise InternalError(f"CDI device injection failed: unqualified device {name!r}, expecting vendor/class=name")
            yield name
        return
    kinds = {specification.kind for specification in specifications}
    wanted = [kind for kind in _GPU_KINDS if not request.driver or kind.partition(".")[0] == request.driver]
    kind = next((kind for kind in wanted if kind in kinds), "")
    if "gpu" not in capabilities or not kind:
        shown = " ".join(f"[{' '.join(group)}]" for group in request.capabilities or ())
        raise InternalError(f'could not select device driver "{request.driver}" with capabilities: [{shown}]')
    if request.device_ids:
        yield from (f"{kind}={name}" for name in request.device_ids)
    elif request.count < 0:
        yield f"{kind}=all"
    else:
        yield from (f"{kind}={number}" for number in range(request.count))


def _find(name: str, specifications: list[Specification]) -> tuple[Specification, NamedDevice] | None:
    kind, _, wanted = name.partition("=")
    for specification in specifications:
        if specification.kind == kind:
            for device in specification.devices:
                if device.name == wanted:
                    return specification, device
    return None


def _combined(edits: Iterable[Edits]) -> Injection:
    devices: list[Device] = []
    rules: list[DeviceRule] = []
    mounts: list[Mount] = []
    env: list[str] = []
    groups: list[str] = []
    for edit in edits:
        for hook in edit.hooks or ():
            raise InternalError(
                f"CDI device injection failed: hook {hook.get('hookName', '')} ({hook.get('path', '')}): "
                "hooks are not available: they would run programs of the host"
            )
        if edit.intel_rdt:
            raise InternalError("CDI device injection failed: intelRdt is not available")
        for node in edit.device_nodes or ():
            device, rule = _node(node)
            devices.append(device)
            rules.append(rule)
        mounts += [_mount(mount) for mount in edit.mounts or ()]
        env += edit.env or ()
        groups += [str(gid) for gid in edit.additional_gids or () if gid]
    return Injection(devices=tuple(devices), rules=tuple(rules), mounts=tuple(mounts), env=tuple(env), groups=tuple(groups))


def _node(node: Node) -> tuple[Device, DeviceRule]:
    source = node.host_path or node.path
    kind, major, minor = node.type.replace("u", "c"), node.major, node.minor
    if not kind or (not major and kind != "p"):
        try:
            status = os.stat(source)
        except OSError as error:
            raise InternalError(f"CDI device injection failed: device node {source}: {error.strerror}") from error
        found = "b" if stat.S_ISBLK(status.st_mode) else "c" if stat.S_ISCHR(status.st_mode) else ""
        if kind and kind != found:
            raise InternalError(
                f"CDI device injection failed: device node {source}: expected type {node.type}, found {found or 'no device'}"
            )
        kind, major, minor = found, os.major(status.st_rdev), os.minor(status.st_rdev)
    if kind not in ("b", "c"):
        raise InternalError(f"CDI device injection failed: device node {source}: type {node.type or 'none'} is not available")
    device = Device(
        source=source,
        target=node.path,
        kind="b" if kind == "b" else "c",
        major=major,
        minor=minor,
        mode=-1 if node.file_mode is None else node.file_mode,
        uid=-1 if node.uid is None else node.uid,
        gid=-1 if node.gid is None else node.gid,
    )
    access = node.permissions or _ALL_ACCESS
    return device, DeviceRule(allow=True, kind="b" if kind == "b" else "c", major=major, minor=minor, access=access)


def _mount(mount: CDIMount) -> Mount:
    if mount.type not in ("", "bind", "none", "tmpfs"):
        raise InternalError(f"CDI device injection failed: mount of type {mount.type} is not available")
    options = mount.options or ()
    if mount.type == "tmpfs":
        return Mount(kind="tmpfs", target=mount.container_path, options=options, readonly="ro" in options)
    return Mount(
        kind="bind",
        source=mount.host_path,
        target=mount.container_path,
        options=tuple(option for option in options if option not in _PROPAGATIONS | {"bind", "rbind", "ro", "rw"}),
        readonly="ro" in options,
        recursive="bind" not in options,
        propagation=next((option for option in options if option in _PROPAGATIONS), "rprivate"),
    )
