"""Images in the SDK."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from boxship.api import API
from boxship.errors import InvalidReference, StreamError
from boxship.http.target import quote
from boxship.references import DEFAULT_DOMAIN, parse
from boxship.resources.accounts import Accounts
from boxship.resources.filters import encode_filters
from boxship.transfer.images import Moved, copy_images
from boxship.types.images import ImageDeleteItem, ImageInspect, ImagePruneResponse, ImageSummary, ProgressMessage
from boxship.types.registry import SearchResult

_TAR = [("Content-Type", "application/x-tar")]
Progress = Callable[[ProgressMessage], object]


class Images:
    """A daemon's images; each is named by a reference or its id.

    Args:
        api: the daemon.
        accounts: what it shows to registries.
    """

    def __init__(self, api: API, accounts: Accounts) -> None:
        self._api = api
        self._accounts = accounts

    def pull(self, image: str, *, platform: str = "", progress: Progress | None = None) -> ImageInspect:
        """Have the daemon pull an image.

        Args:
            image: its name, with ``latest`` where it has neither tag nor digest.
            platform: ``os[/arch[/variant]]``, empty for the daemon's own.
            progress: called with each message about how it goes.

        Returns:
            The image.

        Raises:
            InvalidReference: that is no name.
            StreamError: the pull failed.
        """
        reference = parse(image).tagged()
        query = {
            "fromImage": reference.familiar_name,
            "tag": reference.digest or reference.tag,
            "platform": platform or None,
        }
        self._follow("/images/create", query, reference.domain, progress)
        return self.inspect(reference.familiar)

    def push(self, image: str, *, platform: str = "", progress: Progress | None = None) -> str:
        """Have the daemon push an image to the registry that its name begins with.

        Args:
            image: its name, with ``latest`` where it has no tag.
            platform: the only platform to push, ``os[/arch[/variant]]``; empty for all.
            progress: called with each message about how it goes.

        Returns:
            The digest under which the registry has it, empty where the daemon doesn't say.

        Raises:
            InvalidReference: that is no name, or one with a digest.
            StreamError: the push failed.
        """
        reference = parse(image).tagged()
        if reference.digest:
            raise InvalidReference("cannot push a digest reference")
        names = ("os", "architecture", "variant")
        chosen = json.dumps(dict(zip(names, platform.split("/"), strict=False))) if platform else None
        pushed: list[str] = []

        def watch(message: ProgressMessage) -> None:
            if isinstance(message.aux, dict) and "Digest" in message.aux:
                pushed.append(str(message.aux["Digest"]))
            if progress is not None:
                progress(message)

        path = f"/images/{_name(reference.familiar_name)}/push"
        self._follow(path, {"tag": reference.tag, "platform": chosen}, reference.domain, watch)
        return pushed[-1] if pushed else ""

    def search(
        self, term: str, *, limit: int | None = None, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[SearchResult]:
        """Search Docker Hub, or the registry that the term begins with.

        Args:
            term: what to look for.
            limit: the greatest number of results.
            filters: ``is-official`` and ``stars`` to their values.
        """
        head, slash, _ = term.partition("/")
        domain = head if slash and ("." in head or ":" in head) else DEFAULT_DOMAIN
        query = {"term": term, "limit": limit, "filters": encode_filters(filters)}
        with self._api.open("GET", "/images/search", query, headers=[self._accounts.of_domain(domain).header()]) as response:
            return msgspec.json.decode(response.read(), type=list[SearchResult])

    def copy_to(self, destination: API, *images: str, progress: Callable[[int], object] | None = None) -> list[Moved]:
        """Copy images to another daemon, streamed through this process; what is there already isn't sent.

        Args:
            destination: the other client's ``api``.
            images: which ones.
            progress: called with the number of bytes sent so far.

        Returns:
            What became of each.

        Raises:
            StreamError: the destination couldn't load what it got.
            TransferError: what arrived isn't what was sent.
        """
        return copy_images(self._api, destination, images, progress=progress or (lambda _sent: None))

    def _follow(self, path: str, query: Mapping[str, object], domain: str, progress: Progress | None) -> None:
        headers = [self._accounts.of_domain(domain).header()]
        with self._api.open("POST", path, query, headers=headers) as response:
            decoder = msgspec.json.Decoder(ProgressMessage)
            for message in _checked(decoder.decode(line) for line in response.lines() if line.strip()):
                if progress is not None:
                    progress(message)

    def inspect(self, image: str) -> ImageInspect:
        """Everything about an image."""
        return msgspec.json.decode(self._api.raw("GET", f"/images/{_name(image)}/json"), type=ImageInspect)

    def history(self, image: str) -> list[dict[str, Any]]:
        """How an image came to be, newest step first."""
        steps: list[dict[str, Any]] = self._api.call("GET", f"/images/{_name(image)}/history")
        return steps

    def tag(self, image: str, repository: str, tag: str = "latest") -> None:
        """Give an image another name."""
        self._api.call("POST", f"/images/{_name(image)}/tag", {"repo": repository, "tag": tag})

    def remove(self, image: str, *, force: bool = False, prune: bool = True) -> list[ImageDeleteItem]:
        """Remove a name, and the image itself with its last one.

        Args:
            image: which one.
            force: whether to remove it although stopped containers use it.
            prune: whether untagged parents go too.
        """
        query = {"force": force or None, "noprune": not prune or None}
        return msgspec.json.decode(self._api.raw("DELETE", f"/images/{_name(image)}", query), type=list[ImageDeleteItem])

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> ImagePruneResponse:
        """Remove images that nothing uses."""
        answer = self._api.raw("POST", "/images/prune", {"filters": encode_filters(filters)})
        return msgspec.json.decode(answer, type=ImagePruneResponse)

    def load(self, archive: Iterable[bytes]) -> list[str]:
        """Load images from a tar archive.

        Args:
            archive: its bytes, piece by piece.

        Returns:
            What the daemon said of each image it loaded.

        Raises:
            StreamError: the archive is damaged or not one of images.
        """
        self._api.negotiate()
        with self._api.open("POST", "/images/load", {"quiet": True}, iter(archive), _TAR) as response:
            messages = (msgspec.json.decode(line, type=ProgressMessage) for line in response.lines() if line.strip())
            return [message.stream.strip() for message in _checked(messages) if isinstance(message.stream, str)]

    def save(self, *images: str) -> Iterator[bytes]:
        """Images as a tar archive, piece by piece."""
        with self._api.open("GET", "/images/get", {"names": list(images)}) as response:
            yield from response.chunks()

    def import_(
        self, archive: Iterable[bytes], repository: str = "", tag: str = "", *, message: str = "", changes: Sequence[str] = ()
    ) -> str:
        """Make an image of a root file system.

        Args:
            archive: the file system as tar, piece by piece.
            repository: the image's name, empty for none.
            tag: its tag.
            message: a comment.
            changes: Dockerfile instructions for its configuration.

        Returns:
            The image's id.

        Raises:
            StreamError: the archive is damaged.
        """
        self._api.negotiate()
        query = {
            "fromSrc": "-",
            "repo": repository or None,
            "tag": tag or None,
            "message": message or None,
            "changes": list(changes),
        }
        with self._api.open("POST", "/images/create", query, iter(archive), _TAR) as response:
            identifier = ""
            for line in response.lines():
                if line.strip():
                    said = json.loads(line)
                    if failure := said.get("error"):
                        raise StreamError(str(failure))
                    identifier = str(said.get("status", identifier))
        return identifier

    # Last, because its name is that of the type in the other methods' annotations.
    def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - the API's word
        digests: bool = False,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> list[ImageSummary]:
        """The images, newest first.

        Args:
            all: whether to list intermediate ones as well.
            digests: whether to give their digests.
            filters: names to values, any of which may match.
        """
        query = {"all": all or None, "digests": digests or None, "filters": encode_filters(filters)}
        return msgspec.json.decode(self._api.raw("GET", "/images/json", query), type=list[ImageSummary])


def _name(image: str) -> str:
    return quote(image, "/:@")


def _checked(messages: Iterable[ProgressMessage]) -> Iterator[ProgressMessage]:
    for message in messages:
        if isinstance(message.error, str):
            raise StreamError(message.error)
        yield message
