"""What verification needs of a registry: to read from the repository that the image comes from, and nothing else.

The client of registries implements it. Whatever it returns is verified here once more, so that nothing hangs on its care.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from msgspec import Struct


class Served(Struct, frozen=True):
    """A document as the registry served it: its bytes, and the ``Content-Type`` it was given."""

    data: bytes
    media_type: str


class Repository(Protocol):
    """Reads from one repository, at the registry or the mirrors that the image may come from.

    Absence must be told from failure: only a 404 is absence. What is too large, isn't what its digest says or can't be
    understood raises ``HostileOrBroken``, and counts as a signature that isn't good: others may be. Every other ``DaemonError``
    ends the verification, and the image is refused.
    """

    async def manifest(self, reference: str) -> Served | None:
        """The manifest or index of a tag or digest, of at most ``documents.DOCUMENT_LIMIT`` bytes; None where there is none."""
        ...

    async def blob(self, digest: str, size: int) -> bytes | None:
        """A blob of exactly ``size`` bytes; None where there is none."""
        ...

    def referrers(self, digest: str) -> AsyncGenerator[Served, None]:
        """The pages of the list of what refers to a manifest (``GET /v2/<name>/referrers/<digest>``), bounded like manifests.

        None at all where the registry hasn't that API: it answers 404, or as some do 400, 405 or 406.
        """
        ...
