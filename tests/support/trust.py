"""A repository in memory, and policies for what is in it."""

import json
from collections.abc import AsyncGenerator

from boxshipd.images import reference
from boxshipd.images.errors import LimitExceeded
from boxshipd.trust.documents import DOCUMENT_LIMIT
from boxshipd.trust.repository import Served
from boxshipd.trust.verifier import Trust, open_trust

from support.archives import digest
from support.cosign import CONFIG, INDEX, MANIFEST, Layer, Signer, payload, signature_manifest, signature_tag, signed_layer

NAME = "registry.test/team/app"
IMAGE = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": 2, "digest": digest(b"{}")},
        "layers": [],
    }
).encode()


class MemoryRepository:
    """A repository that keeps what it is given, and counts what it is asked. ``api``: whether it lists referrers itself."""

    def __init__(self, *, api: bool = False) -> None:
        self.api = api
        self.manifests: dict[str, Served] = {}
        self.blobs: dict[str, bytes] = {}
        self.pages: dict[str, list[Served]] = {}
        self.asked: list[str] = []

    async def manifest(self, reference: str) -> Served | None:
        self.asked.append(reference)
        served = self.manifests.get(reference)
        if served is not None and len(served.data) > DOCUMENT_LIMIT:
            raise LimitExceeded(f"more than {DOCUMENT_LIMIT} bytes")
        return served

    async def blob(self, digest: str, size: int) -> bytes | None:
        self.asked.append(digest)
        data = self.blobs.get(digest)
        if data is not None and len(data) > size:
            raise LimitExceeded(f"more than {size} bytes")
        return data

    async def referrers(self, digest: str) -> AsyncGenerator[Served, None]:
        self.asked.append(f"referrers of {digest}")
        for page in self.pages.get(digest, [Served(b'{"schemaVersion":2,"manifests":[]}', INDEX)] if self.api else []):
            yield page

    def put(self, tag: str, data: bytes, media_type: str = MANIFEST) -> None:
        """Keep a manifest under its digest and, if it has one, a tag."""
        for name in (tag, digest(data)):
            self.manifests[name] = Served(data, media_type)

    def put_layers(self, layers: list[Layer]) -> None:
        for layer in layers:
            self.blobs[layer.digest or digest(layer.data)] = layer.data

    def sign(self, *layers: Layer, manifest: bytes = IMAGE) -> None:
        """Keep signatures of a manifest by tag."""
        self.put_layers(list(layers))
        self.put(signature_tag(manifest), signature_manifest(list(layers)))


def policy_file(tmp_path, requirement, scope="registry.test", **more) -> str:
    path = tmp_path / "policy.json"
    requirements = requirement if isinstance(requirement, list) else [requirement]
    path.write_text(
        json.dumps({"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {scope: requirements, **more}}})
    )
    return str(path)


def signed_by(tmp_path, *signers: Signer, identity="matchRepository") -> dict[str, object]:
    """A requirement: a signature of one of the signers' keys."""
    paths = []
    for number, signer in enumerate(signers):
        path = tmp_path / f"key{number}-{signer.kind}.pub"
        path.write_bytes(signer.pem)
        paths.append(str(path))
    kind = identity if isinstance(identity, dict) else {"type": identity}
    return {"type": "sigstoreSigned", "keyPaths": paths, "signedIdentity": kind}


def trust_in(tmp_path, *signers: Signer, identity="matchRepository") -> Trust:
    return open_trust(policy_file(tmp_path, signed_by(tmp_path, *signers, identity=identity)))


async def verify(trust: Trust, repository, name=f"{NAME}:1", manifest=IMAGE, **more) -> None:
    await trust.verify(reference.parse(name), digest(manifest), manifest, repository, **more)


def honest(signer: Signer, name: str = NAME, manifest: bytes = IMAGE) -> Layer:
    """The signature that cosign would make."""
    return signed_layer(signer, payload(name, digest(manifest)))
