"""Repositories as ADD, build contexts and ``--build-context`` name them.

    https://host/team/project.git#branch:directory
    https://host/team/project.git?branch=main&subdir=directory&checksum=1a2b3c
    git@host:team/project.git        ssh://git@host/project        git://host/project

Source: BuildKit frontend/dockerfile/dfgitutil/git_ref.go, util/gitutil/git_url.go, whose rules and messages these are.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from boxship.booleans import parse_boolean
from msgspec import Struct
from msgspec.structs import replace

from boxshipd.builder.graph import GitSource
from boxshipd.errors import InvalidParameter

_SCHEMES = ("http", "https", "ssh", "git")
_SCP = re.compile(r"(?P<remote>[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?", re.DOTALL)
_SWITCHES = ("keep-git-dir", "submodules")


class GitReference(Struct, frozen=True):
    """A repository. ``keep_git_dir`` is None where the reference says nothing of it."""

    source: GitSource
    keep_git_dir: bool | None = None


def parse_git(text: str) -> GitReference | None:
    """Read a repository's reference; None for what is none, such as a path, or a URL of a file.

    Raises:
        InvalidParameter: it is one, but what it asks for isn't to be had.
    """
    if match := _SCP.fullmatch(text):
        return _reference(match["remote"], match["query"] or "", match["fragment"] or "")
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    if "://" not in text or parts.scheme not in _SCHEMES or not parts.netloc:
        return None
    if parts.scheme.startswith("http") and not parts.path.endswith(".git"):
        return None
    return _reference(f"{parts.scheme}://{parts.netloc}{parts.path}", parts.query, parts.fragment)


def parse_git_context(text: str) -> GitReference | None:
    """Read a build context's reference: ``github.com/team/project`` is a repository too, as it has been of old.

    Raises:
        InvalidParameter: as for ``parse_git``.
    """
    if not text.startswith("github.com/"):
        return parse_git(text)
    parts = urlsplit(f"https://{text}")
    return _reference(f"https://{parts.netloc}{parts.path}", parts.query, parts.fragment)


def _reference(remote: str, query: str, fragment: str) -> GitReference:
    ref, _, directory = fragment.partition(":")
    found = GitReference(GitSource(remote=remote, ref=ref, directory=directory))
    return _with_query(found, query) if query else found


def _with_query(found: GitReference, query: str) -> GitReference:
    said = _query(query)
    source, keep = found.source, said.get("keep-git-dir")
    source = replace(source, submodules=_switch("submodules", said.get("submodules", "true")))
    source = replace(source, directory=_agreed("subdir", source.directory, said.get("subdir", "")))
    source = replace(source, ref=_agreed("ref", source.ref, said.get("ref", "")))
    if "tag" in said and "branch" in said:
        raise InvalidParameter("branch conflicts with tag")
    for kind, prefix in (("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if wanted := said.get(kind, ""):
            source = replace(source, ref=_agreed("ref", source.ref, wanted if wanted.startswith(prefix) else prefix + wanted))
    checksum = said.get("checksum") or said.get("commit") or ""
    source = replace(source, checksum=checksum, ref=source.ref or checksum)
    return GitReference(source, None if keep is None else _switch("keep-git-dir", keep))


def _query(query: str) -> dict[str, str]:
    """A query's values; each may be there once."""
    said: dict[str, str] = {}
    for key, values in parse_qs(query, keep_blank_values=True).items():
        if key not in (*_SWITCHES, "ref", "tag", "branch", "subdir", "checksum", "commit"):
            raise InvalidParameter(f'unexpected query "{key}"')
        if len(values) > 1:
            raise InvalidParameter(f'query "{key}" has multiple values')
        if not values[0] and key not in _SWITCHES:
            raise InvalidParameter(f'query "{key}" has no value')
        said[key] = values[0] or "true"
    return said


def _switch(key: str, value: str) -> bool:
    said = parse_boolean(value)
    if said is None:
        raise InvalidParameter(f'invalid {key} value: "{value}"')
    return said


def _agreed(what: str, one: str, other: str) -> str:
    """What two places say, if they don't contradict each other."""
    if one and other and one != other:
        raise InvalidParameter(f'{what} conflicts: "{one}" vs "{other}"')
    return one or other
