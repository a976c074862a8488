"""Removing images by Docker's rules.

A name goes first; with the last name goes the image, unless containers are in the way. A name that means several platforms
goes with all of them. Source: moby daemon/images/image_delete.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from boxship.types.images import ImageDeleteItem

from boxshipd.errors import Conflict
from boxshipd.images import lookup
from boxshipd.images.catalogue import Catalogue, Record
from boxshipd.images.image import ImageUse
from boxshipd.images.model import Platform
from boxshipd.images.reference import Reference

_SHORT = 12


class Removal:
    """Removes images.

    Args:
        catalogue: the images.
        uses: the containers made of an image.
        event: publishes an action on an image, with a name.
    """

    def __init__(
        self, catalogue: Catalogue, uses: Callable[[str], Sequence[ImageUse]], event: Callable[[str, Record, str], None]
    ) -> None:
        self._catalogue = catalogue
        self._uses = uses
        self._event = event
        self._items: list[ImageDeleteItem] = []

    async def remove(self, text: str, *, force: bool, wanted: Sequence[Platform] = ()) -> list[ImageDeleteItem]:
        """Remove a name or an image; what was done, in order.

        Args:
            text: the name, or the image's id.
            force: as for Docker: even if stopped containers use it, or several names go with it.
            wanted: remove only the images that a name means for these platforms; the name stays while it means others.

        Raises:
            NotFound: there is no such image, or none for a platform.
            Conflict: something is in the way.
        """
        self._items = []
        named = lookup.variants(self._catalogue, text)
        chosen = [lookup.find(self._catalogue, text, place) for place in wanted]
        if named is None:
            await self._remove_image(lookup.find(self._catalogue, text), force=force)
        elif chosen and len({record.id for record in chosen}) < len(named[1]):
            for record in {record.id: record for record in chosen}.values():
                await self._remove_platform(record, force=force)
        else:
            await self._remove_name(text, *named, force=force)
        return self._items

    async def _remove_name(self, text: str, name: Reference, variants: Sequence[Record], *, force: bool) -> None:
        """Take a name away, and with its last one each image that it means."""
        for record in variants:
            single = _single(self._catalogue.names_of(record.id))
            if not force and single and (used := next(iter(self._uses(record.id)), None)):
                raise Conflict(
                    f'conflict: unable to remove repository reference "{text}" (must force) - '
                    f"container {used.container_id[:_SHORT]} is using its referenced image {_short(record)}"
                )
        await self._untag(variants[0], name)
        await self._untag_digests(variants[0], name)
        for record in variants:
            if not self._catalogue.names_of(record.id):
                await self._delete(record, force=force, untagged=True)

    async def _remove_image(self, record: Record, *, force: bool) -> None:
        """Remove an image by its id. Names that mean other platforms as well stay with those."""
        names = self._own_names(record)
        if _single(self._catalogue.names_of(record.id)):
            self._check(record, running=True, names=False, stopped=not force)
            for name in names:
                await self._untag(record, name)
        await self._delete(record, force=force, untagged=False)

    async def _remove_platform(self, record: Record, *, force: bool) -> None:
        """Remove one platform's image, whatever names mean it beside others."""
        self._check(record, running=True, names=False, stopped=not force)
        await self._delete(record, force=True, untagged=False)

    def _own_names(self, record: Record) -> list[Reference]:
        """The names that mean this image and no other."""
        return [name for name in self._catalogue.names_of(record.id) if len(self._catalogue.variants(name)) == 1]

    async def _delete(self, record: Record, *, force: bool, untagged: bool) -> None:
        """Remove the image itself, unless containers use it; where a name has already gone that is no failure."""
        uses = self._uses(record.id)
        if untagged and uses:
            return
        self._check(record, running=True, names=not force, stopped=not force)
        for name in self._own_names(record):
            await self._untag(record, name)
        others = {layer.chain for other in self._catalogue.records() if other.id != record.id for layer in other.layers}
        await self._catalogue.remove(record.id, keep=bool(uses))
        self._event("delete", record, record.id)
        self._items.append(ImageDeleteItem(deleted=record.id))
        gone = [] if uses else [layer.chain for layer in reversed(record.layers) if layer.chain not in others]
        self._items += [ImageDeleteItem(deleted=chain) for chain in gone]

    def _check(self, record: Record, *, running: bool, names: bool, stopped: bool) -> None:
        """Refuse if one of these is in the way: running containers, names, stopped containers."""
        uses = self._uses(record.id)
        first_running = next((use for use in uses if use.running), None)
        if running and first_running:
            raise _conflict(
                record, f"image is being used by running container {first_running.container_id[:_SHORT]}", forceable=False
            )
        if names and self._own_names(record):
            raise _conflict(record, "image is referenced in multiple repositories", forceable=True)
        if stopped and uses:
            raise _conflict(record, f"image is being used by stopped container {uses[0].container_id[:_SHORT]}", forceable=True)

    async def _untag(self, record: Record, name: Reference) -> None:
        await self._catalogue.drop_name(name)
        self._event("untag", record, record.id)
        self._items.append(ImageDeleteItem(untagged=name.familiar))

    async def _untag_digests(self, record: Record, name: Reference) -> None:
        """With a repository's last tag go the digests by which it is known there."""
        left = self._catalogue.names_of(record.id)
        if name.digest or any(other.tag and other.name == name.name for other in left):
            return
        for other in left:
            if other.digest and other.name == name.name:
                await self._untag(record, other)


def _single(names: Sequence[Reference]) -> bool:
    """Whether all names are one tag at most, and digests of the same repository."""
    return len(names) <= 1 or (sum(1 for name in names if not name.digest) <= 1 and len({name.name for name in names}) == 1)


def _short(record: Record) -> str:
    return record.id.removeprefix("sha256:")[:_SHORT]


def _conflict(record: Record, reason: str, *, forceable: bool) -> Conflict:
    return Conflict(
        f"conflict: unable to delete {_short(record)} ({'must be forced' if forceable else 'cannot be forced'}) - {reason}"
    )
