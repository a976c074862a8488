"""A container's file system from one daemon to another: ``export`` streamed into ``import``, with the settings it ran with."""

from __future__ import annotations

from collections.abc import Callable

from boxship.api import API
from boxship.errors import TransferError
from boxship.http.target import quote
from boxship.references import Reference
from boxship.transfer.images import check, counted, nothing
from boxship.transfer.instructions import instructions

_TAR = [("Content-Type", "application/x-tar")]


def copy_container(
    source: API,
    destination: API,
    container: str,
    image: Reference,
    *,
    progress: Callable[[int], object] = nothing,
) -> str:
    """Make an image at one daemon of a container's file system at another; volumes aren't part of it, as with ``export``.

    Args:
        source: the daemon that has the container.
        destination: the daemon that is to have the image.
        container: its name or id.
        image: the new image's name and tag.
        progress: called with the number of bytes sent so far.

    Returns:
        The new image's id.

    Raises:
        APIError: one of the daemons refused.
        StreamError: the destination couldn't import what it got.
        TransferError: the container has settings that an import can't carry, or the destination made no image.
    """
    path = f"/containers/{quote(container)}"
    config = source.call("GET", f"{path}/json")["Config"]
    query = {
        "fromSrc": "-",
        "repo": image.familiar_name,
        "tag": image.tag,
        "message": f"Copied from container {container}",
        "changes": instructions(config, container),
    }
    destination.negotiate()
    with source.open("GET", f"{path}/export") as archive:
        body = counted(archive.chunks(), progress)
        with destination.open("POST", "/images/create", query, body, _TAR) as response:
            identifier = check(response.lines())
    if not identifier.startswith("sha256:"):
        raise TransferError(f"the destination made no image of container {container}")
    return identifier
