"""What the API shows of images: lists, details, histories.

Source: moby daemon/images (images.go, image_inspect.go, image_history.go).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from boxship.errors import InvalidValue
from boxship.types.containers import ContainerConfig, DriverData
from boxship.types.images import (
    ImageHistoryItem,
    ImageInspect,
    ImageMetadata,
    ImageSummary,
    ManifestSummary,
    OCIDescriptor,
    RootFS,
)
from boxship.units import moment
from msgspec import UNSET, UnsetType

from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.images import lookup
from boxshipd.images.assembly import Stores
from boxshipd.images.catalogue import Catalogue, IndexRecord, Record
from boxshipd.images.image import Image, ImageUse
from boxshipd.images.manifests import manifest_summaries
from boxshipd.images.reference import Reference

STORAGE_DRIVER = "overlay2"
_FILTERS = ("before", "dangling", "label", "label!", "reference", "since", "until")
_NEVER = "0001-01-01T00:00:00Z"


def image(stores: Stores, record: Record) -> Image:
    """An image as containers see it."""
    config = record.config
    tags, digests = _shown_names(stores.catalogue.names_of(record.id))
    return Image(
        id=record.id,
        config=config.config or ContainerConfig(),
        layers=tuple(stores.snapshots.path(layer.chain) for layer in reversed(record.layers)),
        os=config.os,
        architecture=config.architecture,
        variant=config.variant or "",
        created=config.created or "",
        size=record.size,
        repo_tags=tuple(tags),
        repo_digests=tuple(digests),
    )


def inspect(
    stores: Stores, record: Record, index: IndexRecord | None = None, manifests: list[ManifestSummary] | UnsetType = UNSET
) -> ImageInspect:
    """The answer to ``ImageInspect``; ``index`` is what the image's name means, if it means one."""
    target = index.descriptor if index is not None else record.manifest
    config = record.config
    tags, digests = _shown_names(stores.catalogue.names_of(record.id))
    paths = [stores.snapshots.path(layer.chain) for layer in reversed(record.layers)]
    data = {"UpperDir": paths[0]} if paths else {}
    if len(paths) > 1:
        data["LowerDir"] = ":".join(paths[1:])
    return ImageInspect(
        id=record.id,
        repo_tags=tags,
        repo_digests=digests,
        parent=_parent(stores.catalogue, record),
        comment=config.comment or (config.history[-1].comment if config.history else "") or "",
        created=config.created or UNSET,
        docker_version=config.docker_version or "",
        author=config.author or "",
        config=config.config,
        architecture=config.architecture,
        os=config.os,
        size=record.size,
        graph_driver=DriverData(STORAGE_DRIVER, data),
        root_fs=RootFS("layers", [layer.diff for layer in record.layers]),
        metadata=ImageMetadata(_rfc3339(record.tagged)),
        variant=config.variant or UNSET,
        os_version=config.os_version or UNSET,
        descriptor=OCIDescriptor(target.media_type, target.digest, target.size),
        manifests=manifests,
    )


def history(catalogue: Catalogue, record: Record) -> list[ImageHistoryItem]:
    """The answer to ``ImageHistory``."""
    layers = iter(record.layers)
    items: list[ImageHistoryItem] = []
    for step in record.config.history or ():
        layer = None if step.empty_layer else next(layers, None)
        created = int(_seconds(step.created))
        items.append(ImageHistoryItem("<missing>", created, step.created_by, None, layer.size if layer else 0, step.comment))
    items.extend(ImageHistoryItem("<missing>", 0, "", None, layer.size, "") for layer in layers)
    items.reverse()
    if items:
        first = items[0]
        tags = _shown_names(catalogue.names_of(record.id))[0]
        items[0] = ImageHistoryItem(record.id, first.created, first.created_by, tags or None, first.size, first.comment)
    return items


def summaries(
    stores: Stores,
    filters: Filters,
    *,
    everything: bool,
    shared_size: bool,
    manifests: bool,
    uses: Callable[[str], Sequence[ImageUse]] | None,
    count: bool = False,
) -> list[ImageSummary]:
    """The answer to ``ImageList``, newest first.

    Args:
        stores: where images are kept.
        filters: which of them.
        everything: those of further platforms of a name as well.
        shared_size: work out how much each shares with others.
        manifests: tell of all manifests.
        uses: tells which containers use an image.
        count: count them.

    Raises:
        InvalidParameter: a filter is unknown or can't be understood.
        NotFound: an image that a filter names doesn't exist.
    """
    filters.validate(_FILTERS)
    catalogue = stores.catalogue
    users = Counter(layer.chain for record in catalogue.records() for layer in record.layers)
    rows: list[ImageSummary] = []
    for record in _chosen(catalogue, filters):
        names = _names_to_list(catalogue, record, filters, everything=everything)
        if names is None:
            continue
        tags, digests = _shown_names(names)
        index = next((found for name in names if (found := catalogue.index_of(name))), None)
        target = index.descriptor if index is not None else record.manifest
        config = record.config.config
        rows.append(
            ImageSummary(
                id=record.id,
                parent_id=_parent(catalogue, record),
                repo_tags=tags,
                repo_digests=digests,
                created=int(_seconds(record.config.created)),
                size=record.size,
                shared_size=sum(layer.size for layer in record.layers if users[layer.chain] > 1) if shared_size else -1,
                labels=config.labels if config else None,
                containers=len(uses(record.id)) if count and uses else -1,
                descriptor=OCIDescriptor(target.media_type, target.digest, target.size),
                manifests=manifest_summaries(stores, record, index, uses) if manifests and uses else UNSET,
            )
        )
    return sorted(rows, key=lambda row: row.created, reverse=True)


