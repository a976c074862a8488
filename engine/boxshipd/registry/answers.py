"""What a registry says when it says no.

Source: OCI distribution specification 1.1, "Error Codes"; distribution registry/client/errors.go.
"""

from __future__ import annotations

import contextlib
import re

import msgspec
from aiohttp import ClientResponse
from msgspec import Struct

from boxshipd.registry import challenge
from boxshipd.registry.errors import Absent, AccessDenied, BadAnswer, Refused, RegistryBusy
from boxshipd.registry.timing import retry_after
from boxshipd.registry.transport import read_bounded

_BODY_LIMIT = 64 << 10
_TEXT_LIMIT = 500
_DENIED = "denied: requested access to the resource is denied"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class _Error(Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Errors(Struct, frozen=True):
    errors: list[_Error] = []
    # Token servers answer with one of these.
    details: str = ""
    message: str = ""
    error: str = ""


async def refusal(response: ClientResponse, what: str) -> Refused:
    """The error that an answer means.

    Args:
        response: the answer; its body is read.
        what: what was asked for, for where the registry itself gives no reason.
    """
    code, text = await _reason(response)
    status = response.status
    if status == 401 and _insufficient(response):
        code, text = "DENIED", text if code == "DENIED" else _DENIED
    if not text and status in (401, 403):
        text = "unauthorized: authentication required" if status == 401 else _DENIED
    if not text:
        text = f"{what}: received unexpected HTTP status: {response.status} {response.reason}"
    if status == 429 or status >= 500:
        if status == 429:
            text = f"toomanyrequests: {text.removeprefix('toomanyrequests: ')}"
        return RegistryBusy(text, status, code, retry_after(response.headers.get("Retry-After", "")))
    if status in (401, 403) or code in ("DENIED", "UNAUTHORIZED"):
        return AccessDenied(text, status, code)
    if status == 404:
        return Absent(text, status, code)
    return Refused(text, status, code)


def _insufficient(response: ClientResponse) -> bool:
    """Whether somebody is known and isn't allowed what was asked for. Source: RFC 6750, section 3.1."""
    asked = challenge.parse(response.headers.getall("WWW-Authenticate", ()))
    return any(entry.scheme == "bearer" and entry.parameters.get("error") == "insufficient_scope" for entry in asked)


async def _reason(response: ClientResponse) -> tuple[str, str]:
    """The code and the text of the first error in a body, as Docker writes them."""
    body = b""
    with contextlib.suppress(BadAnswer):
        body = await read_bounded(response, _BODY_LIMIT, "error")
    try:
        said = msgspec.json.decode(body, type=_Errors)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "", ""
    if said.errors:
        first = said.errors[0]
        code = printable(first.code)
        return code, f"{code.lower().replace('_', ' ')}: {printable(first.message) or 'unknown error'}"
    return "", printable(said.details or said.message or said.error)


def printable(text: str) -> str:
    """A registry's text, fit for a terminal and a log."""
    return _UNPRINTABLE.sub(" ", text)[:_TEXT_LIMIT]
