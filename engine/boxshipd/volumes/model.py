"""A volume's record."""

from __future__ import annotations

import msgspec
from msgspec import Struct

ANONYMOUS = "com.docker.volume.anonymous"
"""The label by which Docker's clients know a volume that got its name from the engine."""
DRIVER = "local"
"""The one driver there is."""


class Volume(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A volume, which never changes.

    Args:
        name: its name, which is its directory's too.
        created: ns since the epoch.
        labels: as given.
        options: the local driver's options ``type``, ``device`` and ``o``; empty for a directory of our own.
    """

    name: str
    created: int
    labels: dict[str, str] = {}
    options: dict[str, str] = {}

    @property
    def anonymous(self) -> bool:
        """Whether the engine made its name up."""
        return ANONYMOUS in self.labels


_decoder = msgspec.json.Decoder(Volume)
encode = msgspec.json.encode


def decode(data: bytes) -> Volume:
    """A volume out of the database."""
    return _decoder.decode(data)
