"""Pulls from Debian's registry under a policy: what is signed comes in, what isn't leaves nothing behind."""

import json
import os
import shutil
import signal
from collections.abc import Iterator

import pytest
from conftest import needs_root
from support.archives import SourceImage, digest, docker_archive, files, oci_archive, tar
from support.cosign import (
    BUNDLE,
    COSIGN_ARTIFACT,
    EMPTY,
    INDEX,
    KINDS,
    Layer,
    Signer,
    bundle,
    message_bundle,
    payload,
    referrer_manifest,
    referrers_index,
    referrers_tag,
    signature_config,
    signature_manifest,
    signature_tag,
    signed_layer,
    statement,
)
from support.daemon import Daemon, wait_until
from support.daemons import running
from support.plain_registry import PlainRegistry

pytestmark = needs_root
ACCEPT = {"type": "insecureAcceptAnything"}


@pytest.fixture(scope="module")
def strict(registry: PlainRegistry) -> Iterator[Daemon]:
    """A daemon that takes only what its policy names, each repository with rules of its own."""
    daemon = Daemon("--signature-policy", "/nowhere")
    rules = {kind: rule(daemon, Signer(kind)) for kind in KINDS}
    rules["bundles"] = rule(daemon, Signer(), "matchDigestOnly")
    rules["tagged"] = rule(daemon, Signer(), "matchRepoDigestOrExact")
    rules["mirror"] = rule(daemon, Signer(), "remapRepository", prefix=f"{registry.host}/mirror", signedPrefix="vendor.test")
    rules["both"] = [*rule(daemon, Signer()), *rule(daemon, Signer("ed25519"))]
    rules["rejected"] = [{"type": "reject"}]
    rules["open"] = [ACCEPT]
    write_policy(daemon, {"docker": {f"{registry.host}/{name}": requirements for name, requirements in rules.items()}})
    daemon.flags = ("--signature-policy", str(daemon.home / "policy.json"))
    with running(daemon):
        yield daemon


def rule(daemon: Daemon, signer: Signer, identity: str = "matchRepository", **more: str) -> list[dict[str, object]]:
    path = daemon.home / f"{signer.kind}.pub"
    path.write_bytes(signer.pem)
    return [{"type": "sigstoreSigned", "keyPath": str(path), "signedIdentity": {"type": identity, **more}}]


def write_policy(daemon: Daemon, transports: dict[str, object]) -> None:
    (daemon.home / "policy.json").write_text(json.dumps({"default": [{"type": "reject"}], "transports": transports}))


class Pushed:
    """An image in the registry, that nobody has signed yet."""

    def __init__(self, registry: PlainRegistry, repository: str, content: str, tag: str = "1") -> None:
        self.registry, self.repository, self.tag = registry, repository, tag
        self.name = f"{registry.host}/{repository}"
        source = SourceImage([files(**{content: content.encode()})], compression="gzip")
        for data in (*source.blobs, source.config_data):
            registry.put_blob(repository, data)
        self.manifest = source.manifest
        registry.put_manifest(repository, tag, self.manifest)

    @property
    def digest(self) -> str:
        return digest(self.manifest)

    def sign(self, *layers: Layer, manifest: bytes = b"") -> None:
        """Put signatures at the tag, in place of those there."""
        made = list(layers)
        tag = signature_tag(manifest or self.manifest)
        self.registry.put_layers(self.repository, made, signature_manifest(made), tag, signature_config(made))

    def refer(self, layer: Layer, artifact_type: str = BUNDLE) -> None:
        """Put a referrer, and the list that clients keep where a registry has none."""
        manifest = referrer_manifest(
            [layer], self.manifest, artifact_type, artifact_type if artifact_type == COSIGN_ARTIFACT else ""
        )
        self.registry.put_layers(self.repository, [layer], manifest, "", EMPTY)
        index = referrers_index([manifest], artifact_type)
        self.registry.put_manifest(self.repository, referrers_tag(self.manifest), index, INDEX)

    def honest(self, signer: Signer, name: str = "") -> Layer:
        return signed_layer(signer, payload(name or self.name, self.digest))


