"""Images over HTTP.

Source: Docker Engine API v1.51, the Image operations.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
from aiohttp.web_response import StreamResponse
from boxship.types.images import ImageInspect, OCIPlatform

from boxshipd.api.call import Call, empty_response, json_response
from boxshipd.api.distribution import registry_auth
from boxshipd.api.jsonstream import closed_afterwards, stream_progress
from boxshipd.errors import InvalidParameter
from boxshipd.filters import Filters

if TYPE_CHECKING:
    from boxshipd.images.distribution import Distribution
    from boxshipd.images.service import Images


class ImageOperations:
    """The operations on images."""

    def __init__(self, images: Images, distribution: Distribution) -> None:
        self._images = images
        self._distribution = distribution

    async def list(self, call: Call) -> StreamResponse:
        """ImageList."""
        query = call.query
        filters = Filters.parse(query.text("filters"))
        shared_size = call.version >= (1, 42) and query.boolean("shared-size")
        images = await self._images.list(
            query.boolean("all"),
            filters=filters,
            digests=query.boolean("digests"),
            shared_size=shared_size,
            manifests=call.version >= (1, 47) and query.boolean("manifests"),
        )
        return json_response(images)

    async def inspect(self, call: Call) -> StreamResponse:
        """ImageInspect. Clients before 1.44 read the size under an older name too."""
        manifests = call.version >= (1, 48) and call.query.boolean("manifests")
        image = await self._images.inspect(call.name, _platform(call, "platform", since=(1, 49)), manifests)
        return json_response(image if call.version >= (1, 44) else _with_virtual_size(image))

    async def history(self, call: Call) -> StreamResponse:
        """ImageHistory."""
        wanted = _platform(call, "platform", since=(1, 48))
        return json_response(await self._images.history(call.name, wanted))

    async def tag(self, call: Call) -> StreamResponse:
        """ImageTag."""
        await self._images.tag(call.name, call.query.text("repo"), call.query.text("tag"))
        return empty_response(201)

    async def remove(self, call: Call) -> StreamResponse:
        """ImageDelete."""
        if not call.name.strip():
            raise InvalidParameter("image name cannot be blank")
        wanted = _platforms(call, "platforms", since=(1, 50))
        removed = await self._images.remove(
            call.name, force=call.query.boolean("force"), prune=not call.query.boolean("noprune"), wanted=wanted
        )
        return json_response(removed)

    async def prune(self, call: Call) -> StreamResponse:
        """ImagePrune."""
        return json_response(await self._images.prune(Filters.parse(call.query.text("filters"))))

    async def create(self, call: Call) -> StreamResponse:
        """ImageCreate: pull an image (``fromImage``), or import an archive (``fromSrc``: ``-`` for the body, or a URL)."""
        query = call.query
        if image := query.text("fromImage"):
            return await self._pull(call, image)
        source = query.text("fromSrc")
        platform = query.text("platform") if call.version >= (1, 32) else ""
        take_in = partial(
            self._images.import_,
            repo=query.text("repo"),
            tag=query.text("tag"),
            message=query.text("message") or f"Imported from {source}",
            changes=query.texts("changes"),
            wanted=platform,
        )
        messages = take_in(call.chunks()) if source == "-" else self._distribution.import_from(source, take_in)
        return await stream_progress(call, messages)

    async def _pull(self, call: Call, image: str) -> StreamResponse:
        query = call.query
        messages = self._distribution.pull(
            image,
            query.text("tag"),
            registry_auth(call),
            query.text("platform") if call.version >= (1, 32) else "",
            everything=True,
        )
        with call.cancelled_when_lost():
            return await stream_progress(call, messages)

    async def push(self, call: Call) -> StreamResponse:
        """ImagePush."""
        wanted = _platform(call, "platform", since=(1, 46))
        messages = self._distribution.push(call.name, call.query.text("tag"), registry_auth(call), wanted)
        with call.cancelled_when_lost():
            return await stream_progress(call, messages)

    async def search(self, call: Call) -> StreamResponse:
        """ImageSearch."""
        query = call.query
        term = query.text("term")
        if not term:
            raise InvalidParameter("term not found")
        filters = Filters.parse(query.text("filters"))
        with call.cancelled_when_lost():
            found = await self._distribution.search(term, query.integer("limit"), filters, registry_auth(call))
        return json_response(found)

    async def load(self, call: Call) -> StreamResponse:
        """ImageLoad."""
        wanted = _platform(call, "platform", since=(1, 48))
        messages = self._images.load(call.chunks(), quiet=call.query.boolean("quiet", default=True), wanted=wanted)
        return await stream_progress(call, messages)

    async def get(self, call: Call) -> StreamResponse:
        """ImageGet and ImageGetAll: images as one archive."""
        wanted = _platform(call, "platform", since=(1, 48))
        names = [call.name] if call.name else call.query.texts("names")
        async with closed_afterwards(self._images.get(names, wanted)) as pieces:
            # Errors are answered with their status as long as no byte has been sent.
            first = await anext(pieces, b"")
            response = await call.open_stream("application/x-tar")
            await response.write(first)
            async for piece in pieces:
                await response.write(piece)
        return response


def _platform(call: Call, parameter: str, since: tuple[int, int]) -> str:
    """The platform a client asks for as ``os/architecture/variant``; empty where it asks for none.

    Raises:
        InvalidParameter: it isn't an OCI platform in JSON, or there are several.
    """
    wanted = _platforms(call, parameter, since)
    if len(wanted) > 1:
        raise InvalidParameter(
            "multiple platform parameters are not supported in this API version; use API version 1.52 or later"
        )
    return wanted[0] if wanted else ""


def _platforms(call: Call, parameter: str, since: tuple[int, int]) -> list[str]:
    """The platforms a client asks for, each as ``os/architecture/variant``.

    Raises:
        InvalidParameter: one of them isn't an OCI platform in JSON.
    """
    texts = [text for text in call.query.texts(parameter) if text] if call.version >= since else []
    try:
        wanted = [msgspec.json.decode(text, type=OCIPlatform) for text in texts]
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"failed to parse platform: {error}") from None
    return ["/".join(part for part in (one.os, one.architecture, one.variant) if part) for one in wanted]


def _with_virtual_size(image: ImageInspect) -> dict[str, object]:
    fields: dict[str, object] = msgspec.json.decode(msgspec.json.encode(image))
    fields["VirtualSize"] = image.size
    return fields
