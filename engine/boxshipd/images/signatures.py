"""An image's repository as the verification of its signatures sees it: ``boxshipd.trust.repository`` over the client."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from boxshipd.images.errors import HostileOrBroken
from boxshipd.registry import referrers
from boxshipd.registry.errors import Absent, BadAnswer, RegistryError

if TYPE_CHECKING:
    from boxshipd.images.remote import Remote
    from boxshipd.trust.repository import Served

logger = logging.getLogger(__name__)


class RemoteSignatures:
    """Reads what is beside an image, wherever it is to be had: mirrors needn't have the signatures of what they have."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def manifest(self, reference: str) -> Served | None:
        """As the protocol's."""
        from boxshipd.trust.repository import Served

        try:
            document = await self._remote.manifest(reference)
        except Absent:
            return None
        except BadAnswer as error:
            raise HostileOrBroken(str(error)) from error
        return Served(document.data, document.media_type)

    async def blob(self, digest: str, size: int) -> bytes | None:
        """As the protocol's."""
        try:
            return await self._remote.blob(digest, size)
        except Absent:
            return None
        except BadAnswer as error:
            raise HostileOrBroken(str(error)) from error

    async def referrers(self, digest: str) -> AsyncGenerator[Served, None]:
        """As the protocol's: the lists of all places, since a mirror may list nothing of what the registry has."""
        from boxshipd.trust.repository import Served

        places = self._remote.places
        for place in places:
            try:
                async with contextlib.aclosing(referrers.pages(place, digest)) as pages:
                    async for data, media_type in pages:
                        yield Served(data, media_type)
            except Absent:
                continue
            except RegistryError as error:
                # The registry itself is the last; that it can't be asked must not look as if it had nothing.
                if place is places[-1]:
                    raise
                logger.warning("%s: listing referrers of %s: %s", place.endpoint.origin, digest, error)
