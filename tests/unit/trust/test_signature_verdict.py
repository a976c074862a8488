"""Which signatures let an image in: all forms that cosign writes, and what isn't one of them."""

import base64
import json

import pytest
from boxshipd.api.errors import status_of
from boxshipd.errors import InvalidParameter, Unavailable
from boxshipd.images import reference
from boxshipd.trust.errors import Untrusted
from boxshipd.trust.repository import Served
from boxshipd.trust.verifier import open_trust
from support.archives import digest
from support.cosign import (
    BUNDLE,
    COSIGN_ARTIFACT,
    INDEX,
    KINDS,
    SIGNATURE_KEY,
    SIMPLE_SIGNING,
    Layer,
    Signer,
    bundle,
    message_bundle,
    payload,
    referrer_manifest,
    referrers_index,
    referrers_tag,
    signature_tag,
    signed_layer,
    statement,
)
from support.trust import IMAGE, NAME, MemoryRepository, honest, policy_file, signed_by, trust_in, verify

OTHER_IMAGE = IMAGE.replace(b'"layers": []', b'"layers": [ ]')
INDEX_OF_IMAGE = referrers_index([IMAGE], "")


async def refusal(trust, repository, **more) -> str:
    with pytest.raises(Untrusted) as caught:
        await verify(trust, repository, **more)
    assert status_of(caught.value) == 403
    return str(caught.value)


def put_referrer(repository: MemoryRepository, layer: Layer, artifact_type: str = BUNDLE, subject: bytes = IMAGE) -> bytes:
    """Keep a referrer, in the registry's own list or in the one that clients keep."""
    repository.put_layers([layer])
    manifest = referrer_manifest([layer], subject, artifact_type, artifact_type if artifact_type == COSIGN_ARTIFACT else "")
    repository.put("", manifest)
    index = referrers_index([manifest], artifact_type)
    if repository.api:
        repository.pages[digest(subject)] = [Served(index, INDEX)]
    else:
        repository.put(referrers_tag(subject), index, INDEX)
    return manifest


