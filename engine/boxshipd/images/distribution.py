"""What the API asks of registries: images pulled and pushed, credentials tried, manifests looked at, copied and put."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from aiohttp import ClientResponse
from boxship.types.images import OCIDescriptor, ProgressMessage
from boxship.types.registry import (
    AuthConfig,
    AuthResponse,
    DistributionInspect,
    DistributionPlatform,
    SearchResult,
)
from yarl import URL

from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.images import artifacts, platform, reference
from boxshipd.images.artifacts import Artifact
from boxshipd.images.manifest_push import ManifestPusher
from boxshipd.images.model import DOCUMENT_LIMIT, ImageConfig, Platform, decode
from boxshipd.images.output import Output
from boxshipd.images.pull import Puller
from boxshipd.images.pull_layers import Slots
from boxshipd.images.push import Pusher
from boxshipd.images.reference import Reference, with_tag
from boxshipd.images.remote import Remote
from boxshipd.images.remote_import import TakeIn, address, download, import_from
from boxshipd.images.sharing import Sharing
from boxshipd.images.workers import Workers
from boxshipd.registry import documents, login, search, tags
from boxshipd.registry.client import RegistryClient
from boxshipd.registry.credentials import Credentials, for_registry
from boxshipd.registry.documents import Document, RemoteIndex
from boxshipd.registry.own_listeners import OwnListeners
from boxshipd.registry.settings import ClientSettings
from boxshipd.scheduler.jobs import Job, Scheduler

if TYPE_CHECKING:
    from boxshipd.images.service import Images

_THREADS = 4


class Distribution:
    """Images and registries. To be used on the event loop; ``close`` it in the end.

    Args:
        images: the images there are.
        scheduler: runs the pulls and pushes.
        settings: of the registry client.
        downloads: how many blobs come in at once.
        uploads: how many go out at once.
    """

    def __init__(
        self,
        images: Images,
        scheduler: Scheduler,
        settings: ClientSettings,
        *,
        own: OwnListeners | None = None,
        downloads: int = 3,
        uploads: int = 5,
    ) -> None:
        self._images = images
        self._scheduler = scheduler
        self._client = RegistryClient(settings, own)
        self._threads = Workers(_THREADS, "blobs")
        self._downloads, self._uploads = Slots(downloads), Slots(uploads)
        self._puller = Puller(images, self._downloads, self._threads)
        self._pusher = Pusher(images, self._uploads, self._threads)
        self._manifests = ManifestPusher(images, self._threads)
        self._sharing = Sharing()
        self._numbers = itertools.count()

    def reconfigure(self, settings: ClientSettings, downloads: int, uploads: int) -> None:
        """Take over what may change while the daemon runs."""
        self._client.reconfigured(settings.mirrors, settings.insecure, settings.registries)
        self._downloads.resize(downloads)
        self._uploads.resize(uploads)

    async def close(self) -> None:
        """End connections and threads; no job may be under way any more."""
        await self._client.close()
        self._threads.close()

    async def pull(
        self, text: str, tag: str, config: AuthConfig, wanted: str = "", everything: bool = False
    ) -> AsyncGenerator[ProgressMessage, None]:
        """Pull an image, or all images of a repository.

        Args:
            text: the image's name.
            tag: a tag or digest, which takes the place of the one in the name.
            config: the client's credentials.
            wanted: the platform, if any.
            everything: pull all tags where there is neither tag nor digest.

        Raises:
            DaemonError: as ``Puller.pull`` does.
        """
        name = named(text, tag)
        chosen = platform.parse(wanted) if wanted else None
        credentials = for_registry(config, name.domain)
        if not name.tag and not name.digest and not everything:
            name = name.tagged()

        async def work(output: Output) -> None:
            async def job(_: Job) -> None:
                await self._pull(name, credentials, chosen, output)

            await self._scheduler.run("pull", str(name), job, cancellable=True)

        async for message in self._sharing.follow((name, credentials, chosen), work):
            yield message

    async def describe(self, name: Reference, config: AuthConfig, wanted: Platform | None) -> tuple[Reference, ImageConfig]:
        """What an image in a registry is, of which nothing but its documents is fetched.

        Args:
            name: its name.
            config: the client's credentials.
            wanted: the platform, if any.

        Returns:
            The name with the digest that it means now, and the configuration for the platform.

        Raises:
            DaemonError: as ``Puller.describe`` does.
        """
        name = name.tagged()
        places = await self._client.repositories(name, for_registry(config, name.domain), "pull")
        digest, described = await self._puller.describe(Remote(name, places), name, wanted)
        return Reference(name.domain, name.path, name.tag, digest), described

    async def _pull(self, name: Reference, credentials: Credentials, wanted: Platform | None, output: Output) -> None:
        places = await self._client.repositories(name, credentials, "pull")
        names = [name]
        if not name.tag and not name.digest:
            found = await Remote(name, places).fetch(tags.listed)
            names = [with_tag(name, tag) for tag in found]
            if not names:
                raise NotFound(f"repository {name.familiar_name} has no tags")
        fresh = False
        for one in names:
            changed = await self._puller.pull(Remote(one, places), one, wanted, output)
            fresh = fresh or changed
            # By a digest, an image isn't called what its tag was.
            shown = Reference(one.domain, one.path, "", one.digest) if one.digest else one
            record = self._images.stores.catalogue.named(shown, wanted)
            if record is not None:
                self._images.announce("pull", record, one)
        said = "Downloaded newer image for" if fresh else "Image is up to date for"
        output.message(f"Status: {said} {name.familiar}")

    async def push(self, text: str, tag: str, config: AuthConfig, wanted: str = "") -> AsyncGenerator[ProgressMessage, None]:
        """Push an image, or all tags of a repository where ``tag`` is empty.

        Args:
            text: the repository.
            tag: which one of it.
            config: the client's credentials.
            wanted: the platform to push where the image is there for several.

        Raises:
            NotFound: there is no such image.
            RegistryError: the registry doesn't take it.
        """
        name = named(text, "")
        if tag:
            name = with_tag(name, tag)
        elif name.digest:
            raise InvalidParameter("cannot push a digest reference")
        else:
            name = Reference(name.domain, name.path)
        credentials = for_registry(config, name.domain)
        chosen = platform.parse(wanted) if wanted else None
        selected = self._pusher.select(name, chosen)

        async def work(output: Output) -> None:
            async def job(_: Job) -> None:
                (place,) = (await self._client.repositories(name, credentials, "push"))[-1:]
                await self._pusher.push(place, name, selected, output)

            await self._scheduler.run("push", str(name), job, cancellable=True)

        async for message in self._sharing.follow(next(self._numbers), work):
            yield message

    async def import_from(self, source: str, take_in: TakeIn) -> AsyncGenerator[ProgressMessage, None]:
        """Import an archive from a URL.

        Args:
            source: the URL; ``http://`` where it has no scheme, as with Docker.
            take_in: imports an archive, telling how.

        Raises:
            InvalidParameter: it isn't a URL.
            RegistryError: it can't be had.
        """
        url = address(source)
        async for message in self._sharing.follow(
            next(self._numbers), lambda output: import_from(self._client, url, take_in, output)
        ):
            yield message

    @contextlib.asynccontextmanager
    async def download(
        self, source: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """What is at a URL, inside the block: its media type, empty where nothing is said of it, and its bytes.

        Args:
            source: the URL.
            headers: what goes along, as for ``fetch``.

        Raises:
            InvalidParameter: it isn't a URL.
            RegistryError: it can't be had.
        """
        async with download(self._client, address(source), headers) as response:
            declared = response.content_type if "Content-Type" in response.headers else ""
            yield declared, response.content.iter_any()

    @contextlib.asynccontextmanager
    async def fetch(self, url: URL, headers: Mapping[str, str]) -> AsyncIterator[ClientResponse]:
        """The answer to a GET of a URL, inside the block.

        Args:
            url: where.
            headers: what goes along: an account, what must have changed since (RFC 9110, section 13).

        Raises:
            RegistryError: it can't be had.
        """
        async with download(self._client, url, headers) as response:
            yield response

    async def login(self, config: AuthConfig) -> AuthResponse:
        """Try a client's credentials out; see ``registry.login``."""
        return await login.login(self._client, config)

    async def search(self, term: str, limit: int | None, filters: Filters, config: AuthConfig) -> list[SearchResult]:
        """Search an index; see ``registry.search``."""
        domain, _ = search.split(term)
        return await search.search(self._client, term, limit, filters, for_registry(config, domain))

    async def inspect(self, text: str, config: AuthConfig) -> DistributionInspect:
        """What an image in a registry is, and for which platforms.

        Raises:
            NotFound: there is none.
            RegistryError: the registry can't be asked.
        """
        remote, document = await self._look(text, config)
        content = document.content
        if isinstance(content, RemoteIndex):
            platforms = [
                DistributionPlatform(
                    entry.platform.architecture,
                    entry.platform.os,
                    entry.platform.os_version,
                    entry.platform.os_features,
                    entry.platform.variant,
                )
                for entry in content.manifests
                if entry.platform is not None
            ]
        else:
            data = await remote.blob(content.config.digest, content.config.size, DOCUMENT_LIMIT)
            image = decode(ImageConfig, data, "image configuration")
            platforms = [DistributionPlatform(image.architecture, image.os, image.os_version or "", None, image.variant or "")]
        return DistributionInspect(OCIDescriptor(document.media_type, document.digest, len(document.data)), platforms)

    async def artifact(self, name: Reference, config: AuthConfig) -> Artifact:
        """The manifest or index of a name in a registry, with access to what it lists.

        Raises:
            NotFound: there is none.
            RegistryError: the registry can't be asked.
        """
        places = await self._client.repositories(name, for_registry(config, name.domain), "pull")
        remote = Remote(name, places)
        return Artifact(remote, await remote.resolve(name.digest or name.tag), self._downloads, self._threads)

    async def put_artifact(self, name: Reference, config: AuthConfig, document: Document) -> None:
        """Put a manifest into a registry, after the blobs that it lists, which the content store has, pinned.

        Raises:
            RegistryError: the registry doesn't take it.
        """
        places = await self._client.repositories(name, for_registry(config, name.domain), "push")
        content = self._images.stores.content

        async def job(_: Job) -> None:
            await artifacts.put(places[-1], name.tag, document, content, self._threads, self._uploads)

        await self._scheduler.run("push", str(name), job, cancellable=True)

    async def manifest(self, text: str, config: AuthConfig) -> Document:
        """The manifest or index of a name in a registry, as it is there.

        Raises:
            NotFound: there is none.
            RegistryError: the registry can't be asked.
        """
        return (await self._look(text, config))[1]

    async def put_manifest(
        self, text: str, data: bytes, media_type: str, sources: Sequence[str], config: AuthConfig
    ) -> Document:
        """Put a manifest or an index into a registry under a name, after what it refers to.

        Args:
            text: the name, with a tag or a digest.
            data: the document.
            media_type: what it is.
            sources: names by digest of manifests it lists that are in other repositories of the same registry.
            config: the client's credentials.

        Raises:
            InvalidParameter: the document or a source can't be used.
            RegistryError: the registry doesn't take it.
        """
        name = reference.parse(text).tagged()
        document = documents.read(data, media_type, name.digest)
        origins = [reference.parse(source) for source in sources]
        for origin in origins:
            if origin.domain != name.domain:
                raise InvalidParameter(
                    f"cannot use source images from a different registry than the target image: "
                    f"{origin.domain} != {name.domain}"
                )
            if not origin.digest:
                raise InvalidParameter(f"source {origin.familiar} must name its manifest by digest")
        credentials = for_registry(config, name.domain)
        target = (await self._client.repositories(name, credentials, "push"))[-1]
        places = {origin.digest: (await self._client.repositories(origin, credentials, "push"))[-1] for origin in origins}

        async def job(_: Job) -> None:
            await self._manifests.push(target, name.digest or name.tag, document, places)

        await self._scheduler.run("push", str(name), job, cancellable=True)
        return document

    async def _look(self, text: str, config: AuthConfig) -> tuple[Remote, Document]:
        name = reference.parse(text).tagged()
        places = await self._client.repositories(name, for_registry(config, name.domain), "pull")
        remote = Remote(name, places)
        return remote, await remote.resolve(name.digest or name.tag)


def named(text: str, tag: str) -> Reference:
    """The name that a client's two parameters make: a digest in the name counts most, then the tag or digest beside it.

    Raises:
        InvalidParameter: they make none.
    """
    name = reference.parse(text)
    if not tag or name.digest:
        return name
    if ":" in tag:
        return reference.parse(f"{Reference(name.domain, name.path)}@{tag}")
    return with_tag(name, tag)
