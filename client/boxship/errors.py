"""The client's errors.

BoxshipError
├── DaemonUnreachable         nobody answers at the daemon's address
├── ProtocolError             the peer broke HTTP's or websocket's rules, or hung up in the middle
├── APIError                  the daemon refused: carries the HTTP status and the daemon's message
│   ├── BadRequest            400
│   ├── Unauthorized          401
│   ├── Forbidden             403
│   ├── NotFound              404
│   ├── Conflict              409
│   ├── NotImplementedByDaemon 501
│   ├── Unavailable           503
│   └── ServerError           any other 5xx
├── StreamError               the daemon reported a failure inside a stream of progress messages
├── InvalidAddress            a daemon's address can't be understood
├── InvalidReference          an image's name can't be understood
├── InvalidConfig             the client's configuration file can't be read, understood or written
├── CredentialError           a program that keeps registry accounts failed
├── TransferError             what arrived at another daemon isn't what was sent
├── InvalidValue              a size, duration, time or other value can't be understood
├── TemplateError             a --format template can't be parsed or evaluated
└── CommandError              a command can't do what it was asked; carries the exit status
    └── UsageError            its flags or arguments are wrong
"""

from __future__ import annotations


class BoxshipError(Exception):
    """The root of the client's errors; its text is what a person should read."""


class DaemonUnreachable(BoxshipError):  # noqa: N818 - named after the condition
    """Nobody answers at the daemon's address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"Cannot connect to the Boxship daemon at {address}. Is boxshipd running? ({reason})")
        self.address = address
        self.reason = reason


class ProtocolError(BoxshipError):
    """The peer broke HTTP's or websocket's rules, or hung up in the middle."""


class APIError(BoxshipError):
    """The daemon refused a request.

    Args:
        status: the HTTP status.
        message: the daemon's message.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class BadRequest(APIError):  # noqa: N818
    """The request can't be right, whatever the state (400)."""


class Unauthorized(APIError):  # noqa: N818
    """Credentials are missing or wrong (401)."""


class Forbidden(APIError):  # noqa: N818
    """Not allowed (403)."""


class NotFound(APIError):  # noqa: N818
    """The object named doesn't exist (404)."""


class Conflict(APIError):  # noqa: N818
    """The request doesn't fit the object's present state (409)."""


class NotImplementedByDaemon(APIError):  # noqa: N818
    """The daemon hasn't this feature (501)."""


class Unavailable(APIError):  # noqa: N818
    """Something the daemon needs can't be reached just now (503)."""


class ServerError(APIError):
    """The daemon failed."""


class StreamError(BoxshipError):
    """The daemon reported a failure inside a stream of progress messages."""


class InvalidAddress(BoxshipError):  # noqa: N818
    """A daemon's address can't be understood."""


class InvalidValue(BoxshipError):  # noqa: N818
    """A size, duration, time or other value can't be understood."""


class InvalidReference(BoxshipError):  # noqa: N818
    """An image's name can't be understood."""


class InvalidConfig(BoxshipError):  # noqa: N818
    """The client's configuration file can't be read, understood or written."""


class CredentialError(BoxshipError):
    """A program that keeps registry accounts failed."""


class TransferError(BoxshipError):
    """What arrived at another daemon isn't what was sent."""


class TemplateError(BoxshipError):
    """A ``--format`` template can't be parsed or evaluated."""


class CommandError(BoxshipError):
    """A command can't do what it was asked.

    Args:
        message: what to print; nothing is printed where it is empty.
        status: the program's exit status.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class UsageError(CommandError):
    """A command's flags or arguments are wrong."""


class Terminated(BaseException):
    """A signal is to end the program once the terminal is restored. Not an error, and not caught with them.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


_BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    501: NotImplementedByDaemon,
    503: Unavailable,
}


def api_error(status: int, message: str) -> APIError:
    """The error for an HTTP status of 400 or above."""
    return _BY_STATUS.get(status, ServerError if status >= 500 else APIError)(status, message)
