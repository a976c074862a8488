"""The daemon's memory of execs: a file beside the runtime's socket, to which a line is added for whatever changes.

An exec ends with its container, and a container with the machine: no line has to outlive more than the daemon, so none is
waited for to reach the disk.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from boxshipd.execs.model import ExecConfig

log = logging.getLogger(__name__)

COMPACT_AT = 4096
"""Lines from which on the file is written anew, with those that still count."""


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line: an exec that was created, one that has ended (with its exit code), or one that is forgotten."""

    id: str
    created: ExecConfig | None = None
    exit_code: int | None = None
    forgotten: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class Journal:
    """One journal file; ``open`` it first."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._lines = 0

    def open(self) -> dict[str, tuple[ExecConfig, int | None]]:
        """Read what an earlier daemon has noted: the execs it knew, with the exit codes of those that have ended."""
        known: dict[str, tuple[ExecConfig, int | None]] = {}
        os.makedirs(os.path.dirname(self._path), 0o711, exist_ok=True)
        try:
            with open(self._path, "rb") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            lines = []
        for line in lines:
            try:
                entry = _decode(line)
            except msgspec.MsgspecError as error:
                log.warning("%s: a line that makes no sense is left out: %s", self._path, error)
                continue
            if entry.created is not None:
                known[entry.id] = (entry.created, entry.exit_code)
            elif entry.forgotten:
                known.pop(entry.id, None)
            elif entry.id in known:
                known[entry.id] = (known[entry.id][0], entry.exit_code)
        self.rewrite(Entry(id=id_, created=config, exit_code=code) for id_, (config, code) in known.items())
        return known

    @property
    def lines(self) -> int:
        """How many lines the file has."""
        return self._lines

    def append(self, entry: Entry) -> None:
        """Add a line.

        Raises:
            OSError: the file system refuses.
        """
        data = _encode(entry) + b"\n"
        written = os.write(self._fd, data)
        if written != len(data):
            # The rest of a torn line must not become the beginning of the next.
            os.write(self._fd, b"\n")
            raise OSError(28, os.strerror(28), self._path)
        self._lines += 1

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Replace the file by ``entries``."""
        lines = [_encode(entry) for entry in entries]
        temporary = f"{self._path}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(b"".join(line + b"\n" for line in lines))
            while view:
                view = view[os.write(fd, view) :]
            os.rename(temporary, self._path)
        except BaseException:
            os.close(fd)
            raise
        self.close()
        self._fd, self._lines = fd, len(lines)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Close and remove the file: nothing is left that it could tell of."""
        self.close()
        for path in (self._path, f"{self._path}.new"):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