def pull(daemon: Daemon, name: str, tag: str = "1") -> tuple[int, str]:
    """Pull; the status, and what was said."""
    answer = daemon.raw(
        f"POST /images/create?fromImage={name}&tag={tag} HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def refused(daemon: Daemon, image: Pushed, reason: str) -> None:
    """Pull in vain, for a reason; nothing of the image may have come in."""
    before = content(daemon)
    status, said = pull(daemon, image.name, image.tag)
    assert (status, reason in json.loads(said)["message"]) == (403, True), said
    assert content(daemon) == before
    assert daemon.request("GET", f"/images/{image.name}:{image.tag}/json")[0] == 404


def content(daemon: Daemon) -> set[str]:
    return {name for _, _, names in os.walk(daemon.data_root / "content") for name in names}


def pulled(daemon: Daemon, image: Pushed, tag: str = "") -> None:
    status, said = pull(daemon, image.name, tag or image.tag)
    assert (status, "errorDetail" in said) == (200, False), said
    assert daemon.request("GET", f"/images/{image.name}:{tag or image.tag}/json")[0] == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_signed_image_comes_in_and_an_unsigned_one_does_not(strict, registry, kind):
    image = Pushed(registry, f"{kind}/app", f"signed-{kind}")
    refused(strict, image, "found: no signature")
    image.sign(image.honest(Signer(kind, which=1)))
    refused(strict, image, "none of the required keys made")
    image.sign(image.honest(Signer(kind)))
    pulled(strict, image)


def test_what_was_let_in_once_is_asked_about_again(strict, registry):
    """No downgrade: an attacker who removes signatures gets a refusal, even where all content is here already."""
    image = Pushed(registry, "p256/again", "again")
    image.sign(image.honest(Signer()))
    pulled(strict, image)
    image.sign(image.honest(Signer(which=1)))
    status, said = pull(strict, image.name)
    assert (status, "none of the required keys" in said) == (403, True), said
    tag = signature_tag(image.manifest)
    registry.delete_manifest(image.repository, digest(registry.manifest(image.repository, tag)))
    status, said = pull(strict, image.name)
    assert (status, "found: no signature" in said) == (403, True), said


def test_referrers(strict, registry):
    image = Pushed(registry, "p256/referred", "referred")
    image.refer(image.honest(Signer()), COSIGN_ARTIFACT)
    pulled(strict, image)


@pytest.mark.parametrize("kind", ["statement", "message"])
def test_bundles(strict, registry, kind):
    image = Pushed(registry, f"bundles/{kind}", f"bundled-{kind}")
    image.refer(Layer(bundle(Signer(), statement(image.digest, "https://slsa.dev/provenance/v1")), BUNDLE))
    refused(strict, image, "statement about the image rather than a signature")
    body = bundle(Signer(), statement(image.digest)) if kind == "statement" else message_bundle(Signer(), image.manifest)
    image.refer(Layer(body, BUNDLE))
    pulled(strict, image)


def test_a_bundle_where_a_name_is_required(strict, registry):
    image = Pushed(registry, "p256/bundle", "bundle-without-name")
    image.refer(Layer(bundle(Signer(), statement(image.digest)), BUNDLE))
    refused(strict, image, "names no image")


def test_the_tag_must_be_signed_too_where_the_policy_says_so(strict, registry):
    image = Pushed(registry, "tagged/app", "tagged")
    image.sign(image.honest(Signer()))
    refused(strict, image, "without a tag, as cosign makes them")
    image.sign(image.honest(Signer(), f"{image.name}:2"))
    refused(strict, image, f"a signature as '{image.name}:2'")
    image.sign(image.honest(Signer(), f"{image.name}:1"))
    pulled(strict, image)
    registry.put_manifest(image.repository, "latest", image.manifest)
    status, said = pull(strict, image.name, "latest")
    assert (status, f"as {image.name}:latest with the key" in said) == (403, True), said


def test_by_digest(strict, registry):
    image = Pushed(registry, "tagged/digest", "by-digest")
    image.sign(image.honest(Signer(), f"{image.name}:whatever"))
    status, said = pull(strict, f"{image.name}@{image.digest}", "")
    assert (status, "errorDetail" in said) == (200, False), said


def test_a_mirrored_vendor(strict, registry):
    image = Pushed(registry, "mirror/tool", "mirrored")
    image.sign(image.honest(Signer()))
    refused(strict, image, "requires a signature of")
    image.sign(image.honest(Signer(), "vendor.test/tool"))
    pulled(strict, image)


def test_two_signatures(strict, registry):
    image = Pushed(registry, "both/app", "both")
    image.sign(image.honest(Signer()))
    refused(strict, image, "none of the required keys made")
    image.sign(image.honest(Signer()), image.honest(Signer("ed25519")))
    pulled(strict, image)


def test_rejected_and_open_repositories(strict, registry):
    rejected = Pushed(registry, "rejected/app", "rejected")
    rejected.sign(rejected.honest(Signer()))
    refused(strict, rejected, "is rejected by the signature policy")
    refused(strict, Pushed(registry, "unknown/app", "unknown"), "(default)")
    pulled(strict, Pushed(registry, "open/app", "open"))


@pytest.mark.parametrize("signed", ["index", "manifest"])
def test_an_image_for_several_platforms(strict, registry, signed):
    image = Pushed(registry, f"p256/multi-{signed}", f"multi-{signed}")
    platform = {"os": "linux", "architecture": SourceImage([tar()]).architecture}
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.digest, "size": len(image.manifest)}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**entry, "platform": platform}]}).encode()
    registry.put_manifest(image.repository, "1", index, INDEX)
    refused(strict, image, f"requires a signature of {digest(index)} or {image.digest}")
    of = index if signed == "index" else image.manifest
    image.sign(signed_layer(Signer(), payload(image.name, digest(of))), manifest=of)
    pulled(strict, image)


