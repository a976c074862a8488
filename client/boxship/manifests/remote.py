"""Manifests at registries, reached through the daemon: it knows mirrors, proxies, authorities and which registry may be plain.

Source: the operations ``GET`` and ``PUT /distribution/{name}/manifest``, which are extensions of ours; DistributionInspect.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from boxship.api import API
from boxship.errors import CommandError, NotFound
from boxship.http.target import quote
from boxship.manifests.model import LISTS, Manifest, build_list
from boxship.references import Reference

_Headers = list[tuple[str, str]]


def fetch(api: API, reference: Reference, headers: _Headers) -> Manifest | None:
    """A manifest as the registry has it, with the platform its image is for; None where there is none.

    Args:
        api: the daemon.
        reference: which one.
        headers: who is asking.

    Raises:
        APIError: the daemon or the registry refused.
        CommandError: what came isn't what was asked for.
    """
    manifest = _fetch(api, reference, headers)
    if manifest is None or manifest.is_list:
        return manifest
    with api.open("GET", _path(reference, "json"), headers=headers) as response:
        platforms = json.loads(response.read()).get("Platforms") or [{}]
    return manifest.annotated(platforms[0])


def fetch_members(api: API, whole: Manifest, headers: _Headers) -> list[Manifest]:
    """The manifests of a list, each with the platform that the list gives it.

    Args:
        api: the daemon.
        whole: the list.
        headers: who is asking.

    Raises:
        APIError: the daemon or the registry refused.
        CommandError: a manifest is missing or isn't what the list says.
    """
    members = []
    for entry in json.loads(whole.raw).get("manifests") or ():
        reference = whole.reference._replace(digest=str(entry["digest"]))
        member = _fetch(api, reference, headers)
        if member is None:
            raise CommandError(f"no such manifest: {reference}")
        members.append(member.annotated(entry.get("platform") or {}))
    return members


def put_list(api: API, members: list[Manifest], target: Reference, headers: _Headers) -> str:
    """Put a list of manifests under a name at its registry.

    Args:
        api: the daemon.
        members: what it lists; what is in other repositories of the registry is taken over from there.
        target: its name there.
        headers: who is asking.

    Returns:
        Its digest.

    Raises:
        APIError: the daemon or the registry refused.
        CommandError: a member is at another registry, or the registry has something else under that name now.
    """
    media_type, raw = build_list(members, target)
    digest = f"sha256:{sha256(raw).hexdigest()}"
    foreign = [member.reference._replace(tag="", digest=member.digest) for member in members]
    query = {"source": [source.familiar for source in foreign if source.name != target.name]}
    fields = [("Content-Type", media_type), *headers]
    with api.open("PUT", _path(target, "manifest"), query, raw, fields) as response:
        response.read()
        stored = response.headers.get("docker-content-digest", digest)
    if stored != digest:
        raise CommandError(f"{target} was stored as {stored}, not as {digest}")
    return digest


def _fetch(api: API, reference: Reference, headers: _Headers) -> Manifest | None:
    try:
        with api.open("GET", _path(reference, "manifest"), headers=headers) as response:
            media_type, raw = response.headers.get("content-type", ""), response.read()
    except NotFound as error:
        if "page not found" in str(error):
            raise CommandError("this daemon can't show manifests: it is another maker's") from error
        return None
    manifest = Manifest(reference, media_type.partition(";")[0], raw, {})
    if reference.digest and reference.digest != manifest.digest:
        raise CommandError(f"manifest verification failed for digest {reference.digest}")
    document: Any = json.loads(raw)
    if not isinstance(document, dict) or ("manifests" in document) != (manifest.media_type in LISTS):
        raise CommandError(f"{reference} is not a manifest")
    return manifest


def _path(reference: Reference, what: str) -> str:
    return f"/distribution/{quote(reference.familiar, '/:@')}/{what}"
