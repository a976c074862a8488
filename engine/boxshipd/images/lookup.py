"""Finding images by what users call them.

Source: moby daemon/images/image.go (GetImage), image/tarexport/save.go (parseNames).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.images import platform, reference
from boxshipd.images.catalogue import Catalogue, IndexRecord, Record
from boxshipd.images.model import Platform
from boxshipd.images.reference import Reference

_PREFIX = re.compile(r"(?:sha256:)?([a-f0-9]{1,64})")


def find(catalogue: Catalogue, text: str, wanted: Platform | None = None) -> Record:
    """The image of a name, an id, or the unique beginning of an id, in this order.

    Args:
        catalogue: the images.
        text: a name, an id, or the beginning of one.
        wanted: the platform it must have, if any; else a name that means several gives this machine's, or what there is.

    Raises:
        NotFound: there is none, or none for that platform.
        InvalidParameter: it can't be any of these.
    """
    record = _find(catalogue, text, wanted)
    if wanted is not None:
        check_platform(record, text, wanted)
    return record


def index_of(catalogue: Catalogue, text: str) -> IndexRecord | None:
    """The index that a text means, if it is a name that means one."""
    try:
        name = name_of(catalogue, text)
    except InvalidParameter:
        return None
    return catalogue.index_of(name) if name is not None else None


def name_of(catalogue: Catalogue, text: str) -> Reference | None:
    """The name by which a text that means an index means it."""
    name = reference.parse(text)
    if catalogue.index_of(name.tagged()):
        return name.tagged()
    return next((found for found, index in _indexes_in(catalogue, name) if index.descriptor.digest == name.digest), None)


def variants(catalogue: Catalogue, text: str) -> tuple[Reference, list[Record]] | None:
    """A name and all its images, one for each platform; None where the text is no name but an id."""
    record = find(catalogue, text)
    if is_id(record, text):
        return None
    name = reference.parse(text).tagged()
    return name, catalogue.variants(name) or [record]


def _find(catalogue: Catalogue, text: str, wanted: Platform | None) -> Record:
    identifier = text.removeprefix("sha256:")
    if reference.is_identifier(identifier):
        record = catalogue.get(f"sha256:{identifier}")
        if record is None:
            raise NotFound(f"No such image: sha256:{identifier}")
        return record
    if text.startswith("sha256:") and (record := _by_prefix(catalogue, text)):
        return record
    name = reference.parse(text)
    full = name.tagged()
    record = (
        catalogue.named(full, wanted)
        or catalogue.named(full)
        or _by_digest(catalogue, name, wanted)
        or _by_prefix(catalogue, text)
    )
    if record is None:
        raise NotFound(f"No such image: {name.tagged().familiar}")
    return record


def is_id(record: Record, text: str) -> bool:
    """Whether ``text``, by which ``record`` was found, is its id or the beginning of it."""
    match = _PREFIX.fullmatch(text)
    return match is not None and record.id.removeprefix("sha256:").startswith(match[1])


@dataclass(slots=True)
class Selected:
    """What one text of a ``save`` means.

    Attributes:
        record: the image, for a name of several the one this machine would take.
        others: those of further platforms.
        index: the index that lists them, where the name means one.
        names: the names it is saved under.
        annotations: what the archive says of it beside these.
    """

    record: Record
    others: tuple[Record, ...] = ()
    index: IndexRecord | None = None
    names: list[Reference] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)


def select(catalogue: Catalogue, names: Sequence[str], wanted: Platform | None = None) -> list[Selected]:
    """The images to save, each once, under the names it is saved by: a repository without a tag stands for all its tags.

    Raises:
        NotFound: one of them doesn't exist, or not for the platform wanted.
        InvalidParameter: none was given.
    """
    if not names:
        raise InvalidParameter("no image names given to save")
    chosen: dict[tuple[str, str], Selected] = {}
    for text in names:
        for record, name in _expand(catalogue, text, wanted):
            index = catalogue.index_of(name) if name is not None and wanted is None else None
            others = catalogue.variants(name) if name is not None and index is not None else []
            found = Selected(record, tuple(other for other in others if other.id != record.id), index)
            shown = chosen.setdefault((record.id, index.descriptor.digest if index else ""), found).names
            if name is not None and name not in shown:
                shown.append(name)
    return list(chosen.values())


def check_platform(record: Record, text: str, wanted: Platform) -> None:
    """Refuse an image of another platform.

    Raises:
        NotFound: it is of another.
    """
    offered = record.platform
    if not platform.matches(wanted, offered):
        raise NotFound(
            f"image with reference {text} was found but its platform ({platform.describe(offered)}) does not match "
            f"the specified platform ({platform.describe(wanted)})"
        )


def _expand(catalogue: Catalogue, text: str, wanted: Platform | None) -> list[tuple[Record, Reference | None]]:
    if not reference.is_identifier(text) and not text.startswith("sha256:"):
        name = reference.parse(text)
        if not name.tag and not name.digest:
            tagged = [found for found, _ in catalogue.names_in(name.name) if found.tag]
            if tagged:
                return [(find(catalogue, str(found), wanted), found) for found in tagged]
        elif catalogue.named(name):
            return [(find(catalogue, text, wanted), name)]
    return [(find(catalogue, text, wanted), None)]


def _by_digest(catalogue: Catalogue, name: Reference, wanted: Platform | None) -> Record | None:
    """An image whose manifest or index has the digest given, called by a repository that it has a name in."""
    if not name.digest:
        return None
    for found, index in _indexes_in(catalogue, name):
        if index.descriptor.digest == name.digest:
            return catalogue.named(found, wanted) or catalogue.named(found)
    named = [record for found, _ in catalogue.names_in(name.name) for record in catalogue.variants(found)]
    return next((record for record in named if record.manifest.digest == name.digest), None)


def _indexes_in(catalogue: Catalogue, name: Reference) -> list[tuple[Reference, IndexRecord]]:
    """The names in a repository that mean an index."""
    found = [(other, catalogue.index_of(other)) for other, _ in catalogue.names_in(name.name)]
    return [(other, index) for other, index in found if index is not None]


def _by_prefix(catalogue: Catalogue, text: str) -> Record | None:
    match = _PREFIX.fullmatch(text)
    return catalogue.by_prefix(match[1]) if match else None
