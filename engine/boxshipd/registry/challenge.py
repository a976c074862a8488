"""``WWW-Authenticate`` headers: which authentication a registry asks for.

Source: RFC 9110, sections 11.3 to 11.6.1 (several challenges may be in one header, each with a list of parameters);
distribution's docs/spec/auth/token.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=[\s,]|$)")
_TOKEN68 = re.compile(r" +[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)")
_PARAMETER = re.compile(rf'[\s,]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}|[^\s,"]+))[ \t]*(?=,|$)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

LENGTH_LIMIT = 16384
"""The characters of a header up to which it is read."""
_CHALLENGES = 16
_PARAMETERS = 32


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate: a scheme in lower case and its parameters, their names in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse(headers: Iterable[str]) -> list[Challenge]:
    """Read all challenges of an answer's headers. What can't be understood ends its header, never raises.

    Of a parameter given twice the first counts, so that nothing appended can change it.
    """
    found: list[Challenge] = []
    for header in headers:
        found += _parse_one(header[:LENGTH_LIMIT])
    return found[:_CHALLENGES]


def _parse_one(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while len(found) < _CHALLENGES and (scheme := _SCHEME.match(header, position)):
        position = scheme.end()
        if blob := _TOKEN68.match(header, position):
            position = blob.end()
        parameters: dict[str, str] = {}
        while len(parameters) < _PARAMETERS and (parameter := _PARAMETER.match(header, position)):
            name, quoted, plain = parameter.groups()
            value = _ESCAPED.sub(r"\1", quoted) if quoted is not None else plain
            parameters.setdefault(name.lower(), value)
            position = parameter.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return found
