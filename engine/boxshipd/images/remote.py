"""The registry and its mirrors as one source of an image, each part of which comes from the first place that has it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from boxshipd.errors import NotFound
from boxshipd.images.errors import HostileOrBroken
from boxshipd.images.reference import Reference
from boxshipd.registry import blobs, manifests
from boxshipd.registry.documents import LIMIT, Document, RemoteDescriptor
from boxshipd.registry.errors import Absent, AccessDenied, BadDocument, RegistryError, Unreachable
from boxshipd.registry.repository import Repository

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Remote:
    """One image's repository, at all the places where it is to be had.

    Args:
        name: the image's name.
        places: in the order to be asked; the registry itself is the last.
    """

    def __init__(self, name: Reference, places: Sequence[Repository]) -> None:
        self.name = name
        self._places = list(places)

    @property
    def places(self) -> list[Repository]:
        """Where it is to be had, in the order to be asked; the registry itself is the last."""
        return list(self._places)

    async def resolve(self, reference: str) -> Document:
        """The manifest or index of a tag or digest.

        Raises:
            NotFound: there is none, or it isn't for us.
            RegistryError: no place can be asked.
            BadDocument: it can't be used.
        """
        able = [place for place in self._places if place.endpoint.resolves or ":" in reference]
        try:
            return await self._first(lambda place: manifests.get(place, reference), able)
        except (Absent, AccessDenied) as error:
            raise self._explained(error) from error

    async def unchanged(self, tag: str, digest: str) -> bool:
        """Whether a tag still means a digest, as far as the registry says so without sending anything."""
        able = [place for place in self._places if place.endpoint.resolves]
        try:
            answer = await self._first(lambda place: manifests.head(place, tag), able)
        except (Absent, AccessDenied) as error:
            raise self._explained(error) from error
        return answer is not None and answer[1] == digest

    async def document(self, descriptor: RemoteDescriptor) -> Document:
        """The manifest or index that a descriptor names.

        Raises:
            BadDocument: it isn't what the descriptor says.
        """
        if descriptor.size > LIMIT:
            raise BadDocument(
                f"invalid manifest: {descriptor.digest} has {descriptor.size} bytes, more than the {LIMIT} allowed"
            )
        document = await self.manifest(descriptor.digest)
        if len(document.data) != descriptor.size or document.media_type != descriptor.media_type:
            raise BadDocument(
                f"invalid manifest: {descriptor.digest} is {document.media_type} of {len(document.data)} bytes, listed as "
                f"{descriptor.media_type} of {descriptor.size}"
            )
        return document

    async def manifest(self, reference: str) -> Document:
        """The manifest or index of a tag or digest, wherever one is.

        Raises:
            Absent: there is none.
        """
        return await self._first(lambda place: manifests.get(place, reference), self._places)

    async def blob(self, digest: str, size: int, limit: int = LIMIT) -> bytes:
        """A small blob, verified.

        Raises:
            Absent: there is none.
        """
        return await self._first(lambda place: blobs.small(place, digest, size, limit), self._places)

    async def fetch(self, work: Callable[[Repository], Awaitable[T]]) -> T:
        """Do ``work``, which brings a blob in, with the first place where that succeeds."""
        return await self._first(work, self._places)

    async def _first(self, work: Callable[[Repository], Awaitable[T]], places: Sequence[Repository]) -> T:
        for place in [*places]:
            try:
                return await work(place)
            except (RegistryError, HostileOrBroken) as error:
                if place is places[-1]:
                    raise
                logger.warning("%s: %s; trying the next place", place.endpoint.origin, error)
                if isinstance(error, Unreachable) and place in self._places[:-1]:
                    self._places.remove(place)
        raise RegistryError(f"no registry is configured that {self.name.familiar} could be had from")

    def _explained(self, error: Absent | AccessDenied) -> Exception:
        """Docker's words for what is the commonest mistake.

        Source: moby daemon/internal/distribution/errors.go (``translatePullError``).
        """
        if isinstance(error, AccessDenied):
            if error.code == "DENIED" or error.status == 403:
                return NotFound(
                    f"pull access denied for {self.name.familiar_name}, repository does not exist or may require "
                    f"'docker login': {error}"
                )
            return error
        if error.code == "NAME_UNKNOWN":
            return NotFound(f"repository {self.name.familiar_name} not found: {error}")
        return NotFound(f"manifest for {self.name.familiar} not found: {error}")
