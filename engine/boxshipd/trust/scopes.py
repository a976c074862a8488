"""Scopes: the parts of the name space of images that a policy speaks of.

A scope is a registry (``quay.io``, ``registry.test:5000``), all registries below a domain (``*.example.com``), a namespace
(``docker.io/library``), a repository, or one image of it by tag or digest; always written in full. The most specific one that
fits an image is the one that counts, alone.
Source: containers-policy.json(5); containers/image docker/policyconfiguration/naming.go, whose order this is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from boxshipd.errors import InvalidParameter
from boxshipd.images import reference
from boxshipd.images.reference import DEFAULT_DOMAIN, Reference

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_WILDCARD = re.compile(rf"\*(?:\.{_LABEL})+")
# Of Docker Hub's names, one component alone is a namespace; the short form of a name isn't used in policies.
_NAMESPACE = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_LONGEST = 512


def scopes_of(name: Reference) -> Iterator[str]:
    """The scopes that an image is in, the most specific first.

    One that is asked for by tag and digest is first in the tag's, then in the digest's. Hosts are compared in lower case, and
    one with HTTPS' own port is also the one without: else another way to write a registry would be a way around its scope.
    """
    host = name.domain.lower()
    for domain in (host, host.removesuffix(":443")) if host.endswith(":443") else (host,):
        repository = f"{domain}/{name.path}"
        if name.tag:
            yield f"{repository}:{name.tag}"
        if name.digest:
            yield f"{repository}@{name.digest}"
        yield repository
        for parents in range(name.path.count("/") + 1):
            yield repository.rsplit("/", parents + 1)[0]
    if not host.startswith("["):
        host = host.partition(":")[0]
        while "." in host:
            host = host.partition(".")[2]
            yield f"*.{host}"


def check_scope(scope: str) -> None:
    """Refuse what no image's name is ever looked up as: a scope that never fits would protect nothing, silently.

    Raises:
        InvalidParameter: with what is wrong.
    """
    if len(scope) > _LONGEST:
        raise InvalidParameter(f"scope of {len(scope)} characters: at most {_LONGEST}")
    if "*" in scope:
        if not _WILDCARD.fullmatch(scope):
            raise InvalidParameter(f"scope {scope!r}: a wildcard stands for all below a domain, as in *.example.com")
        return
    host, slash, path = scope.partition("/")
    _check_host(scope, host)
    if not slash or (host == DEFAULT_DOMAIN and _NAMESPACE.fullmatch(path)):
        return
    parsed = reference.parse(scope)
    if str(parsed) != scope:
        raise InvalidParameter(f"scope {scope!r}: names are written in full, as {str(parsed)!r}")


def check_prefix(text: str) -> None:
    """Refuse what can't be a registry, a namespace or a repository.

    Raises:
        InvalidParameter: with what is wrong.
    """
    check_scope(text)
    if "*" in text or "@" in text or ":" in text.partition("/")[2]:
        raise InvalidParameter(f"prefix {text!r}: it must be a registry, a namespace or a repository, without tag or digest")


def _check_host(scope: str, host: str) -> None:
    if not _HOST.fullmatch(host):
        raise InvalidParameter(f"scope {scope!r}: {host!r} is no registry's host")
    if host.lower() != host:
        raise InvalidParameter(f"scope {scope!r}: hosts are written in lower case")
    if host == "index.docker.io":
        raise InvalidParameter(f"scope {scope!r}: Docker Hub is written docker.io")
    # As names are told from hosts everywhere: see reference.parse.
    if host != "localhost" and "." not in host and ":" not in host:
        raise InvalidParameter(f"scope {scope!r}: names are written in full, with their registry, as docker.io/library/{host}")
