"""Owners as ``--chown`` has them: ``user[:group]``, names looked up in the file system that is changed.

A user alone has its group in passwd; a number alone is both. Source: BuildKit solver/llbsolver/file/user_linux.go; moby
builder/dockerfile/internals_linux.go for the messages.
"""

from __future__ import annotations

from collections.abc import Callable

from boxrun.container.users import FILE_LIMIT, group_named, parse_id, user_named
from boxrun.errors import StartError

from boxshipd.errors import InvalidParameter

Read = Callable[[str], bytes | None]
"""Gives a file of the file system that is changed, of a longer one only the beginning; None where it has none."""


def parse_owner(text: str, read: Read) -> tuple[int, int]:
    """The uid and gid that an owner amounts to; 0:0 for none.

    Args:
        text: the owner.
        read: gives files of the file system that is changed.

    Raises:
        InvalidParameter: it isn't one, or nobody is called so.
    """
    if not text:
        return 0, 0
    user, colon, group = text.partition(":")
    if ":" in group or (colon and not user and not group):
        raise InvalidParameter(f"invalid chown string format: {text}")
    uid, gid = _user(user, read) if user else (0, 0)
    if group:
        gid = _group(group, read)
    return uid, gid


def _user(name: str, read: Read) -> tuple[int, int]:
    number = _number(name)
    if number is not None:
        return number, number
    found = user_named(_file("/etc/passwd", read), name)
    if found is None:
        raise InvalidParameter(
            f"unable to convert uid/gid chown string to host mapping: can't find uid for user {name}: no such user: {name}"
        )
    return found


def _group(name: str, read: Read) -> int:
    number = _number(name)
    if number is not None:
        return number
    found = group_named(_file("/etc/group", read), name)
    if found is None:
        raise InvalidParameter(
            f"unable to convert uid/gid chown string to host mapping: can't find gid for group {name}: no such group: {name}"
        )
    return found


def _number(text: str) -> int | None:
    try:
        return parse_id(text)
    except StartError as error:
        raise InvalidParameter(str(error)) from None


def _file(path: str, read: Read) -> bytes:
    data = read(path) or b""
    if len(data) > FILE_LIMIT:
        raise InvalidParameter(f"{path} is longer than the {FILE_LIMIT} bytes allowed")
    return data
