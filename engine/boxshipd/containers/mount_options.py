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

from boxshipd.errors import InternalError, InvalidParameter, NotImplementedHere

RecursiveReadonly = Literal["no", "if-possible", "required"]
PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
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


def parse_mounts(config: HostConfig) -> Mounts:
    """Everything ``Binds``, ``Mounts`` and ``Tmpfs`` say.

    Raises:
        InvalidParameter: something is malformed, missing or there twice.
        NotImplementedHere: a volume, an image mount or another kind this engine hasn't.
    """
    specs: list[Mount] = []
    points: list[MountPoint] = []
    made: list[str] = []
    for text in config.binds or ():
        spec, point = _bind(text)
        made.append(spec.source)
        specs.append(spec)
        points.append(point)
    for mount in config.mounts or ():
        spec, point = _mount(mount)
        if mount.type == "bind" and mount.bind_options and mount.bind_options.create_mountpoint is True:
            made.append(spec.source)
        specs.append(spec)
        points.append(point)
    for target, options in (config.tmpfs or {}).items():
        specs.append(parse_tmpfs(target, options))
    _no_duplicates(spec.target for spec in specs)
    # A mount below another one's target has to come after it.
    specs.sort(key=lambda spec: spec.target.count("/") if spec.target != "/" else 0)
    return Mounts(tuple(specs), tuple(points), tuple(made))


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
    """``source:target[:options]``."""
    parts = text.split(":")
    if len(parts) == 1 or (len(parts) == 2 and not parts[0].startswith("/") and _is_mode(parts[1])):
        raise NotImplementedHere(f"--volume {text}: anonymous volumes are not available yet, only bind mounts")
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    source, target = parts[0], parts[1]
    mode = parts[2] if len(parts) == 3 else ""
    if not source.startswith("/"):
        raise NotImplementedHere(f"--volume {text}: named volumes are not available yet, only bind mounts of absolute paths")
    target = _target(target, text)
    words = [word for word in mode.split(",") if word]
    propagation = _mode(words, mode)
    if "nocopy" in words:
        raise InvalidParameter(f"invalid volume specification: '{text}': invalid mode: nocopy is for volumes")
    source = posixpath.normpath(source)
    readonly = "ro" in words
    spec = Mount(kind="bind", source=source, target=target, readonly=readonly, propagation=propagation)
    point = MountPoint(type="bind", source=source, destination=target, mode=mode, rw=not readonly, propagation=propagation)
    return spec, point


def _is_mode(text: str) -> bool:
    return bool(text) and all(w in {"ro", "rw", "z", "Z", "nocopy"} or w in PROPAGATIONS for w in text.split(","))


def _mode(words: list[str], mode: str) -> str:
    """Check a bind's options; its propagation."""
    counts = [0, 0, 0]
    propagation = "rprivate"
    for word in words:
        if word in {"ro", "rw"}:
            counts[0] += 1
        elif word in {"z", "Z"}:
            counts[1] += 1
        elif word in PROPAGATIONS:
            counts[2] += 1
            propagation = word
        elif word not in {"nocopy", "consistent", "cached", "delegated"}:
            raise InvalidParameter(f"invalid mode: {mode}")
    if max(counts) > 1:
        raise InvalidParameter(f"invalid mode: {mode}")
    return propagation


def _target(target: str, text: str) -> str:
    """A mount's place in the container, cleaned."""
    if not target.startswith("/"):
        raise InvalidParameter(
            f"invalid volume specification: '{text}': invalid mount path: '{target}' mount path must be absolute"
        )
    clean = posixpath.normpath(target)
    # POSIX lets two leading slashes be, and so does normpath.
    clean = "/" + clean.lstrip("/")
    if clean == "/":
        raise InvalidParameter(f"invalid volume specification: '{text}': invalid specification: destination can't be '/'")
    return clean


def _mount(mount: host.Mount) -> tuple[Mount, MountPoint]:
    """One ``--mount``."""
    prefix = f'invalid mount config for type "{mount.type}"'
    if mount.type in {"volume", "image", "cluster", "npipe"}:
        raise NotImplementedHere(f"--mount type={mount.type}: only bind and tmpfs mounts are available yet")
    if not mount.target:
        raise InvalidParameter(f"{prefix}: field Target must not be empty")
    if not mount.target.startswith("/"):
        raise InvalidParameter(f"{prefix}: invalid mount path: '{mount.target}' mount path must be absolute")
    target = "/" + posixpath.normpath(mount.target).lstrip("/")
    if target == "/":
        raise InvalidParameter(f"{prefix}: invalid specification: destination can't be '/'")
    readonly = mount.read_only is True
    if mount.type == "tmpfs":
        return _mount_tmpfs(mount, target, prefix, readonly)
    return _mount_bind(mount, target, prefix, readonly)


def _mount_tmpfs(mount: host.Mount, target: str, prefix: str, readonly: bool) -> tuple[Mount, MountPoint]:
    if mount.source:
        raise InvalidParameter(f"{prefix}: field Source must not be specified")
    if mount.bind_options or mount.volume_options:
        raise InvalidParameter(f"{prefix}: field BindOptions must not be specified")
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
            word = "=".join(pair)
            if pair[0] not in _TMPFS_FLAGS | _TMPFS_VALUES:
                raise InvalidParameter(f"{prefix}: invalid option: {word}")
            if pair[0] in _OPPOSITES:
                options.remove(_OPPOSITES[pair[0]])
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
    place = _target(target, target)
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
