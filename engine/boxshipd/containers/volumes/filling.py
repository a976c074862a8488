"""Giving an empty volume what the image has in its place."""

from __future__ import annotations

import os
import secrets

from msgspec import Struct

from boxshipd.errors import InternalError, InvalidParameter
from boxshipd.images.unpack.removal import remove_tree
from boxshipd.volumes.content import CopyError, fill, fill_shared, inside, is_empty, move_into


class Filling(Struct, frozen=True):
    """A volume to be filled.

    Args:
        name: the volume's.
        target: its place in the container, which is where the image's content is.
        directory: where its content goes.
        fresh: the volume is being made: nobody else knows of it, and it is given up where this fails.
        aside: a directory on the same file system to fill it in first; empty where there is none.
    """

    name: str
    target: str
    directory: str
    fresh: bool = False
    aside: str = ""


def fill_volume(root_fd: int, filling: Filling, *, shared: bool) -> None:
    """Copy the image's directory into the volume. Runs on a thread of its own.

    Args:
        root_fd: the image's root, its layers put together.
        filling: what is to be filled.
        shared: whether a running container has it mounted.

    Raises:
        InvalidParameter: the image has a file there.
        InternalError: it can't be copied; nothing is left of it.
    """
    try:
        with inside(root_fd, filling.target) as source_fd:
            if source_fd is not None and is_empty(filling.directory):
                _fill(source_fd, filling, shared=shared)
    except NotADirectoryError:
        raise InvalidParameter(f"cannot mount volume over existing file, file exists {filling.target}") from None
    except (CopyError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InternalError(f"copy the image's {filling.target} into volume {filling.name}: {reason}") from error


def _fill(source_fd: int, filling: Filling, *, shared: bool) -> None:
    if filling.fresh:
        fill(source_fd, filling.directory)
        return
    if not filling.aside:
        fill_shared(source_fd, filling.directory)
        return
    aside = f"{filling.aside}/.{secrets.token_hex(16)}"
    os.mkdir(aside, 0o755)
    try:
        fill(source_fd, aside)
        if shared:
            move_into(aside, filling.directory)
        else:
            # One step: the volume is either empty or has all of it.
            os.rename(aside, filling.directory)
    finally:
        remove_tree(aside)
