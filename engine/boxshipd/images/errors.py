"""What is wrong with content that came from outside.

    InvalidParameter            (boxshipd.errors)
    └── HostileOrBroken         content can't be used as it is
        ├── InvalidArchive      a tar stream is malformed, cut short, or tries to leave its directory
        ├── LimitExceeded       it is too big, too many, or expands too much
        └── DigestMismatch      content isn't what its digest says

Each is a client's mistake (400) rather than ours, since the content is the client's.
"""

from __future__ import annotations

from boxshipd.errors import InvalidParameter


class HostileOrBroken(InvalidParameter):
    """Content can't be used as it is."""


class InvalidArchive(HostileOrBroken):
    """A tar stream is malformed, cut short, or tries to leave its directory."""


class LimitExceeded(HostileOrBroken):
    """Content is too big, too many, or expands too much."""


class DigestMismatch(HostileOrBroken):
    """Content isn't what its digest says."""
