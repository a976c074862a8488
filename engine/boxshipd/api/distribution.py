"""Registries over HTTP: credentials, and manifests as they are there.

Source: Docker Engine API v1.51, SystemAuth, DistributionInspect; the operations on raw manifests are Boxship's own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp.web_response import Response, StreamResponse
from boxship.types.registry import AuthConfig

from boxshipd.api.call import Call, json_response
from boxshipd.api.version import HEADERS
from boxshipd.errors import InvalidParameter
from boxshipd.registry.credentials import decode_header

if TYPE_CHECKING:
    from boxshipd.images.distribution import Distribution

logger = logging.getLogger(__name__)

_DIGEST = "Docker-Content-Digest"


class DistributionOperations:
    """The operations on registries that aren't about images here."""

    def __init__(self, distribution: Distribution) -> None:
        self._distribution = distribution

    async def login(self, call: Call) -> StreamResponse:
        """SystemAuth."""
        config = await call.json(AuthConfig)
        with call.cancelled_when_lost():
            return json_response(await self._distribution.login(config))

    async def inspect(self, call: Call) -> StreamResponse:
        """DistributionInspect."""
        with call.cancelled_when_lost():
            return json_response(await self._distribution.inspect(call.name, registry_auth(call)))

    async def manifest(self, call: Call) -> StreamResponse:
        """DistributionManifest: the bytes of a manifest or an index in a registry."""
        with call.cancelled_when_lost():
            document = await self._distribution.manifest(call.name, registry_auth(call))
        headers = {**HEADERS, _DIGEST: document.digest, "Content-Type": document.media_type}
        return Response(body=document.data, headers=headers)

    async def put_manifest(self, call: Call) -> StreamResponse:
        """DistributionManifestPut: put a manifest or an index into a registry."""
        data = await call.body()
        media_type = call.request.headers.get("Content-Type", "")
        sources = call.query.texts("source")
        with call.cancelled_when_lost():
            document = await self._distribution.put_manifest(call.name, data, media_type, sources, registry_auth(call))
        return Response(status=201, headers={**HEADERS, _DIGEST: document.digest})


def registry_auth(call: Call) -> AuthConfig:
    """The credentials that a request brings. As with Docker, what can't be read is as good as none."""
    try:
        return decode_header(call.request.headers.get("X-Registry-Auth", ""))
    except InvalidParameter as error:
        logger.warning("credentials are ignored: %s", error)
        return AuthConfig()
