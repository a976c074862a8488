"""The one place where the daemon's errors become HTTP answers.

Source: Docker's ``daemon/server/httpstatus``: each kind of error has one status, the body is ``{"message": …}``.
"""

from __future__ import annotations

import logging

import msgspec
from aiohttp.web_response import Response
from boxship.types.events import ErrorResponse

from boxshipd.api.version import HEADERS
from boxshipd.errors import (
    Conflict,
    DaemonError,
    Forbidden,
    InternalError,
    InvalidParameter,
    NotFound,
    NotImplementedHere,
    Unauthorized,
    Unavailable,
)
from boxshipd.runtime.errors import StartFailed

logger = logging.getLogger(__name__)

STATUS: dict[type[DaemonError], int] = {
    InvalidParameter: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    InternalError: 500,
    NotImplementedHere: 501,
    Unavailable: 503,
}

_CLIENTS_MISTAKES = frozenset({126, 127})
"""Exit codes of programs that can't be run or don't exist: Docker blames the request for them."""


def status_of(error: BaseException) -> int:
    """The HTTP status of an error; 500 for whatever isn't one of the daemon's own."""
    if isinstance(error, StartFailed) and error.failure.exit_code in _CLIENTS_MISTAKES:
        return 400
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def error_body(message: str) -> bytes:
    """The JSON body that tells ``message``."""
    return msgspec.json.encode(ErrorResponse(message)) + b"\n"


def error_response(status: int, message: str) -> Response:
    """An answer that tells ``message``."""
    return Response(body=error_body(message), status=status, headers=HEADERS, content_type="application/json")


def response_to(error: Exception, operation: str) -> Response:
    """The answer to an operation that raised ``error``; what nobody foresaw is logged with its traceback."""
    status = status_of(error)
    if not isinstance(error, DaemonError):
        logger.error("%s failed unexpectedly", operation, exc_info=error)
        return error_response(500, f"{operation} failed: {type(error).__name__}: {error}")
    if status == 500:
        logger.error("%s failed: %s", operation, error)
    else:
        logger.debug("%s answered %d: %s", operation, status, error)
    return error_response(status, str(error))
