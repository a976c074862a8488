"""Finding images by what users call them.

Source: moby daemon/images/image.go (GetImage), image/tarexport/save.go (parseNames).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.images import platform, reference
from boxshipd.images.catalogue import Catalogue, Record
from boxshipd.images.model import Platform
from boxshipd.images.reference import Reference

_PREFIX = re.compile(r"(?:sha256:)?([a-f0-9]{1,64})")


def find(catalogue: Catalogue, text: str) -> Record:
    """The image of a name, an id, or the unique beginning of an id, in this order.

    Raises:
        NotFound: there is none.
        InvalidParameter: it can't be any of these.
    """
    identifier = text.removeprefix("sha256:")
    if reference.is_identifier(identifier):
        record = catalogue.get(f"sha256:{identifier}")
        if record is None:
            raise NotFound(f"No such image: sha256:{identifier}")
        return record
    if text.startswith("sha256:") and (record := _by_prefix(catalogue, text)):
        return record
    name = reference.parse(text)
    record = catalogue.named(name.tagged()) or _by_digest(catalogue, name) or _by_prefix(catalogue, text)
    if record is None:
        raise NotFound(f"No such image: {name.tagged().familiar}")
    return record


def is_id(record: Record, text: str) -> bool:
    """Whether ``text``, by which ``record`` was found, is its id or the beginning of it."""
    match = _PREFIX.fullmatch(text)
    return match is not None and record.id.removeprefix("sha256:").startswith(match[1])


def select(catalogue: Catalogue, names: Sequence[str]) -> list[tuple[Record, list[Reference]]]:
    """The images to save, each once, under the names it is saved by: a repository without a tag stands for all its tags.

    Raises:
        NotFound: one of them doesn't exist.
        InvalidParameter: none was given.
    """
    if not names:
        raise InvalidParameter("no image names given to save")
    chosen: dict[str, tuple[Record, list[Reference]]] = {}
    for text in names:
        for record, name in _expand(catalogue, text):
            shown = chosen.setdefault(record.id, (record, []))[1]
            if name is not None and name not in shown:
                shown.append(name)
    return list(chosen.values())


def check_platform(record: Record, text: str, wanted: Platform) -> None:
    """Refuse an image of another platform.

    Raises:
        NotFound: it is of another.
    """
    config = record.config
    offered = Platform(config.architecture, config.os, config.variant or "")
    if not platform.matches(wanted, offered):
        raise NotFound(
            f"image with reference {text} was found but its platform ({platform.describe(offered)}) does not match "
            f"the specified platform ({platform.describe(wanted)})"
        )


def _expand(catalogue: Catalogue, text: str) -> list[tuple[Record, Reference | None]]:
    if not reference.is_identifier(text) and not text.startswith("sha256:"):
        name = reference.parse(text)
        if not name.tag and not name.digest:
            tagged = [(record, found) for found, record in catalogue.names_in(name.name) if found.tag]
            if tagged:
                return list(tagged)
        elif record := catalogue.named(name):
            return [(record, name)]
    return [(find(catalogue, text), None)]


def _by_digest(catalogue: Catalogue, name: Reference) -> Record | None:
    """An image whose manifest has the digest given, called by a repository that it has a name in."""
    if not name.digest:
        return None
    return next((record for _, record in catalogue.names_in(name.name) if record.manifest.digest == name.digest), None)


def _by_prefix(catalogue: Catalogue, text: str) -> Record | None:
    match = _PREFIX.fullmatch(text)
    return catalogue.by_prefix(match[1]) if match else None