@pytest.mark.parametrize("kind", KINDS)
async def test_a_signature_by_tag(tmp_path, repository, kind):
    signer = Signer(kind)
    repository.sign(honest(signer))
    await verify(trust_in(tmp_path, signer), repository)
    assert repository.asked == [signature_tag(IMAGE), digest(honest(signer).data)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("api", [True, False])
async def test_a_bundle_that_refers_to_the_image(tmp_path, kind, api):
    repository, signer = MemoryRepository(api=api), Signer(kind)
    put_referrer(repository, Layer(bundle(signer, statement(digest(IMAGE))), BUNDLE))
    await verify(trust_in(tmp_path, signer, identity="matchDigestOnly"), repository)


@pytest.mark.parametrize("api", [True, False])
async def test_simple_signing_that_refers_to_the_image(tmp_path, api):
    repository, signer = MemoryRepository(api=api), Signer()
    put_referrer(repository, honest(signer), COSIGN_ARTIFACT)
    await verify(trust_in(tmp_path, signer), repository)


async def test_a_list_that_clients_keep_and_tell_no_types_in(tmp_path, repository):
    signer = Signer()
    manifest = put_referrer(repository, honest(signer), COSIGN_ARTIFACT)
    for kind in ("", "application/vnd.oci.empty.v1+json"):
        repository.put(referrers_tag(IMAGE), referrers_index([manifest], kind), INDEX)
        await verify(trust_in(tmp_path, signer), repository)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bundle_of_the_manifests_bytes(tmp_path, repository, kind):
    signer = Signer(kind)
    put_referrer(repository, Layer(message_bundle(signer, IMAGE), BUNDLE))
    await verify(trust_in(tmp_path, signer, identity="matchDigestOnly"), repository)
    put_referrer(repository, Layer(message_bundle(signer, OTHER_IMAGE), BUNDLE))
    assert "bundle is of another message" in await refusal(trust_in(tmp_path, signer, identity="matchDigestOnly"), repository)


async def test_a_bundle_names_no_image_so_it_must_be_said_that_this_will_do(tmp_path, repository):
    signer = Signer()
    put_referrer(repository, Layer(bundle(signer, statement(digest(IMAGE))), BUNDLE))
    assert 'names no image, as those in Sigstore bundles do; "signedIdentity" of the type "matchDigestOnly"' in await refusal(
        trust_in(tmp_path, signer), repository
    )


async def test_a_signature_in_several_lines(tmp_path, repository):
    """As ``openssl dgst -sign | base64`` writes them, which ``cosign attach signature`` takes as they are."""
    layer = honest(Signer("rsa"))
    text = layer.annotations[SIGNATURE_KEY]
    layer.annotations[SIGNATURE_KEY] = "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76)) + "\n"
    repository.sign(layer)
    await verify(trust_in(tmp_path, Signer("rsa")), repository)


async def test_one_good_signature_among_others_is_enough(tmp_path, repository):
    signer, other = Signer(), Signer(which=1)
    repository.sign(
        honest(other),
        Layer(b"x", media_type="application/vnd.example"),
        Layer(b"no annotation"),
        signed_layer(signer, payload(NAME, digest(OTHER_IMAGE))),
        honest(signer),
    )
    await verify(trust_in(tmp_path, signer), repository)


async def test_any_of_the_keys_will_do_and_all_of_the_requirements_must_be_fulfilled(tmp_path, repository):
    first, second = Signer(), Signer("ed25519")
    repository.sign(honest(second))
    await verify(trust_in(tmp_path, first, second), repository)
    (tmp_path / "both").mkdir()
    both = [signed_by(tmp_path, first), signed_by(tmp_path / "both", second)]
    trust = open_trust(policy_file(tmp_path, both))
    assert "none of the required keys" in await refusal(trust, repository)
    repository.sign(honest(second), honest(first))
    await verify(trust, repository)


async def test_several_keys_in_one_file(tmp_path, repository):
    path = tmp_path / "team.pub"
    path.write_bytes(b"Our keys.\n" + Signer("rsa").pem + Signer().pem)
    trust = open_trust(
        policy_file(tmp_path, {"type": "sigstoreSigned", "keyPath": str(path), "signedIdentity": {"type": "matchRepository"}})
    )
    repository.sign(honest(Signer()))
    await verify(trust, repository)


async def test_a_key_in_the_policy_itself(tmp_path, repository):
    data = base64.b64encode(Signer().pem).decode()
    requirement = {"type": "sigstoreSigned", "keyData": data, "signedIdentity": {"type": "matchRepository"}}
    repository.sign(honest(Signer()))
    await verify(open_trust(policy_file(tmp_path, requirement)), repository)


# No downgrade


async def test_nothing_signed_is_refused(tmp_path, repository):
    message = await refusal(trust_in(tmp_path, Signer()), repository)
    assert message.endswith("; found: no signature")
    assert f"requires a signature of {digest(IMAGE)} as {NAME} with any tag or none with the key " in message
    assert f"image {NAME}:1 is refused" in message
    assert "docker:registry.test" in message


@pytest.mark.parametrize("failing", ["manifest", "blob", "referrers"])
async def test_a_registry_that_fails_is_no_registry_without_signatures(tmp_path, failing):
    class Failing(MemoryRepository):
        pass

    async def fails(*_):
        raise Unavailable("the registry answers 500")

    async def fails_listing(*_):
        raise Unavailable("the registry answers 500")
        yield

    repository = Failing()
    if failing == "blob":
        repository.sign(honest(Signer()))
    setattr(repository, failing, fails_listing if failing == "referrers" else fails)
    with pytest.raises(Unavailable, match="500"):
        await verify(trust_in(tmp_path, Signer()), repository)


async def test_a_rejected_image_is_refused_before_the_registry_is_asked(tmp_path, repository):
    trust = open_trust(policy_file(tmp_path, {"type": "reject"}))
    assert "is rejected by the signature policy" in await refusal(trust, repository)
    with pytest.raises(Untrusted):
        trust.admit(reference.parse(f"{NAME}:1"))
    assert not repository.asked


async def test_an_accepted_image_costs_no_request(tmp_path, repository):
    trust = open_trust(policy_file(tmp_path, {"type": "reject"}))
    await verify(trust, repository, name="other.test/app:1")
    assert not repository.asked


async def test_a_rejection_beside_a_requirement_counts(tmp_path, repository):
    repository.sign(honest(Signer()))
    trust = open_trust(policy_file(tmp_path, [signed_by(tmp_path, Signer()), {"type": "reject"}]))
    assert "is rejected" in await refusal(trust, repository)


# Of this image, as this name


async def test_a_signature_of_another_image(tmp_path, repository):
    repository.sign(signed_layer(Signer(), payload(NAME, digest(OTHER_IMAGE))))
    assert f"a signature of another image, {digest(OTHER_IMAGE)}" in await refusal(trust_in(tmp_path, Signer()), repository)


async def test_a_statement_about_another_image(tmp_path, repository):
    put_referrer(repository, Layer(bundle(Signer(), statement(digest(OTHER_IMAGE))), BUNDLE))
    assert "a signature of another image" in await refusal(trust_in(tmp_path, Signer(), identity="matchDigestOnly"), repository)


async def test_the_digest_given_must_be_the_manifests(tmp_path, repository):
    trust = trust_in(tmp_path, Signer())
    repository.sign(honest(Signer()))
    with pytest.raises(InvalidParameter, match="doesn't have the digest"):
        await trust.verify(reference.parse(NAME), digest(OTHER_IMAGE), IMAGE, repository)


async def test_an_image_by_another_kind_of_digest(tmp_path, repository):
    import hashlib

    repository.sign(honest(Signer()))
    sha512 = f"sha512:{hashlib.sha512(IMAGE).hexdigest()}"
    await trust_in(tmp_path, Signer()).verify(reference.parse(f"{NAME}@{sha512}"), sha512, IMAGE, repository)


async def test_a_signature_of_the_same_image_in_another_repository(tmp_path, repository):
    repository.sign(honest(Signer(), "registry.test/team/other"))
    assert "a signature as 'registry.test/team/other'" in await refusal(trust_in(tmp_path, Signer()), repository)


async def test_by_another_key(tmp_path, repository):
    for kind in KINDS:
        repository.sign(honest(Signer(kind, which=1)))
        for wanted in KINDS:
            message = await refusal(trust_in(tmp_path, Signer(wanted)), repository)
            assert "a signature that none of the required keys made" in message


async def test_an_edited_payload(tmp_path, repository):
    layer = honest(Signer())
    layer.data = layer.data.replace(b"null", b"{}")
    repository.sign(layer)
    assert "none of the required keys" in await refusal(trust_in(tmp_path, Signer()), repository)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (payload(NAME, digest(IMAGE), type="atomic container signature"), "payload of type 'atomic container signature'"),
        (payload(NAME, digest(IMAGE)).replace(b',"optional":null', b""), "missing required field `optional`"),
        (payload(NAME, digest(IMAGE)).replace(b'"optional":null', b'"optional":null,"more":1'), "unknown field `more`"),
        (payload(NAME, digest(IMAGE)).replace(b'"type"', b'"type":"","type"'), "'type' appears twice"),
        (
            payload(NAME, digest(OTHER_IMAGE)).replace(
                b'"image":{', b'"image":{"docker-manifest-digest":"' + digest(IMAGE).encode() + b'",'
            ),
            "'docker-manifest-digest' appears twice",
        ),
        (payload(NAME, digest(IMAGE)) + b"{}", "Extra data"),
        (payload(NAME, "sha256:" + "0" * 63), "a signature of another image"),
        (payload(NAME, "md5:" + "0" * 32), "a signature of another image"),
        (payload(NAME, digest(IMAGE).upper()), "a signature of another image"),
        (payload("", digest(IMAGE)), "a signature as ''"),
        (payload("UPPER/x", digest(IMAGE)), "a signature as 'UPPER/x'"),
        (b'{"critical":' + b"[" * 60000, "invalid payload"),
        (b"\xff\xfe", "invalid payload"),
    ],
    ids=range(13),
)
async def test_what_was_signed_must_be_a_signature_of_an_image(tmp_path, repository, body, message):
    repository.sign(signed_layer(Signer(), body))
    assert message in await refusal(trust_in(tmp_path, Signer()), repository)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (bundle(Signer(), statement(digest(IMAGE), "https://slsa.dev/provenance/v1")), "statement about the image rather than"),
        (bundle(Signer(), statement(digest(IMAGE), _type="https://example.test")), "statement of type 'https://example.test'"),
        (bundle(Signer(), statement(digest(IMAGE), subject=[])), "statement with 0 subjects"),
        (bundle(Signer(which=1), statement(digest(IMAGE))), "none of the required keys"),
        (bundle(Signer(), b"{}"), "invalid statement"),
        (bundle(Signer(), payload(NAME, digest(IMAGE))), "invalid statement"),
        (
            bundle(Signer(), statement(digest(IMAGE)), mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"),
            "bundle of type",
        ),
        (bundle(Signer(), statement(digest(IMAGE)), verificationMaterial={"certificate": {"rawBytes": ""}}), "keyless"),
        (bundle(Signer(), statement(digest(IMAGE)), verificationMaterial={}), "keyless"),
        (bundle(Signer(), statement(digest(IMAGE)), messageSignature={"signature": ""}), "not exactly one of"),
        (bundle(Signer(), statement(digest(IMAGE)), surprise=1), "unknown field `surprise`"),
        (bundle(Signer(), statement(digest(IMAGE))).replace(b'"sig":"', b'"sig":"*'), "isn't base64"),
        (bundle(Signer(), statement(digest(IMAGE))).replace(b"vnd.in-toto+json", b"vnd.other+json"), "envelope around"),
        (b"[]", "invalid bundle"),
    ],
    ids=range(14),
)
async def test_a_bundle_must_be_a_signature_of_an_image(tmp_path, repository, made, message):
    put_referrer(repository, Layer(made, BUNDLE))
    assert message in await refusal(trust_in(tmp_path, Signer(), identity="matchDigestOnly"), repository)


