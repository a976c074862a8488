"""Images in the SDK."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from boxship.api import API
from boxship.errors import StreamError
from boxship.http.target import quote
from boxship.resources.filters import encode_filters
from boxship.types.images import ImageDeleteItem, ImageInspect, ImagePruneResponse, ImageSummary, ProgressMessage

_TAR = [("Content-Type", "application/x-tar")]


class Images:
    """A daemon's images; each is named by a reference or its id.

    Args:
        api: the daemon.
    """

    def __init__(self, api: API) -> None:
        self._api = api

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
