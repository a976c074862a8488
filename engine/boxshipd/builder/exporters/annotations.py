"""Annotations of what is exported: of manifests, of the index, and of the descriptors that name these.

Source: BuildKit exporter/containerimage/annotations.go, exptypes/annotations.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from boxshipd.errors import InvalidParameter
from boxshipd.images import platform
from boxshipd.images.model import Platform

_OPTION = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_./-]+)\])?\.(\S+)")
_MANIFEST, _INDEX = frozenset({"manifest", "manifest-descriptor"}), frozenset({"index", "index-descriptor"})


class Annotation(Struct, frozen=True, kw_only=True):
    """One annotation of a manifest or of the descriptor of one; ``platform`` None for those of all platforms."""

    key: str
    value: str
    platform: Platform | None = None


class Annotations(Struct, frozen=True, kw_only=True):
    """All of an output.

    Attributes:
        manifests: of manifests.
        descriptors: of the manifests' descriptors: in the index, or in the archive where there is none.
        index: of the index, of which there is one wherever there are any.
        index_descriptor: of the index's descriptor, in archives.
    """

    manifests: tuple[Annotation, ...] = ()
    descriptors: tuple[Annotation, ...] = ()
    index: dict[str, str] = {}
    index_descriptor: dict[str, str] = {}

    @property
    def want_index(self) -> bool:
        """Whether some are an index's."""
        return bool(self.index or self.index_descriptor)

    @property
    def want_oci(self) -> bool:
        """Whether only OCI's documents have room for them. As with BuildKit, a manifest's own don't count."""
        return self.want_index or bool(self.descriptors)

    def manifest(self, wanted: Platform) -> dict[str, str]:
        """Those of the manifest for a platform."""
        return _of(self.manifests, wanted)

    def descriptor(self, wanted: Platform) -> dict[str, str]:
        """Those of that manifest's descriptor."""
        return _of(self.descriptors, wanted)

    def check(self, built: Iterable[Platform]) -> None:
        """Refuse those for a platform that isn't built for.

        Raises:
            InvalidParameter: there is one.
        """
        there = list(built)
        for each in (*self.manifests, *self.descriptors):
            if each.platform is not None and not any(platform.same(each.platform, one) for one in there):
                raise InvalidParameter(f"invalid annotation: no platform {platform.describe(each.platform)} found in source")


def is_annotation(option: str) -> bool:
    """Whether an output's option is one."""
    return option.startswith(("annotation.", "annotation[", "annotation-"))


def read(options: Mapping[str, str]) -> Annotations:
    """Those among an output's options: ``annotation[-type][[platform]].key``.

    Raises:
        InvalidParameter: one can't be understood.
    """
    found: dict[str, list[Annotation]] = {kind: [] for kind in (*_MANIFEST, *_INDEX)}
    for option, value in options.items():
        if not is_annotation(option):
            continue
        match = _OPTION.fullmatch(option)
        if match is None:
            raise InvalidParameter(f"invalid annotation {option!r}: expected annotation[-type][[platform]].key")
        kind, of, key = match[1] or "manifest", match[2], match[3]
        if kind not in found:
            raise InvalidParameter(f"unrecognized annotation type {kind!r} in {option!r}")
        found[kind].append(Annotation(key=key, value=value, platform=platform.parse(of) if of else None))
    return Annotations(
        manifests=tuple(found["manifest"]),
        descriptors=tuple(found["manifest-descriptor"]),
        # There is one index, whatever platform is named with it.
        index={each.key: each.value for each in found["index"]},
        index_descriptor={each.key: each.value for each in found["index-descriptor"]},
    )


def _of(annotations: Iterable[Annotation], wanted: Platform) -> dict[str, str]:
    """Those for a platform; what is said of it alone counts before what is said of all."""
    ordered = sorted(annotations, key=lambda each: each.platform is not None)
    return {each.key: each.value for each in ordered if each.platform is None or platform.same(each.platform, wanted)}