async def test_an_envelope_has_one_signature(tmp_path, repository):
    document = json.loads(bundle(Signer(), statement(digest(IMAGE))))
    document["dsseEnvelope"]["signatures"] *= 2
    put_referrer(repository, Layer(json.dumps(document).encode(), BUNDLE))
    assert "envelope with 2 signatures" in await refusal(trust_in(tmp_path, Signer(), identity="matchDigestOnly"), repository)


# Indexes


async def test_the_indexs_signature_is_its_manifests_too(tmp_path, repository):
    signer = Signer()
    repository.sign(honest(signer, manifest=INDEX_OF_IMAGE), manifest=INDEX_OF_IMAGE)
    await verify(trust_in(tmp_path, signer), repository, indexes=[INDEX_OF_IMAGE])
    assert repository.asked[0] == signature_tag(INDEX_OF_IMAGE)


async def test_the_manifests_own_signature_is_enough(tmp_path, repository):
    repository.sign(honest(Signer()))
    await verify(trust_in(tmp_path, Signer()), repository, indexes=[INDEX_OF_IMAGE])


async def test_an_index_in_an_index(tmp_path, repository):
    outer = referrers_index([INDEX_OF_IMAGE], "")
    repository.sign(honest(Signer(), manifest=outer), manifest=outer)
    await verify(trust_in(tmp_path, Signer()), repository, indexes=[outer, INDEX_OF_IMAGE])
    with pytest.raises(InvalidParameter, match="index doesn't list"):
        await verify(trust_in(tmp_path, Signer()), repository, indexes=[outer])


