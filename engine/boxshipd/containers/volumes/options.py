"""Volumes and images in Docker's forms: ``-v name:/path``, ``--mount type=volume|image``, ``--volumes-from``.

Source: moby volume/mounts (linux_parser.go), whose rules and messages these are.
"""

from __future__ import annotations

import posixpath

from boxship.types import host
from msgspec import Struct

from boxshipd.errors import InvalidParameter

PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_KINDS = (
    frozenset({"rw", "ro"}),
    frozenset({"z", "Z"}),
    PROPAGATIONS,
    frozenset({"nocopy"}),
    frozenset({"consistent", "cached", "delegated"}),
)


class VolumeRequest(Struct, frozen=True):
    """A volume that a container is to have.

    Args:
        name: the volume's, empty for one made up.
        target: where it goes.
        mode: as it was written, for ``inspect``.
        readonly: whether the container may not write.
        copy: whether an empty volume gets what the image has there.
        subpath: the part of the volume that is wanted.
        driver, labels, options: of a volume that is made on the way.
    """

    name: str
    target: str
    mode: str = ""
    readonly: bool = False
    copy: bool = True
    subpath: str = ""
    driver: str = ""
    labels: dict[str, str] = {}
    options: dict[str, str] = {}


class ImageRequest(Struct, frozen=True):
    """An image that a container is to have as a directory, or the part of it that ``subpath`` names."""

    source: str
    target: str
    subpath: str = ""


def valid_mode(mode: str) -> bool:
    """Whether these are options of a bind or a volume, one of each kind at most."""
    words = mode.split(",") if mode else []
    return all(any(word in kind for kind in _KINDS) for word in words) and all(
        sum(word in kind for word in words) <= 1 for kind in _KINDS
    )


def split_bind(text: str) -> tuple[str, str, str]:
    """``[source:]target[:options]`` as source, target and options.

    Raises:
        InvalidParameter: it is malformed.
    """
    parts = text.split(":", 3)
    invalid = InvalidParameter(f"invalid volume specification: '{text}'")
    if not parts[0] or len(parts) > 3:
        raise invalid
    if len(parts) == 1:
        return "", parts[0], ""
    if len(parts) == 2:
        # A volume without a name has no options.
        if valid_mode(parts[1]):
            raise invalid
        return parts[0], parts[1], ""
    if not valid_mode(parts[2]):
        raise InvalidParameter(f"invalid mode: {parts[2]}")
    return parts[0], parts[1], parts[2]


def clean_target(target: str, prefix: str) -> str:
    """A mount's place in the container, cleaned; ``prefix`` begins an error's message.

    Raises:
        InvalidParameter: it is not absolute, or the root.
    """
    reason = ""
    # POSIX lets two leading slashes be, and so does normpath.
    clean = "/" + posixpath.normpath(target).lstrip("/")
    if not target:
        reason = "field Target must not be empty"
    elif not target.startswith("/"):
        reason = f"invalid mount path: '{target}' mount path must be absolute"
    elif clean == "/":
        reason = "invalid specification: destination can't be '/'"
    if reason:
        raise InvalidParameter(f"{prefix}: {reason}" if prefix else reason)
    return clean


def mount_target(mount: host.Mount) -> tuple[str, str]:
    """The beginning of an error's message about a ``--mount``, and its place in the container.

    Raises:
        InvalidParameter: it can't be mounted there.
    """
    prefix = f'invalid mount config for type "{mount.type}"'
    return prefix, clean_target(mount.target, prefix)


def parse_volume(text: str, driver: str) -> VolumeRequest | None:
    """A bind's text as a volume; None where its source is a path of the host.

    Raises:
        InvalidParameter: it is malformed.
    """
    source, target, mode = split_bind(text)
    if source.startswith("/"):
        return None
    prefix = f"invalid volume specification: '{text}': invalid mount config for type \"volume\""
    words = mode.split(",") if mode else []
    if any(word in PROPAGATIONS for word in words):
        raise InvalidParameter(f"{prefix}: field BindOptions must not be specified")
    return VolumeRequest(
        name=source,
        target=clean_target(target, prefix),
        # What Docker shows for a named volume without options.
        mode=mode or "z",
        readonly="ro" in words,
        copy="nocopy" not in words,
        driver=driver,
    )


def parse_volume_mount(mount: host.Mount) -> VolumeRequest:
    """A ``--mount type=volume``.

    Raises:
        InvalidParameter: something in it can't be.
    """
    prefix, target = mount_target(mount)
    _only(mount, prefix, "VolumeOptions")
    options = mount.volume_options or host.VolumeOptions()
    name = mount.source or ""
    subpath = options.subpath or ""
    if subpath:
        if not name:
            raise InvalidParameter(f"{prefix}: must not set Subpath when using anonymous volumes")
        _local(subpath, prefix, "volume")
    readonly = mount.read_only is True
    if readonly and not name:
        raise InvalidParameter(f"{prefix}: must not set ReadOnly mode when using anonymous volumes")
    driver = options.driver_config or host.VolumeDriverConfig()
    return VolumeRequest(
        name=name,
        target=target,
        mode="z",
        readonly=readonly,
        copy=options.no_copy is not True,
        subpath=subpath,
        driver=driver.name or "",
        labels=options.labels or {},
        options=driver.options or {},
    )


def parse_image_mount(mount: host.Mount) -> ImageRequest:
    """A ``--mount type=image``; it can never be written, whatever the request says of that.

    Raises:
        InvalidParameter: something in it can't be.
    """
    prefix, target = mount_target(mount)
    _only(mount, prefix, "ImageOptions")
    if not mount.source:
        raise InvalidParameter(f"{prefix}: field Source must not be empty")
    subpath = (mount.image_options or host.ImageOptions()).subpath or ""
    if subpath:
        _local(subpath, prefix, "image")
    return ImageRequest(source=mount.source, target=target, subpath=subpath)


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """``container[:options]``: whose volumes are wanted, and whether for reading only.

    Raises:
        InvalidParameter: it is malformed.
    """
    if not text:
        raise InvalidParameter("volumes-from specification cannot be an empty string")
    container, _, mode = text.partition(":")
    words = set(mode.split(",")) if mode else set()
    if not valid_mode(mode) or words & PROPAGATIONS or "nocopy" in words:
        raise InvalidParameter(f"invalid mode: {mode}")
    return container, "ro" in words


def _local(subpath: str, prefix: str, what: str) -> None:
    """A subpath has to stay where it begins, whatever links there are."""
    if subpath.startswith("/") or posixpath.normpath(subpath).split("/")[0] == "..":
        raise InvalidParameter(f"{prefix}: subpath must be a relative path within the {what}")


def _only(mount: host.Mount, prefix: str, own: str) -> None:
    """Refuse options of other types of mounts."""
    given = {
        "BindOptions": mount.bind_options,
        "VolumeOptions": mount.volume_options,
        "ImageOptions": mount.image_options,
        "TmpfsOptions": mount.tmpfs_options,
    }
    for name, options in given.items():
        if options and name != own:
            raise InvalidParameter(f"{prefix}: field {name} must not be specified")
