"""Binds, tmpfs and ``--mount`` in Docker's forms: parsing and validation.

Source: moby volume/mounts (linux_parser.go, validate.go), whose rules and messages these are.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from typing import Literal

from boxrun.container.spec import Mount
from boxship.types import host
from boxship.types.containers import MountPoint
from boxship.types.host import HostConfig
from msgspec import UNSET, Struct

from boxshipd.containers.volumes.options import (
    PROPAGATIONS,
    ImageRequest,
    VolumeRequest,
    clean_target,
    mount_target,
    parse_image_mount,
    parse_volume,
    parse_volume_mount,
    split_bind,
)
from boxshipd.errors import InternalError, InvalidParameter

RecursiveReadonly = Literal["no", "if-possible", "required"]
_SIZE = re.compile(r"(\d+)([kmgt%]?)b?\Z", re.IGNORECASE)
_TMPFS_FLAGS = frozenset(
    {"ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "remount", "mand", "nomand"}
    | {"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "bind", "rbind"}
    | {"unbindable", "runbindable", "private", "rprivate", "shared", "rshared", "slave", "rslave", "defaults"}
)
_TMPFS_VALUES = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"})
_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev")
_OPPOSITES = {"exec": "noexec", "suid": "nosuid", "dev": "nodev"}


class Mounts(Struct, frozen=True):
    """What a container is to mount: for the runtime in order, for ``inspect``, and the directories to make at its start."""

    specs: tuple[Mount, ...]
    points: tuple[MountPoint, ...]
    host_directories: tuple[str, ...]
    requests: tuple[VolumeRequest | ImageRequest, ...] = ()
    """Volumes and images, which only the rest of the engine can turn into mounts."""


def parse_mounts(config: HostConfig) -> Mounts:
    """Everything ``Binds``, ``Mounts`` and ``Tmpfs`` say.

    Raises:
        InvalidParameter: something is malformed, missing or there twice.
    """
    specs: list[Mount] = []
    points: list[MountPoint] = []
    made: list[str] = []
    requests: list[VolumeRequest | ImageRequest] = []
    for text in config.binds or ():
        volume = parse_volume(text, config.volume_driver)
        if volume is not None:
            requests.append(volume)
            continue
        spec, point = _bind(text)
        made.append(spec.source)
        specs.append(spec)
        points.append(point)
    for mount in config.mounts or ():
        if mount.type in {"volume", "image"}:
            requests.append(parse_volume_mount(mount) if mount.type == "volume" else parse_image_mount(mount))
            continue
        spec, point = _mount(mount)
        if mount.type == "bind" and mount.bind_options and mount.bind_options.create_mountpoint is True:
            made.append(spec.source)
        specs.append(spec)
        points.append(point)
    for target, options in (config.tmpfs or {}).items():
        specs.append(parse_tmpfs(target, options))
    _no_duplicates([*(spec.target for spec in specs), *(request.target for request in requests)])
    return Mounts(in_order(specs), tuple(points), tuple(made), tuple(requests))


def in_order(specs: Iterable[Mount]) -> tuple[Mount, ...]:
    """Mounts in the order in which they can be made: one below another's target has to come after it."""
    return tuple(sorted(specs, key=lambda spec: spec.target.count("/") if spec.target != "/" else 0))


def make_host_directories(config: HostConfig) -> None:
    """Make the sources of binds that aren't there, as ``-v`` has it.

    Raises:
        InternalError: one can't be made.
    """
    if not (config.binds or config.mounts):
        return
    for path in parse_mounts(config).host_directories:
        if os.path.lexists(path):
            continue
        try:
            os.makedirs(path, 0o755, exist_ok=True)
        except OSError as error:
            raise InternalError(f"error while creating mount source path '{path}': mkdir {path}: {error.strerror}") from error


def _no_duplicates(targets: Iterable[str]) -> None:
    seen = set()
    for target in targets:
        if target in seen:
            raise InvalidParameter(f"Duplicate mount point: {target}")
        seen.add(target)


def _bind(text: str) -> tuple[Mount, MountPoint]:
    """``source:target[:options]`` with an absolute source."""
    source, target, mode = split_bind(text)
    prefix = f"invalid volume specification: '{text}': invalid mount config for type \"bind\""
    target = clean_target(target, prefix)
    words = mode.split(",") if mode else []
    if "nocopy" in words:
        raise InvalidParameter(f"{prefix}: field VolumeOptions must not be specified")
    propagation = next((word for word in words if word in PROPAGATIONS), "rprivate")
    source = "/" + posixpath.normpath(source).lstrip("/")
    readonly = "ro" in words
    spec = Mount(kind="bind", source=source, target=target, readonly=readonly, propagation=propagation)
    point = MountPoint(type="bind", source=source, destination=target, mode=mode, rw=not readonly, propagation=propagation)
    return spec, point


