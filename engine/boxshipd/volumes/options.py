"""The local driver's options: what is mounted where a volume isn't a directory of our own.

``type``, ``device`` and ``o`` are mount(8)'s. Nothing of them is ever mounted in the host: the runtime makes the mount for the
container alone. Source: moby volume/local (local_unix.go).
"""

from __future__ import annotations

from collections.abc import Mapping

from boxrun.container.spec import Mount

from boxshipd.errors import InvalidParameter

_KNOWN = frozenset({"type", "o", "device", "size"})
_NEEDS = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
_BIND = frozenset({"bind", "rbind"})


def validate_options(name: str, options: Mapping[str, str]) -> None:
    """Check a volume's options.

    Args:
        name: the volume's.
        options: what was given.

    Raises:
        InvalidParameter: one is unknown, needs another that is missing, or can't be had.
    """
    for option in options:
        if option not in _KNOWN:
            raise InvalidParameter(f'create {name}: invalid option: "{option}"')
    if options.get("size", "0") not in {"", "0"}:
        raise InvalidParameter(f"create {name}: quota size requested but no quota support")
    for option, needed in _NEEDS.items():
        for other in needed if option in options else ():
            if other not in options:
                raise InvalidParameter(f'create {name}: missing required option: "{other}"')
    if shares_directory(options) and not options["device"].startswith("/"):
        raise InvalidParameter(f"create {name}: the device of a bind must be an absolute path: {options['device']}")


def shares_directory(options: Mapping[str, str]) -> bool:
    """Whether the volume is a directory of the host (``o=bind``)."""
    return "type" in options and not _BIND.isdisjoint(options.get("o", "").split(","))


def volume_mount(source: str, options: Mapping[str, str], target: str, *, readonly: bool, subpath: str = "") -> Mount:
    """A volume's mount in a container.

    Args:
        source: the volume's own directory.
        options: the volume's.
        target: where it goes.
        readonly: whether this container may write.
        subpath: the part of it that is wanted.
    """
    words = [word for word in options.get("o", "").split(",") if word]
    if shares_directory(options):
        return Mount(
            kind="bind",
            source=options["device"],
            target=target,
            readonly=readonly or "ro" in words,
            recursive="rbind" in words,
            options=tuple(word for word in words if word not in _BIND | {"ro", "rw"}),
            subpath=subpath,
        )
    if "type" in options:
        return Mount(
            kind="filesystem",
            filesystem=options["type"],
            source=options["device"],
            target=target,
            readonly=readonly,
            options=tuple(words),
            subpath=subpath,
        )
    return Mount(kind="bind", source=source, target=target, readonly=readonly, recursive_readonly="no", subpath=subpath)
