"""Images from one daemon to another: one ``save`` streamed into one ``load``, of what the other one doesn't have yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple

from boxship.api import API
from boxship.errors import InvalidReference, NotFound, StreamError, TransferError
from boxship.http.target import quote
from boxship.references import Reference, parse

_TAR = [("Content-Type", "application/x-tar")]


class State(Enum):
    """What became of an image."""

    COPIED = "Copied"
    TAGGED = "Tagged"
    PRESENT = "Already there"


class Moved(NamedTuple):
    """What became of an image.

    Attributes:
        image: its name, as it was given.
        identifier: its id, the same at both daemons.
        state: whether it was sent, only named, or there already.
    """

    image: str
    identifier: str
    state: State


def nothing(_sent: int) -> None:
    """Nobody wants to know how much was sent."""


def copy_images(
    source: API,
    destination: API,
    images: Sequence[str],
    *,
    platform: str | None = None,
    progress: Callable[[int], object] = nothing,
) -> list[Moved]:
    """Copy images. What the destination has isn't sent; names it gives to other images are moved, as ``load`` does.

    Args:
        source: the daemon that has them.
        destination: the daemon that is to have them.
        images: their names or ids.
        platform: the only platform to copy, in the API's JSON; None for all that there are.
        progress: called with the number of bytes sent so far.

    Returns:
        What became of each, in the order given.

    Raises:
        APIError: one of the daemons refused; NotFound where the source doesn't have an image.
        StreamError: the destination couldn't load what it got.
        TransferError: what arrived isn't what was sent.
    """
    wanted = [_Wanted(source, image, platform) for image in images]
    missing = [image for image in wanted if image.name_at(destination) is None]
    if missing:
        _stream(source, destination, [image.name for image in missing], platform, progress)
    moved = []
    for image in wanted:
        named = image.give_name(destination)
        state = State.COPIED if image in missing else State.TAGGED if named else State.PRESENT
        moved.append(Moved(image.name, image.identifier, state))
    return moved


class _Wanted:
    """An image to be copied.

    Args:
        source: the daemon that has it.
        name: its name or id.
        platform: the only platform wanted, in the API's JSON; None for all.
    """

    def __init__(self, source: API, name: str, platform: str | None) -> None:
        self.name = name
        shown = _inspect(source, name)
        self.identifier: str = shown["Id"]
        self._tag = _tag_of(name, shown)
        self._parts = _parts(shown, json.loads(platform) if platform else None)
        if platform and self._parts is not None and not self._parts:
            raise TransferError(f"{name} has no image for that platform: {platform}")

    def name_at(self, daemon: API) -> str | None:
        """A name or id by which a daemon has all of it: the same id, and every part that the source has; None for none.

        Its own name comes first. By an id, a daemon may show one platform only of an image that has more.
        """
        tags = [] if self._tag is None else [self._tag.familiar]
        if any(self._is(daemon, tag) for tag in tags):
            return tags[0]
        try:
            others = _inspect(daemon, self.identifier).get("RepoTags") or ()
        except NotFound:
            return None
        return next((name for name in (self.identifier, *others) if self._is(daemon, name)), None)

    def _is(self, daemon: API, name: str) -> bool:
        try:
            shown = _inspect(daemon, name)
        except NotFound:
            return False
        if shown["Id"] != self.identifier:
            return False
        return self._parts is None or self._parts <= (_parts(shown, None) or frozenset())

    def give_name(self, daemon: API) -> bool:
        """Have a daemon that has the image know it by its name; whether it didn't.

        Raises:
            TransferError: it hasn't the image.
        """
        known = self.name_at(daemon)
        if known is None:
            raise TransferError(f"{self.name} did not arrive as it was sent: the destination has no image {self.identifier}")
        if self._tag is None or known == self._tag.familiar:
            return False
        query = {"repo": self._tag.familiar_name, "tag": self._tag.tag}
        daemon.call("POST", f"/images/{quote(known, '/:')}/tag", query)
        return True


def _inspect(daemon: API, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = daemon.call("GET", f"/images/{quote(name, '/:@')}/json", {"manifests": True})
    return shown


def _tag_of(name: str, shown: dict[str, Any]) -> Reference | None:
    """The tag that the image is to have, None where it was named by its id or a digest."""
    try:
        reference = parse(name).tagged()
    except InvalidReference:
        return None
    # The beginning of an id looks like a repository.
    return reference if reference.tag and reference.familiar in (shown.get("RepoTags") or ()) else None


def _parts(shown: dict[str, Any], platform: dict[str, str] | None) -> frozenset[str] | None:
    """The digests of the manifests that a daemon has of an image; None where it keeps one platform of each and doesn't say."""
    manifests = shown.get("Manifests")
    if not manifests:
        return None
    return frozenset(
        str(manifest["ID"])
        for manifest in manifests
        if manifest.get("Available") and (platform is None or _is_of(manifest, platform))
    )


def _is_of(manifest: dict[str, Any], platform: dict[str, str]) -> bool:
    has = (manifest.get("ImageData") or {}).get("Platform") or {}
    return all(has.get(key) == value for key, value in platform.items())


def _stream(source: API, destination: API, names: list[str], platform: str | None, progress: Callable[[int], object]) -> None:
    destination.negotiate()
    with source.open("GET", "/images/get", {"names": names, "platform": platform}) as archive:
        body = counted(archive.chunks(), progress)
        with destination.open("POST", "/images/load", {"quiet": True, "platform": platform}, body, _TAR) as response:
            check(response.lines())


def counted(chunks: Iterator[bytes], progress: Callable[[int], object]) -> Iterator[bytes]:
    """The same bytes, while ``progress`` is told how many went by."""
    sent = 0
    for chunk in chunks:
        yield chunk
        sent += len(chunk)
        progress(sent)


def check(lines: Iterator[bytes]) -> str:
    """Read a stream of progress messages to its end; the last status.

    Raises:
        StreamError: it reports a failure.
    """
    status = ""
    for line in lines:
        if line.strip():
            message = json.loads(line)
            if failure := (message.get("errorDetail") or {}).get("message") or message.get("error"):
                raise StreamError(str(failure))
            status = str(message.get("status", status))
    return status