async def test_a_signed_index_that_lists_another_manifest(tmp_path, repository):
    index = referrers_index([OTHER_IMAGE], "")
    repository.sign(honest(Signer(), manifest=index), manifest=index)
    with pytest.raises(InvalidParameter, match="index doesn't list"):
        await verify(trust_in(tmp_path, Signer()), repository, indexes=[index])


async def test_the_indexs_signature_at_the_manifests_tag(tmp_path, repository):
    """A signature of the index is looked for under the index, and one found elsewhere is of another image."""
    repository.sign(honest(Signer(), manifest=INDEX_OF_IMAGE))
    assert "a signature of another image" in await refusal(trust_in(tmp_path, Signer()), repository)


async def test_an_unsigned_index_tells_both_digests(tmp_path, repository):
    message = await refusal(trust_in(tmp_path, Signer()), repository, indexes=[INDEX_OF_IMAGE])
    assert f"{digest(INDEX_OF_IMAGE)} or {digest(IMAGE)}" in message


@pytest.mark.parametrize(
    ("manifest", "indexes"),
    [
        (IMAGE[:-1] + b', "manifests": []}', []),
        (b'{"schemaVersion": 2}', []),
        (INDEX_OF_IMAGE, []),
        (IMAGE, [INDEX_OF_IMAGE[:-1] + b', "layers": []}']),
        (IMAGE, [IMAGE]),
    ],
)
async def test_a_document_that_is_two_things_is_refused_even_if_signed(tmp_path, repository, manifest, indexes):
    for document in (manifest, *indexes):
        repository.sign(honest(Signer(), manifest=document), manifest=document)
    with pytest.raises(InvalidParameter, match=r"both a manifest and an index|announced"):
        await verify(trust_in(tmp_path, Signer()), repository, manifest=manifest, indexes=indexes)


