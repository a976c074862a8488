"""The daemon's errors.

    DaemonError
    ├── InvalidParameter      the request can't be right, whatever the state            400
    ├── Unauthorized          credentials are missing or wrong                          401
    ├── Forbidden             not allowed here, whoever asks                            403
    ├── NotFound              the object named doesn't exist                            404
    ├── Conflict              the request doesn't fit the object's present state        409
    ├── NotImplementedHere    a feature of Docker's that this engine hasn't             501
    ├── Unavailable           a part that is needed can't be reached just now           503
    └── InternalError         something of ours or the kernel's failed                  500

Each carries Docker's message, or a clearer one, that names the operation and the object. ``boxshipd.api.errors`` alone maps
them to HTTP.
"""

from __future__ import annotations


class DaemonError(Exception):
    """The root of the daemon's errors; its text is the message a client is shown."""


class InvalidParameter(DaemonError):  # noqa: N818 - named after Docker's error kinds
    """The request can't be right, whatever the state."""


class Unauthorized(DaemonError):  # noqa: N818
    """Credentials are missing or wrong."""


class Forbidden(DaemonError):  # noqa: N818
    """Not allowed here, whoever asks."""


class NotFound(DaemonError):  # noqa: N818
    """The object named doesn't exist."""


class Conflict(DaemonError):  # noqa: N818
    """The request doesn't fit the object's present state."""


class NotImplementedHere(DaemonError):  # noqa: N818
    """A feature of Docker's that this engine hasn't."""


class Unavailable(DaemonError):  # noqa: N818
    """A part that is needed can't be reached just now."""


class InternalError(DaemonError):
    """Something of ours or the kernel's failed."""
