"""Where outputs of a build go on this side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

from boxship.archive.places import Plan
from boxship.archive.unpacking import Pieces, unpack
from boxship.archive.whole import write_file
from boxship.building.values import Output
from boxship.errors import CommandError


class Receiver(Protocol):
    """Takes one output."""

    def write(self, pieces: Iterator[bytes]) -> None:
        """Take it all, and return when it is safe.

        Raises:
            CommandError: it can't be written.
        """


class Directory:
    """An archive that is unpacked into a directory, which is made where missing."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, pieces: Iterator[bytes]) -> None:
        """Unpack."""
        try:
            os.makedirs(self._path, exist_ok=True)
        except OSError as error:
            raise CommandError(f"failed to create output directory {self._path}: {(error.strerror or '').lower()}") from error
        unpack(Pieces(pieces), Plan(self._path))


class File:
    """An archive that is kept as it is, in a file that appears when it is whole."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, pieces: Iterator[bytes]) -> None:
        """Write it."""
        write_file(self._path, pieces, "failed to write output")


class StandardOutput:
    """An archive on standard output."""

    def write(self, pieces: Iterator[bytes]) -> None:
        """Write it."""
        for piece in pieces:
            rest = piece
            while rest:
                rest = rest[os.write(1, rest) :]


def receiver_of(output: Output) -> Receiver | None:
    """Where an output goes; None for one that stays with the daemon.

    Raises:
        CommandError: its destination is a directory where a file is needed, or the other way round.
    """
    if not output.destination:
        return None
    if output.kind == "local":
        if os.path.exists(output.destination) and not os.path.isdir(output.destination):
            raise CommandError(f"destination {output.destination} is not a directory")
        return Directory(output.destination)
    if output.destination == "-":
        return StandardOutput()
    if os.path.isdir(output.destination):
        raise CommandError(f"destination file {output.destination} is a directory")
    return File(output.destination)
