"""``--mount``, ``--volume`` and ``--tmpfs``."""

from __future__ import annotations

import os
from typing import Any

from boxship.errors import InvalidValue

_PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")


def parse_mount(text: str) -> dict[str, Any]:
    """A ``--mount`` value as the API's Mount.

    Args:
        text: comma-separated ``key=value`` fields in CSV's quoting.

    Raises:
        InvalidValue: a field is unknown, missing or doesn't fit the type.
    """
    mount: dict[str, Any] = {"Type": "volume"}
    bind: dict[str, Any] = {}
    tmpfs: dict[str, Any] = {}
    volume: dict[str, Any] = {}
    image: dict[str, Any] = {}
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals:
            if key in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
                value = "true"
            else:
                raise InvalidValue(f"invalid field '{field}' must be a key=value pair")
        if key == "type":
            mount["Type"] = value.lower()
        elif key in ("source", "src"):
            mount["Source"] = os.path.abspath(value) if value == "." or value.startswith(("./", "../")) else value
        elif key in ("target", "dst", "destination"):
            mount["Target"] = value
        elif key in ("readonly", "ro"):
            if _switch(key, value):
                mount["ReadOnly"] = True
        elif key == "consistency":
            mount["Consistency"] = value.lower()
        elif key.startswith("bind-"):
            _bind_field(bind, key, value)
        elif key.startswith("tmpfs-"):
            _tmpfs_field(tmpfs, key, value)
        elif key.startswith("volume-"):
            _volume_field(volume, key, value)
        elif key == "image-subpath":
            image["Subpath"] = value
        else:
            raise InvalidValue(f"unexpected key '{key}' in '{field}'")
    _finish(mount, bind=bind, tmpfs=tmpfs, volume=volume, image=image)
    return mount


def _finish(mount: dict[str, Any], **options: dict[str, Any]) -> None:
    if not mount["Type"]:
        raise InvalidValue("type is required")
    if not mount.get("Target"):
        raise InvalidValue("target is required")
    for kind, values in options.items():
        if not values:
            continue
        if mount["Type"] != kind:
            raise InvalidValue(f"cannot mix '{kind}-*' options with mount type '{mount['Type']}'")
        mount[f"{kind.capitalize()}Options"] = values
    bind = options["bind"]
    for setting, word in (("ReadOnlyNonRecursive", "writable"), ("ReadOnlyForceRecursive", "readonly")):
        if bind.get(setting) and not mount.get("ReadOnly"):
            raise InvalidValue(f"option 'bind-recursive={word}' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        raise InvalidValue(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
        )


def _switch(key: str, value: str) -> bool:
    from boxship.booleans import parse_boolean

    said = parse_boolean(value)
    if said is None:
        raise InvalidValue(f"invalid value for {key}: {value}")
    return said


def _bind_field(bind: dict[str, Any], key: str, value: str) -> None:
    if key == "bind-propagation":
        if value.lower() not in _PROPAGATIONS:
            raise InvalidValue(f"invalid value for {key}: {value}")
        bind["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        if _switch(key, value):
            bind["NonRecursive"] = True
    elif key == "bind-recursive":
        settings = {
            "enabled": "",
            "disabled": "NonRecursive",
            "writable": "ReadOnlyNonRecursive",
            "readonly": "ReadOnlyForceRecursive",
        }
        if value not in settings:
            raise InvalidValue(f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")')
        if settings[value]:
            bind[settings[value]] = True
    elif key == "bind-create-src":
        if _switch(key, value):
            bind["CreateMountpoint"] = True
    else:
        raise InvalidValue(f"unexpected key '{key}' in '{key}={value}'")


def _tmpfs_field(tmpfs: dict[str, Any], key: str, value: str) -> None:
    if key == "tmpfs-size":
        from boxship.units import parse_size

        try:
            tmpfs["SizeBytes"] = parse_size(value)
        except InvalidValue:
            raise InvalidValue(f"invalid value for {key}: {value}") from None
    elif key == "tmpfs-mode":
        try:
            tmpfs["Mode"] = int(value, 8)
        except ValueError:
            raise InvalidValue(f"invalid value for {key}: {value}") from None
    else:
        raise InvalidValue(f"unexpected key '{key}' in '{key}={value}'")


def _volume_field(volume: dict[str, Any], key: str, value: str) -> None:
    if key == "volume-nocopy":
        if _switch(key, value):
            volume["NoCopy"] = True
            volume.setdefault("DriverConfig", {})
    elif key == "volume-label":
        name, _, text = value.partition("=")
        volume.setdefault("Labels", {})[name] = text
        volume.setdefault("DriverConfig", {})
    elif key == "volume-subpath":
        volume["Subpath"] = value
    elif key == "volume-driver":
        volume.setdefault("DriverConfig", {})["Name"] = value
    elif key == "volume-opt":
        name, _, text = value.partition("=")
        volume.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = text
    else:
        raise InvalidValue(f"unexpected key '{key}' in '{key}={value}'")


def split_csv(text: str) -> list[str]:
    """The fields of one line of CSV; quotes may hold commas, doubled quotes a quote."""
    if '"' not in text:
        return text.split(",")
    import csv

    return next(csv.reader([text], strict=True))


def split_volumes(volumes: tuple[str, ...]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """``--volume`` values as binds (a source and a target) and anonymous volumes (a target alone).

    Raises:
        InvalidValue: a part of one is empty.
    """
    binds: list[str] = []
    anonymous: dict[str, dict[str, str]] = {}
    for volume in volumes:
        source, colon, rest = volume.partition(":")
        if not volume:
            raise InvalidValue("invalid empty volume spec")
        if "" in volume.split(":"):
            raise InvalidValue(f"invalid spec: {volume}: empty section between colons")
        if not colon:
            anonymous[volume] = {}
        elif source.startswith("."):
            binds.append(f"{os.path.abspath(source)}:{rest}")
        else:
            binds.append(volume)
    return binds, anonymous