# Hostile


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda image: signed_layer(Signer(), payload(image.name, digest(b"other"))), "a signature of another image"),
        (lambda image: image.honest(Signer(), "registry.test/other"), "a signature as 'registry.test/other'"),
        (
            lambda image: Layer(image.honest(Signer()).data + b" ", annotations=image.honest(Signer()).annotations),
            "none of the",
        ),
        (lambda image: signed_layer(Signer(), payload(image.name, image.digest, type="atomic")), "payload of type 'atomic'"),
        (lambda image: Layer(b"x" * 200_000, annotations=image.honest(Signer()).annotations), "a signature of 200000 bytes"),
        (lambda image: Layer(image.honest(Signer()).data, "application/octet-stream"), "layers that are no signatures"),
        (lambda image: Layer(image.honest(Signer()).data, annotations={"x": "y"}), "without the annotation"),
        (lambda image: Layer(image.honest(Signer()).data, annotations=image.honest(Signer()).annotations, size=9), "bytes"),
    ],
    ids=["other-digest", "other-name", "edited", "other-type", "giant", "other-media-type", "unsigned", "size"],
)
def test_what_is_no_signature_of_the_image(strict, registry, request, make, reason):
    label = request.node.callspec.id
    image = Pushed(registry, f"p256/hostile-{label}", f"hostile-{label}")
    image.sign(make(image))
    refused(strict, image, reason)


def test_a_signature_that_is_an_index(strict, registry):
    image = Pushed(registry, "p256/index-at-the-tag", "index-at-the-tag")
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.digest, "size": len(image.manifest)}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    registry.put_manifest(image.repository, signature_tag(image.manifest), index, INDEX)
    refused(strict, image, "invalid manifest")


def test_more_layers_than_anybody_signs(strict, registry):
    image = Pushed(registry, "p256/many", "many")
    layers = [image.honest(Signer(which=1), f"registry.test/{number}") for number in range(3)] * 100
    made = signature_manifest(layers)
    config = signature_config(layers)
    registry.put_layers(image.repository, layers[:3], made, signature_tag(image.manifest), config)
    refused(strict, image, "more than 128 signatures")


# The daemon


def send(daemon: Daemon, path: str, body: bytes) -> tuple[int, str]:
    head = f"POST {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: {len(body)}\r\n\r\n"
    answer, _, said = daemon.raw(head.encode() + body).partition(b"\r\n\r\n")
    return int(answer.split()[1]), said.decode()


def reload_policy(daemon: Daemon) -> None:
    """SIGHUP, and wait until the daemon has read it."""
    before = daemon.log().count("configuration reloaded") + daemon.log().count("was not reloaded")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(
        lambda: daemon.log().count("configuration reloaded") + daemon.log().count("was not reloaded") > before, "reloaded"
    )


def test_archives_and_reloading(registry):
    daemon = Daemon()
    image = Pushed(registry, "reloaded/app", "reloaded")
    old, layout = (form(SourceImage([files(a=b"a")], ["loaded:1"])) for form in (docker_archive, oci_archive))
    write_policy(daemon, {"docker-archive": {"": [ACCEPT]}})
    daemon.flags = ("--signature-policy", str(daemon.home / "policy.json"))
    with running(daemon):
        status, said = send(daemon, "/images/load?quiet=1", old)
        assert (status, "Loaded image: loaded:1" in said) == (200, True), said
        status, said = send(daemon, "/images/load?quiet=1", layout)
        assert (status, "oci-archive is rejected by the signature policy" in said) == (403, True), said
        status, said = send(daemon, "/images/create?fromSrc=-&repo=imported", files(a=b"a"))
        assert (status, "tarball is rejected by the signature policy" in said) == (403, True), said
        assert pull(daemon, image.name)[0] == 403

        (daemon.home / "policy.json").write_text("{")
        reload_policy(daemon)
        assert "the configuration was not reloaded: signature policy" in daemon.log()
        assert pull(daemon, image.name)[0] == 403

        write_policy(daemon, {"docker": {registry.host: [ACCEPT]}, "tarball": {"": [ACCEPT]}, "oci-archive": {"": [ACCEPT]}})
        reload_policy(daemon)
        assert send(daemon, "/images/create?fromSrc=-&repo=imported", files(a=b"a"))[0] == 200
        assert send(daemon, "/images/load?quiet=1", layout)[0] == 200
        status, said = send(daemon, "/images/load?quiet=1", old)
        assert (status, "docker-archive is rejected" in said) == (403, True), said
        pulled(daemon, image)


@pytest.mark.parametrize("validate", [True, False])
def test_a_policy_that_can_not_be_kept_ends_the_daemon_at_its_start(validate):
    daemon = Daemon()
    try:
        write_policy(daemon, {"docker": {"registry.test": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/x"}]}})
        daemon.flags = ("--signature-policy", str(daemon.home / "policy.json"), *(["--validate"] if validate else []))
        with pytest.raises(AssertionError, match="GPG signatures are not available in Boxship"):
            daemon.start()
    finally:
        shutil.rmtree(daemon.home)
    assert daemon.process is not None
    assert daemon.process.returncode == 1
