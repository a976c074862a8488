"""What can be wrong with a registry.

    DaemonError                     (boxshipd.errors)
    └── RegistryError               a registry can't be used as it was asked for                     500
        ├── Unreachable             no connection, no TLS, a cut or a stalled transfer               500
        ├── BadAnswer               an answer that breaks the protocol or a bound                    500
        ├── Refused                 a status that says no; carries the registry's code and text      500
        │   ├── RegistryBusy        429 or 5xx: the same request may succeed later                   500
        │   ├── AccessDenied        credentials are missing, wrong or not enough                     500
        │   └── Absent              the registry has no such thing                                   404
        └── LoginFailed             what ``docker login`` is told                                    401
    InvalidParameter
    └── HostileOrBroken             (boxshipd.images.errors)
        └── BadDocument             a manifest or an index that can't be used                        400

The statuses are those that dockerd answers with, whose client would ask for a password at a 401.
Source: moby daemon/internal/distribution/errors.go (``translatePullError``), distribution registry/api/errcode.
"""

from __future__ import annotations

from boxshipd.errors import InternalError, NotFound, Unauthorized
from boxshipd.images.errors import HostileOrBroken


class RegistryError(InternalError):
    """A registry can't be used as it was asked for."""


class Unreachable(RegistryError):  # noqa: N818 - an outcome, named as one
    """No connection, no TLS, a cut or a stalled transfer.

    Attributes:
        fatal: trying again at once is of no use, as nobody listens there or the certificate isn't trusted.
        plain: the other end doesn't speak TLS, or nobody listens: an insecure registry may be there in plain HTTP.
    """

    def __init__(self, message: str, *, fatal: bool = False, plain: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal
        self.plain = plain


class BadAnswer(RegistryError):  # noqa: N818 - an outcome, named as one
    """An answer that breaks the protocol or a bound."""


class Refused(RegistryError):  # noqa: N818 - an outcome, named as one
    """A status that says no.

    Attributes:
        status: of HTTP.
        code: the registry's name for the error, as ``MANIFEST_UNKNOWN``; empty where it gave none.
    """

    def __init__(self, message: str, status: int, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class RegistryBusy(Refused):
    """429 or 5xx. ``retry_after`` is what the registry asks to wait for, in seconds, or None."""

    def __init__(self, message: str, status: int, code: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, status, code)
        self.retry_after = retry_after


class AccessDenied(Refused):
    """Credentials are missing, wrong or not enough."""


class Absent(Refused, NotFound):
    """The registry has no such thing."""


class LoginFailed(RegistryError, Unauthorized):  # noqa: N818
    """What ``docker login`` is told."""


class BadDocument(HostileOrBroken):
    """A manifest or an index that can't be used."""
