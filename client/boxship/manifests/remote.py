"""Manifests at registries, reached through the daemon: it knows mirrors, proxies, authorities and which registry may be plain.

Source: the operations ``GET`` and ``PUT /distribution/{name}/manifest``, which are extensions of ours; DistributionInspect.
"""

from __future__ import annotations

import json
from typing import Any

from boxship.api import API
from boxship.errors import CommandError, NotFound
from boxship.http.target import quote
from boxship.manifests.model import LISTS, Manifest
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


def put(api: API, reference: Reference, media_type: str, raw: bytes, headers: _Headers, *, mount: str = "") -> None:
    """Put a manifest under a name at its registry.

    Args:
        api: the daemon.
        reference: its name there.
        media_type: its form.
        raw: its bytes, which arrive as they are.
        headers: who is asking.
        mount: the repository of the same registry whose blobs it is made of, empty for its own.

    Raises:
        APIError: the daemon or the registry refused.
    """
    query = {"from": mount or None}
    with api.open("PUT", _path(reference, "manifest"), query, raw, [("Content-Type", media_type), *headers]) as response:
        response.read()


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
