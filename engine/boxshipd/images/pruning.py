"""Removing the images that nothing uses. Source: moby daemon/images/image_prune.go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from boxship.types.images import ImageDeleteItem

from boxshipd.errors import Conflict, NotFound
from boxshipd.filters import Filters
from boxshipd.images import queries
from boxshipd.images.catalogue import Catalogue
from boxshipd.images.image import ImageUse
from boxshipd.images.removal import Removal


async def prune(
    catalogue: Catalogue,
    filters: Filters,
    removal: Removal,
    uses: Callable[[str], Sequence[ImageUse]],
    lock: asyncio.Lock,
) -> list[ImageDeleteItem]:
    """Remove images without a name or, with the filter ``dangling=false``, all that nothing uses; what was done, in order.

    Args:
        catalogue: the images.
        filters: which of them.
        removal: removes one.
        uses: tells which containers use an image.
        lock: held for each removal, so that others get their turn between them.

    Raises:
        InvalidParameter: a filter is unknown or can't be understood.
    """
    filters.validate(("dangling", "label", "label!", "until"))
    dangling = filters.boolean("dangling", True)
    chosen = [
        record
        for record in queries.prunable(catalogue, filters)
        if not uses(record.id) and not (dangling and catalogue.names_of(record.id))
    ]
    items: list[ImageDeleteItem] = []
    for record in chosen:
        # Somebody may have begun to use it, or removed it, since it was chosen.
        try:
            names = catalogue.names_of(record.id)
            for text in [name.familiar for name in names] or [record.id]:
                async with lock:
                    items += await removal.remove(text, force=False)
        except (Conflict, NotFound):
            continue
    return items