# What a registry may serve


async def test_a_signature_manifest_served_as_something_else(tmp_path, repository):
    repository.sign(honest(Signer()))
    manifest = repository.manifests[signature_tag(IMAGE)].data
    for data, kind, message in (
        (manifest, INDEX, "served as"),
        (manifest, "", "served as"),
        (manifest.replace(b'"schemaVersion":2', b'"schemaVersion":1'), "", "schema version 1"),
        (manifest[:-1] + b',"manifests":[]}', "", "both a manifest and an index"),
        (referrers_index([manifest]), INDEX, "invalid manifest"),
        (manifest[:-5], "", "invalid manifest"),
        (b"[" * 100_000, "", "invalid manifest"),
    ):
        repository.put(signature_tag(IMAGE), data, kind)
        assert message in await refusal(trust_in(tmp_path, Signer()), repository)


async def test_a_referrer_of_another_image(tmp_path, repository):
    manifest = put_referrer(repository, honest(Signer()), COSIGN_ARTIFACT, subject=OTHER_IMAGE)
    repository.put(referrers_tag(IMAGE), referrers_index([manifest]), INDEX)
    assert "refers to another image" in await refusal(trust_in(tmp_path, Signer()), repository)


async def test_an_attachment_of_another_type_isnt_fetched(tmp_path, repository):
    manifest = put_referrer(repository, honest(Signer()), "application/vnd.example.sbom")
    assert (await refusal(trust_in(tmp_path, Signer()), repository)).endswith("found: no signature")
    assert digest(manifest) not in repository.asked


async def test_what_is_listed_must_be_there_as_announced(tmp_path, repository):
    manifest = put_referrer(repository, honest(Signer()), COSIGN_ARTIFACT)
    served = repository.manifests[digest(manifest)]
    for changed, message in (
        (None, "lists it and hasn't it"),
        (Served(manifest + b" ", served.media_type), "bytes, not"),
        (Served(manifest.replace(b"2", b"3", 1), served.media_type), "doesn't have the digest"),
    ):
        repository.manifests.pop(digest(manifest))
        if changed is not None:
            repository.manifests[digest(manifest)] = changed
        assert message in await refusal(trust_in(tmp_path, Signer()), repository)
        repository.manifests[digest(manifest)] = served


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"size": 300}, "bytes, not 300 as announced"),
        ({"size": -1}, "a size of -1 bytes"),
        ({"digest": "sha256:" + "0" * 64}, "doesn't have the digest"),
        ({"digest": "sha256:../../etc"}, "invalid checksum digest length"),
        ({"digest": "none"}, "invalid checksum digest format"),
        ({"size": 1 << 40}, "a signature of 1099511627776 bytes: at most 65536"),
        ({"annotations": {}}, "without the annotation"),
        ({"annotations": {SIGNATURE_KEY: "é"}}, "isn't base64"),
        ({"annotations": {SIGNATURE_KEY: "AA\n="}}, "isn't base64"),
        ({"annotations": {SIGNATURE_KEY: ""}}, "none of the required keys"),
        ({"annotations": {SIGNATURE_KEY: "A" * 100000}}, "none of the required keys"),
        ({"media_type": SIMPLE_SIGNING + "x"}, "1 layers that are no signatures"),
    ],
    ids=range(12),
)
async def test_layers_that_are_not_what_they_say(tmp_path, repository, layer, message):
    made = honest(Signer())
    for name, value in layer.items():
        setattr(made, name, value)
    repository.sign(made)
    assert message in await refusal(trust_in(tmp_path, Signer()), repository)


