"""``--cache-from`` and ``--cache-to``, in the words of BuildKit.

Source: BuildKit cache/remotecache (registry, local, inline).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

from boxship.types.build_request import CacheOption
from msgspec import Struct

from boxshipd.builder.cache.document import Mode
from boxshipd.errors import InvalidParameter, NotImplementedHere
from boxshipd.images import reference
from boxshipd.images.reference import Reference

Kind = Literal["registry", "local", "inline"]

_KNOWN: Mapping[str, frozenset[str]] = {
    "registry": frozenset({"ref", "mode", "ignore-error", "oci-mediatypes", "image-manifest"}),
    "local": frozenset({"dest", "mode", "ignore-error", "oci-mediatypes", "image-manifest"}),
    "inline": frozenset(),
}
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class CachePlace(Struct, frozen=True, kw_only=True):
    """Where cache comes from, or goes to.

    Attributes:
        kind: what it is.
        name: in a registry.
        number: its place among the request's; a directory is the client's, who knows it by that.
        mode: what goes there.
        optional: the build is none the worse where it can't go there.
    """

    kind: Kind
    name: Reference | None = None
    number: int = 0
    mode: Mode = "min"
    optional: bool = False

    @property
    def shown(self) -> str:
        """What it is called in progress."""
        return self.name.familiar if self.name is not None else self.kind


def sources(options: Sequence[CacheOption]) -> tuple[CachePlace, ...]:
    """Read ``--cache-from``.

    Raises:
        InvalidParameter: something is missing, or can't be.
        NotImplementedHere: there is no such kind, or option, here.
    """
    places = []
    for number, option in enumerate(options):
        if option.type not in ("registry", "local"):
            raise NotImplementedHere(f"cache can't come from type {option.type!r}: it can be registry or local")
        _only(option, {"registry": frozenset({"ref"}), "local": frozenset({"src"})}[option.type])
        name = _name(option) if option.type == "registry" else None
        if option.type == "local" and not option.attrs.get("src"):
            raise InvalidParameter("local cache importer requires src")
        places.append(CachePlace(kind=cast(Kind, option.type), name=name, number=number))
    return tuple(places)


def destinations(options: Sequence[CacheOption]) -> tuple[CachePlace, ...]:
    """Read ``--cache-to``.

    Raises:
        InvalidParameter: something is missing, or can't be.
        NotImplementedHere: there is no such kind, or option, here.
    """
    places = []
    for number, option in enumerate(options):
        if option.type not in _KNOWN:
            raise NotImplementedHere(f"cache can't go to type {option.type!r}: it can be registry, local or inline")
        _only(option, _KNOWN[option.type])
        for key in ("oci-mediatypes", "image-manifest"):
            if not _flag(option, key, default=True):
                raise NotImplementedHere(f"cache of type {option.type} with {key}=false is not supported")
        mode = option.attrs.get("mode", "min")
        if mode not in ("min", "max"):
            raise InvalidParameter(f"invalid cache mode {mode!r}: it can be min or max")
        if option.type == "local" and not option.attrs.get("dest"):
            raise InvalidParameter("local cache exporter requires dest")
        places.append(
            CachePlace(
                kind=cast(Kind, option.type),
                name=_name(option) if option.type == "registry" else None,
                number=number,
                mode=cast(Mode, mode),
                optional=_flag(option, "ignore-error", default=False),
            )
        )
    return tuple(places)


def _only(option: CacheOption, known: frozenset[str]) -> None:
    for key in option.attrs:
        if key not in known:
            raise NotImplementedHere(f"cache of type {option.type}: option {key!r} is not supported")


def _name(option: CacheOption) -> Reference:
    text = option.attrs.get("ref", "")
    if not text:
        raise InvalidParameter("ref is required for a cache of type registry")
    return reference.parse(text).tagged()


def _flag(option: CacheOption, key: str, *, default: bool) -> bool:
    text = option.attrs.get(key, "").lower()
    if text and text not in _FLAGS:
        raise InvalidParameter(f"invalid {key} {text!r}: it must be true or false")
    return _FLAGS.get(text, default)
