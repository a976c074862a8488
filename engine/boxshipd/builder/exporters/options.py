"""An output's options, in the words of BuildKit's exporters.

Source: BuildKit exporter/containerimage/exptypes/keys.go, exporter/local, exporter/tar; docs/exporters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

from boxship.types.build_request import BuildOutput
from msgspec import Struct

from boxshipd.builder.exporters.annotations import Annotations, is_annotation, read
from boxshipd.errors import InvalidParameter, NotImplementedHere
from boxshipd.images import reference
from boxshipd.images.reference import Reference

Compression = Literal["gzip", "zstd", "uncompressed"]
Kind = Literal["image", "oci", "docker", "local", "tar"]

_LEVELS = {"gzip": (0, 9), "zstd": (0, 22)}
_KINDS = {"image": "image", "moby": "image", "oci": "oci", "docker": "docker", "local": "local", "tar": "tar"}
_TRUE, _FALSE = frozenset({"1", "t", "true"}), frozenset({"0", "f", "false"})
_IMAGE = frozenset(
    {
        "name",
        "push",
        "oci-mediatypes",
        "compression",
        "compression-level",
        "force-compression",
        "rewrite-timestamp",
        "unpack",
        "store",
        "type",
    }
)
_FILES = frozenset({"platform-split", "dest", "mode"})


class OutputOptions(Struct, frozen=True, kw_only=True):
    """One output.

    Attributes:
        kind: what becomes of the result.
        names: the image's.
        push: it goes to its registries too.
        oci: the media types are OCI's; else Docker's.
        compression: of layers that the build made, or, with ``force``, of all; None to leave them as they are.
        level: of the compression; None for its default.
        force: layers of base images are compressed anew as well.
        rewrite_times: no file of a layer that the build made is younger than SOURCE_DATE_EPOCH.
        annotations: of manifests, the index, and their descriptors.
        platform_split: each platform has a directory, even if there is only one; None: if there are several.
        squash: what the build has added to its base is one layer.
    """

    kind: Kind
    names: tuple[Reference, ...] = ()
    push: bool = False
    oci: bool = True
    compression: Compression | None = None
    level: int | None = None
    force: bool = False
    rewrite_times: bool = False
    annotations: Annotations = Annotations()
    platform_split: bool | None = None
    squash: bool = False


def parse(output: BuildOutput, tags: tuple[str, ...]) -> OutputOptions:
    """Read what an output is asked for with.

    Args:
        output: the request's.
        tags: names of the image, beside those of the output itself.

    Raises:
        InvalidParameter: an option's value can't be.
        NotImplementedHere: there is no such output, or option, here.
    """
    kind = _KINDS.get(output.type)
    if kind is None:
        raise NotImplementedHere(f"output type {output.type!r} is not supported: it can be image, oci, docker, local or tar")
    attrs = {key: value for key, value in output.attrs.items() if kind in ("local", "tar") or not is_annotation(key)}
    known = _FILES if kind in ("local", "tar") else _IMAGE | {"dest", "tar"}
    for key in attrs:
        if key not in known:
            raise NotImplementedHere(f"output type {output.type}: option {key!r} is not supported")
    if kind in ("local", "tar"):
        split = _flag(attrs, "platform-split") if "platform-split" in attrs else None
        return OutputOptions(kind=cast(Kind, kind), platform_split=split)
    return _image(cast(Kind, kind), attrs, output.attrs, tags)


def _image(kind: Kind, attrs: Mapping[str, str], everything: Mapping[str, str], tags: tuple[str, ...]) -> OutputOptions:
    for key in ("unpack", "store", "tar"):
        if not _flag(attrs, key, default=True):
            raise NotImplementedHere(f"output option {key}=false is not supported")
    push = _flag(attrs, "push")
    if push and kind != "image":
        raise InvalidParameter(f"output type {kind} can't be pushed")
    names = _names([*tags, *(name for name in attrs.get("name", "").split(",") if name)])
    if push and not names:
        raise InvalidParameter("an image that is to be pushed needs a name")
    compression = attrs.get("compression")
    if compression not in (None, "gzip", "zstd", "uncompressed"):
        raise NotImplementedHere(f"compression {compression!r} is not supported: it can be gzip, zstd or uncompressed")
    return OutputOptions(
        kind=kind,
        names=names,
        push=push,
        # As with BuildKit, an archive for Docker has Docker's types unless something else is wanted.
        oci=_flag(attrs, "oci-mediatypes", default=kind != "docker"),
        compression=cast("Compression | None", compression),
        level=_level(attrs, compression or "gzip"),
        force=_flag(attrs, "force-compression"),
        rewrite_times=_flag(attrs, "rewrite-timestamp"),
        annotations=read(everything),
    )


def _names(texts: list[str]) -> tuple[Reference, ...]:
    """Names, each once, in order.

    Raises:
        InvalidParameter: one can't be, or has a digest.
    """
    names: dict[str, Reference] = {}
    for text in texts:
        name = reference.parse(text)
        if name.digest:
            raise InvalidParameter("build tag cannot contain a digest")
        name = name.tagged()
        names.setdefault(str(name), name)
    return tuple(names.values())


def _level(attrs: Mapping[str, str], compression: str) -> int | None:
    text = attrs.get("compression-level")
    if text is None:
        return None
    lowest, highest = _LEVELS.get(compression, (0, 0))
    if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= highest:
        raise InvalidParameter(f"invalid compression-level {text!r} for {compression}: it must be from {lowest} to {highest}")
    return int(text)


def _flag(attrs: Mapping[str, str], key: str, *, default: bool = False) -> bool:
    text = attrs.get(key)
    if text is None:
        return default
    # An option without a value is on, as in ``push`` for ``push=true``.
    if text.lower() in _TRUE or not text:
        return True
    if text.lower() in _FALSE:
        return False
    raise InvalidParameter(f"invalid value {text!r} for output option {key}: it must be true or false")
