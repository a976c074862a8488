"""Who the program runs as: Docker's ``user[:group]`` against the container's own passwd and group files.

The rules and the words are those of moby/sys/user, which Docker and runc use, but numbers are parsed strictly: decimal digits
only, 0 to 2147483647 (CVE-2024-40635). The files belong to the image: they are read below the root, up to a limit, and lines
that make no sense are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from errno import ENOENT, ENOTDIR
from typing import Final

from msgspec import Struct

from boxrun.container.paths import open_read
from boxrun.errors import StartError

MAX_ID: Final = (1 << 31) - 1
FILE_LIMIT: Final = 8 << 20
_DIGITS: Final = frozenset("0123456789")


class Identity(Struct, frozen=True):
    """The resolved user: numbers, supplementary groups, home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def parse_id(text: str) -> int | None:
    """Return the id that ``text`` is in decimal digits, or None where it is no number.

    Raises:
        StartError: it is a number beyond what Docker allows.
    """
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not digits or not _DIGITS.issuperset(digits):
        return None
    # Long runs of digits are out of range whatever they are worth.
    if text[0] in "-+" or len(digits) > 10 or int(digits) > MAX_ID:
        raise StartError("user", 0, f"uids and gids must be in range 0-{MAX_ID}")
    return int(digits)


def resolve(root_fd: int, user: str, extra_groups: Sequence[str] = ()) -> Identity:
    """Return the identity that ``user`` (``name|uid[:group|gid]``, empty for root) and ``extra_groups`` amount to.

    Raises:
        StartError: a name has no entry, a number is out of range, or a file is too large.
    """
    user_part, colon, group_part = user.partition(":")
    if colon and not group_part and not user_part:
        raise StartError("user", 0, f"invalid user specification: {user!r}")
    uid = parse_id(user_part) if user_part else 0
    gid_wanted = parse_id(group_part) if group_part else None
    passwd = _read(root_fd, "/etc/passwd")
    entry = _find_user(passwd, user_part, uid)
    if entry is not None:
        name, uid, gid, home = entry
    elif uid is None:
        raise StartError("user", 0, f"unable to find user {user_part}: no matching entries in passwd file")
    else:
        name, gid, home = user_part, 0, "/"
    groups_file = _read(root_fd, "/etc/group") if group_part or extra_groups or entry is not None else b""
    supplementary: list[int] = []
    if group_part:
        found = _find_group(groups_file, group_part, gid_wanted)
        if found is None and gid_wanted is None:
            raise StartError("user", 0, f"unable to find group {group_part}: no matching entries in group file")
        gid = found if found is not None else gid_wanted if gid_wanted is not None else gid
    elif entry is not None:
        supplementary = [group for _, group, members in _groups(groups_file) if name in members]
    for extra in extra_groups:
        number = parse_id(extra)
        found = _find_group(groups_file, extra, number)
        if found is None:
            if number is None:
                raise StartError("user", 0, f"unable to find group {extra}: no matching entries in group file")
            found = number
        supplementary.append(found)
    return Identity(uid, gid, tuple(dict.fromkeys((gid, *supplementary))), home)


def user_named(passwd: bytes, name: str) -> tuple[int, int] | None:
    """Return the uid and gid that a passwd file has for a name."""
    entry = _find_user(passwd, name, None)
    return None if entry is None else entry[1:3]


def group_named(group: bytes, name: str) -> int | None:
    """Return the gid that a group file has for a name."""
    return _find_group(group, name, None)


def _read(root_fd: int, path: str) -> bytes:
    """Return the file's content, empty where there is none."""
    try:
        fd = open_read(root_fd, path)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return b""
        raise StartError("user", error.errno or 0, f"open {path}: {(error.strerror or '').lower()}") from error
    try:
        size = os.fstat(fd).st_size
        if size > FILE_LIMIT:
            raise StartError("user", 0, f"{path} is {size} bytes long, more than the {FILE_LIMIT} allowed")
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)


def _lines(content: bytes) -> Iterator[list[str]]:
    for line in content.split(b"\n"):
        stripped = line.strip()
        if stripped and stripped[:1] != b"#":
            yield stripped.decode(errors="surrogateescape").split(":")


def _number(text: str) -> int | None:
    """Return a number of a file's line; anything but a sound id makes the line worthless."""
    if not text or len(text) > 10 or not _DIGITS.issuperset(text):
        return None
    value = int(text)
    return value if value <= MAX_ID else None


def _find_user(content: bytes, wanted: str, uid: int | None) -> tuple[str, int, int, str] | None:
    """Return name, uid, gid and home of the first entry with the wanted name, or with ``uid`` where that is a number."""
    for fields in _lines(content):
        if len(fields) < 4:
            continue
        found_uid, found_gid = _number(fields[2]), _number(fields[3])
        if found_uid is None or found_gid is None:
            continue
        if fields[0] == wanted or (uid is not None and found_uid == uid):
            home = fields[5] if len(fields) > 5 else ""
            return fields[0], found_uid, found_gid, home
    return None


def _groups(content: bytes) -> Iterator[tuple[str, int, list[str]]]:
    for fields in _lines(content):
        if len(fields) < 3:
            continue
        gid = _number(fields[2])
        if gid is not None:
            yield fields[0], gid, fields[3].split(",") if len(fields) > 3 else []


def _find_group(content: bytes, wanted: str, gid: int | None) -> int | None:
    for name, found, _ in _groups(content):
        if name == wanted or (gid is not None and found == gid):
            return found
    return None