def _names_to_list(catalogue: Catalogue, record: Record, filters: Filters, *, everything: bool) -> list[Reference] | None:
    """The names an image is listed with; None where it isn't listed."""
    names = catalogue.names_of(record.id)
    if "dangling" in filters and filters.boolean("dangling", False) != (not names):
        return None
    if names and not everything:
        # Of several platforms of a name only the one that the name gives here.
        names = [name for name in names if catalogue.named(name) is record]
        if not names:
            return None
    if "reference" in filters:
        names = [name for name in names if any(_familiar_match(pattern, name) for pattern in filters.get("reference"))]
        return names or None
    return names


def layers_size(catalogue: Catalogue) -> int:
    """The sum of all layers' sizes, each counted once, in bytes."""
    return sum({layer.chain: layer.size for record in catalogue.records() for layer in record.layers}.values())


def prunable(catalogue: Catalogue, filters: Filters) -> list[Record]:
    """The images that a prune's filters let through."""
    return _chosen(catalogue, filters)


def _chosen(catalogue: Catalogue, filters: Filters) -> list[Record]:
    """The images that pass the filters on their configuration."""
    before = min((_created(catalogue, text) for text in filters.get("before")), default=None)
    since = max((_created(catalogue, text) for text in filters.get("since")), default=None)
    until = min((_until(text) for text in filters.get("until")), default=None)
    chosen: list[Record] = []
    for record in catalogue.records():
        created = _seconds(record.config.created)
        labels = (record.config.config.labels if record.config.config else None) or {}
        if before is not None and created >= before:
            continue
        if since is not None and created <= since:
            continue
        if until is not None and created >= until:
            continue
        if filters.labels("label", labels) and filters.not_labels("label!", labels):
            chosen.append(record)
    return chosen


def _created(catalogue: Catalogue, text: str) -> float:
    """When an image that a filter names was made.

    Raises:
        NotFound: there is none.
    """
    try:
        return _seconds(lookup.find(catalogue, text).config.created)
    except InvalidParameter as error:
        raise NotFound(f"No such image: {text}") from error


def _until(text: str) -> float:
    try:
        return float(moment(text, time.time()))
    except (InvalidValue, ValueError) as error:
        raise InvalidParameter(f"invalid filter 'until={text}': {error}") from error


def _shown_names(names: list[Reference]) -> tuple[list[str], list[str]]:
    """Names by tag, and names by digest."""
    return [name.familiar for name in names if not name.digest], [name.familiar for name in names if name.digest]


def _familiar_match(pattern: str, name: Reference) -> bool:
    expression = _glob(pattern)
    return bool(expression.fullmatch(name.familiar) or expression.fullmatch(name.familiar_name))


@lru_cache(maxsize=64)
def _glob(pattern: str) -> re.Pattern[str]:
    """A pattern as Go's path.Match has it: no star passes a slash.

    Raises:
        InvalidParameter: it can't be compiled.
    """
    out: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            out.append("[^/]*")
        elif character == "?":
            out.append("[^/]")
        elif character == "[":
            end = pattern.find("]", position + 1)
            if end < 0:
                raise InvalidParameter(f"invalid filter 'reference={pattern}': syntax error in pattern")
            body = pattern[position:end]
            negated = body.startswith("^")
            characters = re.sub(r"([^a-zA-Z0-9-])", r"\\\1", body[negated:])
            out.append(f"[{'^' if negated else ''}{characters}]")
            position = end + 1
        elif character == "\\" and position < len(pattern):
            out.append(re.escape(pattern[position]))
            position += 1
        else:
            out.append(re.escape(character))
    try:
        # Adjacent stars mean one, and would only make the search slow.
        return re.compile(re.sub(r"(?:\[\^/\]\*)+", "[^/]*", "".join(out)))
    except re.error as error:
        raise InvalidParameter(f"invalid filter 'reference={pattern}': syntax error in pattern") from error


def _seconds(created: str | None) -> float:
    """A time in a configuration, in seconds since the epoch; what can't be read is the epoch, since nothing depends on it."""
    if not created:
        return 0.0
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", created).replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z") if seconds else _NEVER


def _parent(catalogue: Catalogue, record: Record) -> str:
    """The image that this one was made of, as long as it is here."""
    return record.parent if catalogue.get(record.parent) else ""