async def test_what_is_larger_than_it_says_spoils_nothing_else(tmp_path, repository):
    large = Layer(b"x" * 70_000, annotations={SIGNATURE_KEY: "AA=="}, size=100)
    repository.sign(large)
    assert "more than 100 bytes" in await refusal(trust_in(tmp_path, Signer()), repository)
    repository.sign(large, honest(Signer()))
    await verify(trust_in(tmp_path, Signer()), repository)
    repository.put(signature_tag(IMAGE), b" " * (5 << 20))
    assert "more than 4194304 bytes" in await refusal(trust_in(tmp_path, Signer()), repository)
    put_referrer(repository, honest(Signer()), COSIGN_ARTIFACT)
    await verify(trust_in(tmp_path, Signer()), repository)


async def test_a_blob_that_isnt_there(tmp_path, repository):
    repository.sign(honest(Signer()))
    repository.blobs.clear()
    assert "the registry hasn't its blob" in await refusal(trust_in(tmp_path, Signer()), repository)


# Bounds


async def test_more_signatures_than_anybody_makes_are_not_all_looked_at(tmp_path, repository):
    wrong = [signed_layer(Signer(which=1), payload(f"{NAME}{number}", digest(IMAGE))) for number in range(140)]
    repository.sign(*wrong, honest(Signer()))
    message = await refusal(trust_in(tmp_path, Signer()), repository)
    assert "(128 times)" in message
    assert "more than 128 signatures" in message
    assert len(repository.asked) < 140


async def test_endless_lists_end(tmp_path):
    repository = MemoryRepository(api=True)
    manifests = [referrer_manifest([], IMAGE, COSIGN_ARTIFACT, f"x{number}") for number in range(100)]
    for manifest in manifests:
        repository.put("", manifest)
    pages = [Served(referrers_index([manifest], COSIGN_ARTIFACT), INDEX) for manifest in manifests]
    repository.pages[digest(IMAGE)] = pages
    assert "too long" in await refusal(trust_in(tmp_path, Signer()), repository)
    assert len(repository.asked) < 30
    repository.pages[digest(IMAGE)] = [Served(referrers_index(manifests, COSIGN_ARTIFACT), INDEX)]
    assert "more than 64 referrers" in await refusal(trust_in(tmp_path, Signer()), repository)


async def test_one_payload_is_fetched_once(tmp_path, repository):
    layers = [honest(Signer(which=1)) for _ in range(20)]
    repository.sign(*layers)
    await refusal(trust_in(tmp_path, Signer()), repository)
    assert repository.asked.count(digest(layers[0].data)) == 1


async def test_an_attackers_text_is_printable_and_short(tmp_path, repository):
    repository.sign(signed_layer(Signer(), payload("\x1b[2J" + "x" * 5000, digest(IMAGE))), Layer(b"x", "\x1b]0;"))
    repository.put(referrers_tag(IMAGE), referrers_index([IMAGE], "").replace(digest(IMAGE).encode(), b"\\u001b"), INDEX)
    message = await refusal(trust_in(tmp_path, Signer()), repository)
    assert message.isprintable()
    assert len(message) < 1500