def _mount(mount: host.Mount) -> tuple[Mount, MountPoint]:
    """One ``--mount``."""
    prefix, target = mount_target(mount)
    if mount.type not in {"bind", "tmpfs"}:
        raise InvalidParameter(f"{prefix}: mount type unknown")
    readonly = mount.read_only is True
    if mount.type == "tmpfs":
        return _mount_tmpfs(mount, target, prefix, readonly)
    return _mount_bind(mount, target, prefix, readonly)


def _mount_tmpfs(mount: host.Mount, target: str, prefix: str, readonly: bool) -> tuple[Mount, MountPoint]:
    if mount.source:
        raise InvalidParameter(f"{prefix}: field Source must not be specified")
    for field, extra in (("BindOptions", mount.bind_options), ("VolumeOptions", mount.volume_options)):
        if extra:
            raise InvalidParameter(f"{prefix}: field {field} must not be specified")
    options = ["nosuid", "nodev", "noexec"]
    given = mount.tmpfs_options or None
    if given is not None:
        if given.size_bytes is not UNSET and given.size_bytes:
            if given.size_bytes < 0:
                raise InvalidParameter(f"{prefix}: field TmpfsOptions.SizeBytes must not be negative")
            options.append(f"size={given.size_bytes}")
        if given.mode is not UNSET and given.mode:
            options.append(f"mode={given.mode:o}")
        for pair in given.options or ():
            if not 1 <= len(pair) <= 2:
                raise InvalidParameter(f"{prefix}: invalid option array length")
            word = "=".join(pair)
            if pair[0] not in (_TMPFS_FLAGS if len(pair) == 1 else _TMPFS_VALUES):
                raise InvalidParameter(f"{prefix}: invalid option: {word}")
            options = [option for option in options if option != _OPPOSITES.get(word)]
            options.append(word)
    spec = Mount(kind="tmpfs", target=target, options=tuple(options), readonly=readonly)
    return spec, MountPoint(type="tmpfs", source="", destination=target, mode="", rw=not readonly, propagation="")


def _mount_bind(mount: host.Mount, target: str, prefix: str, readonly: bool) -> tuple[Mount, MountPoint]:
    if not mount.source:
        raise InvalidParameter(f"{prefix}: field Source must not be empty")
    if not mount.source.startswith("/"):
        raise InvalidParameter(f"{prefix}: invalid mount path: '{mount.source}' mount path must be absolute")
    if mount.volume_options:
        raise InvalidParameter(f"{prefix}: field VolumeOptions must not be specified")
    if mount.tmpfs_options:
        raise InvalidParameter(f"{prefix}: field TmpfsOptions must not be specified")
    given = mount.bind_options or host.BindOptions()
    propagation = given.propagation or "rprivate"
    if propagation not in PROPAGATIONS:
        raise InvalidParameter(f"{prefix}: invalid propagation mode: {propagation}")
    source = posixpath.normpath(mount.source)
    if given.create_mountpoint is not True and not os.path.lexists(source):
        raise InvalidParameter(f"{prefix}: bind source path does not exist: {source}")
    if given.read_only_force_recursive is True:
        if not readonly:
            raise InvalidParameter(
                f'{prefix}: mode must be "rprivate", "rslave" or "private" when BindOptions.ReadOnlyForceRecursive is set'
            )
        recursive_readonly: RecursiveReadonly = "required"
    else:
        recursive_readonly = "no" if given.read_only_non_recursive is True else "if-possible"
    spec = Mount(
        kind="bind",
        source=source,
        target=target,
        readonly=readonly,
        recursive=given.non_recursive is not True,
        recursive_readonly=recursive_readonly,
        propagation=propagation,
    )
    return spec, MountPoint(type="bind", source=source, destination=target, mode="", rw=not readonly, propagation=propagation)


def parse_tmpfs(target: str, options: str) -> Mount:
    """One entry of ``Tmpfs``: a target and mount options separated by commas.

    Raises:
        InvalidParameter: an option that a tmpfs hasn't.
    """
    place = clean_target(target, "")
    words = list(_TMPFS_DEFAULTS)
    readonly = False
    for word in filter(None, options.split(",")):
        name, sep, value = word.partition("=")
        if name not in (_TMPFS_VALUES if sep else _TMPFS_FLAGS) or (sep and not value):
            raise InvalidParameter(f'invalid tmpfs option ["{word}"]')
        if name == "size" and not _SIZE.match(value):
            raise InvalidParameter(f'invalid tmpfs option ["{word}"]: not a size')
        if word == "ro":
            readonly = True
        elif word == "rw":
            readonly = False
        elif word in _OPPOSITES:
            words = [w for w in words if w != _OPPOSITES[word]]
        elif word != "defaults" and word not in words:
            words.append(word)
    return Mount(kind="tmpfs", target=place, options=tuple(words), readonly=readonly)
