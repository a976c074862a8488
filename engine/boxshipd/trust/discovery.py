"""Where signatures are: all that a registry has for an image, within bounds.

Looked for in this order, each only if nothing before was enough:

1. the tag ``sha256-<hex>.sig``, whose manifest has a signature per layer (cosign before 3, skopeo);
2. the referrers of the image (OCI 1.1), and where a registry doesn't know of these, the index of the tag ``sha256-<hex>``,
   which clients keep in their place (cosign 3, and earlier ones with ``--registry-referrers-mode``).

A registry, or whoever may push to it, can always hide signatures, and so have an image refused. It can't have one accepted, and
can't make us read without end.
Source: cosign specs/SIGNATURE_SPEC.md, pkg/oci/remote/write.go; OCI distribution specification 1.1, "Listing Referrers" and
"Unavailable Referrers API".
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator

from msgspec import Struct

from boxshipd.errors import InvalidParameter
from boxshipd.images.digest import Digest, parse_digest
from boxshipd.images.errors import HostileOrBroken
from boxshipd.trust.bundle import BUNDLE_LIMIT
from boxshipd.trust.documents import (
    BUNDLE_TYPES,
    COSIGN_ARTIFACT,
    DOCUMENT_LIMIT,
    SIGNATURE_KEY,
    SIMPLE_SIGNING,
    Descriptor,
    SignatureManifest,
    checked_digest,
    read_index,
    read_manifest,
)
from boxshipd.trust.errors import BadSignature
from boxshipd.trust.payload import PAYLOAD_LIMIT
from boxshipd.trust.repository import Repository, Served

SIGNATURE_LIMIT = 128
"""Signatures of one image that are looked at."""
_REFERRER_LIMIT = 64
"""Manifests that refer to one image and are looked at."""
_LISTED_LIMIT = 2000
"""Manifests that refer to one image and are listed."""
_PAGE_LIMIT = 20
_EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"


class Candidate(Struct, frozen=True):
    """A signature that was found, not yet verified.

    Attributes:
        where: the tag or digest it was found at, for messages.
        data: the payload or the bundle.
        signature: of a payload, in base64; None with a bundle, which has its own.
    """

    where: str
    data: bytes
    signature: str | None


class Search:
    """The search for the signatures of one manifest.

    Attributes:
        problems: what was found and is no signature, and why; filled on the way.
    """

    def __init__(self, repository: Repository, subject: str) -> None:
        self._repository = repository
        self._subject = subject
        self._left = SIGNATURE_LIMIT
        self._blobs: dict[str, bytes] = {}
        self.problems: list[str] = []

    async def candidates(self) -> AsyncGenerator[Candidate, None]:
        """All signatures there are, the likeliest first.

        Raises:
            DaemonError: the registry can't be asked.
        """
        async with contextlib.aclosing(self._tagged()) as tagged:
            async for candidate in tagged:
                yield candidate
        async with contextlib.aclosing(self._referring()) as referring:
            async for candidate in referring:
                yield candidate

    async def _tagged(self) -> AsyncGenerator[Candidate, None]:
        tag = f"{self._subject.replace(':', '-')}.sig"
        try:
            served = await self._manifest(tag)
            if served is None:
                return
            manifest = await asyncio.to_thread(read_manifest, served.data, served.media_type)
        except BadSignature as error:
            self.problems.append(f"{tag}: {error}")
            return
        async with contextlib.aclosing(self._in_layers(tag, manifest)) as layers:
            async for candidate in layers:
                yield candidate

    async def _referring(self) -> AsyncGenerator[Candidate, None]:
        async with contextlib.aclosing(self._referrers()) as manifests:
            async for where, manifest in manifests:
                async with contextlib.aclosing(self._in_layers(where, manifest)) as layers:
                    async for candidate in layers:
                        yield candidate

    async def _referrers(self) -> AsyncGenerator[tuple[str, SignatureManifest], None]:
        """The manifests of signatures that refer to the image, each with its digest."""
        seen: set[str] = set()
        async with contextlib.aclosing(self._listed()) as listed:
            async for descriptor in listed:
                if descriptor.digest in seen or not _may_be_signature(descriptor):
                    continue
                if len(seen) == _REFERRER_LIMIT:
                    self.problems.append(f"more than {_REFERRER_LIMIT} referrers; the rest was not looked at")
                    return
                seen.add(descriptor.digest)
                try:
                    manifest = await self._referrer(descriptor)
                except BadSignature as error:
                    self.problems.append(f"{descriptor.digest[:80]}: {error}")
                    continue
                if manifest is not None:
                    yield descriptor.digest, manifest

    async def _listed(self) -> AsyncGenerator[Descriptor, None]:
        """What refers to the image, by the registry's own list, or by the one that clients keep under a tag."""
        pages = listed = 0
        async with contextlib.aclosing(self._repository.referrers(self._subject)) as lists:
            async for served in lists:
                pages += 1
                for descriptor in await self._entries("referrers", served):
                    listed += 1
                    yield descriptor
                if pages >= _PAGE_LIMIT or listed >= _LISTED_LIMIT:
                    self.problems.append("the list of referrers is too long; the rest was not looked at")
                    return
        if pages:
            return
        tag = self._subject.replace(":", "-")
        try:
            kept = await self._manifest(tag)
        except BadSignature as error:
            self.problems.append(f"{tag}: {error}")
            return
        for descriptor in await self._entries(tag, kept) if kept is not None else ():
            yield descriptor

    async def _entries(self, where: str, served: Served) -> list[Descriptor]:
        try:
            entries = (await asyncio.to_thread(read_index, served.data, served.media_type)).manifests
        except BadSignature as error:
            self.problems.append(f"{where}: {error}")
            return []
        if len(entries) > _LISTED_LIMIT:
            self.problems.append(f"{where}: {len(entries)} entries; only {_LISTED_LIMIT} were looked at")
        return entries[:_LISTED_LIMIT]

    async def _referrer(self, descriptor: Descriptor) -> SignatureManifest | None:
        """The manifest of a referrer; None if it turns out to be something else than a signature.

        Raises:
            BadSignature: it isn't what was announced, or refers to another image.
        """
        digest = checked_digest(descriptor)
        if descriptor.size > DOCUMENT_LIMIT:
            raise BadSignature(f"a manifest of {descriptor.size} bytes: at most {DOCUMENT_LIMIT}")
        served = await self._manifest(descriptor.digest)
        if served is None:
            raise BadSignature("the registry lists it and hasn't it")
        _check_content(served.data, digest, descriptor.size)
        manifest = await asyncio.to_thread(read_manifest, served.data, served.media_type)
        if manifest.subject is None or manifest.subject.digest != self._subject:
            raise BadSignature("it refers to another image than it is listed for")
        kind = manifest.artifact_type or manifest.config.media_type
        return manifest if kind == COSIGN_ARTIFACT or BUNDLE_TYPES.fullmatch(kind) else None

    async def _in_layers(self, where: str, manifest: SignatureManifest) -> AsyncGenerator[Candidate, None]:
        others = 0
        for layer in manifest.layers:
            bundle = BUNDLE_TYPES.fullmatch(layer.media_type) is not None
            signature = None if bundle else (layer.annotations or {}).get(SIGNATURE_KEY)
            if not bundle and layer.media_type != SIMPLE_SIGNING:
                others += 1
                continue
            if self._left == 0:
                self.problems.append(f"more than {SIGNATURE_LIMIT} signatures; the rest was not looked at")
                return
            self._left -= 1
            try:
                if signature is None and not bundle:
                    raise BadSignature(f"a layer without the annotation {SIGNATURE_KEY}")
                data = await self._layer(layer, BUNDLE_LIMIT if bundle else PAYLOAD_LIMIT)
            except BadSignature as error:
                self.problems.append(f"{where}: {error}")
                continue
            yield Candidate(where, data, signature)
        if others:
            self.problems.append(f"{where}: {others} layers that are no signatures")

    async def _manifest(self, name: str) -> Served | None:
        """The document of a tag or digest.

        Raises:
            BadSignature: it can't be used.
        """
        try:
            return await self._repository.manifest(name)
        except HostileOrBroken as error:
            raise BadSignature(str(error)) from error

    async def _layer(self, layer: Descriptor, limit: int) -> bytes:
        """A layer's blob, verified."""
        digest = checked_digest(layer)
        if layer.size > limit:
            raise BadSignature(f"a signature of {layer.size} bytes: at most {limit}")
        if layer.digest in self._blobs:
            data = self._blobs[layer.digest]
        else:
            try:
                fetched = await self._repository.blob(layer.digest, layer.size)
            except HostileOrBroken as error:
                raise BadSignature(str(error)) from error
            if fetched is None:
                raise BadSignature(f"the registry hasn't its blob {layer.digest}")
            data = fetched
        _check_content(data, digest, layer.size)
        if limit == PAYLOAD_LIMIT:
            # Many signatures are often of one payload; of a bundle there is one, and it is larger.
            self._blobs[layer.digest] = data
        return data


def subject_of(manifest: bytes, digest: str) -> str:
    """The digest that signatures of a manifest are found under, after making sure that ``digest`` is the manifest's.

    Signers use SHA-256, whatever an image was asked for by.

    Raises:
        InvalidParameter: it isn't the manifest's digest.
    """
    expected = parse_digest(digest)
    if hashlib.new(expected.algorithm, manifest).hexdigest() != expected.hex:
        raise InvalidParameter(f"content doesn't have the digest {digest}")
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def _may_be_signature(descriptor: Descriptor) -> bool:
    """Whether a listed manifest is worth a look. Clients that keep the list themselves often don't tell the type well."""
    kind = descriptor.artifact_type
    return kind in ("", _EMPTY_CONFIG, COSIGN_ARTIFACT) or BUNDLE_TYPES.fullmatch(kind) is not None


def _check_content(data: bytes, digest: Digest, size: int) -> None:
    if len(data) != size:
        raise BadSignature(f"{digest} has {len(data)} bytes, not {size} as announced")
    if hashlib.new(digest.algorithm, data).hexdigest() != digest.hex:
        raise BadSignature(f"content doesn't have the digest {digest} under which it was served")
