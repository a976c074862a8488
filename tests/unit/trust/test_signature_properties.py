"""Whatever a registry serves, an image comes in only with a signature that says so; and nothing but refusals comes out."""

import asyncio
import base64
import contextlib
import json
from dataclasses import replace

import pytest
from boxshipd.errors import DaemonError, InvalidParameter
from boxshipd.images.reference import Reference
from boxshipd.images.reference import parse as parse_reference
from boxshipd.trust.bundle import pre_authentication_encoding
from boxshipd.trust.errors import BadSignature, Untrusted
from boxshipd.trust.payload import read_payload
from boxshipd.trust.repository import Served
from boxshipd.trust.scopes import check_scope, scopes_of
from boxshipd.trust.strict_json import StrictJSONError, decode_strictly
from boxshipd.trust.verifier import open_trust
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from support.archives import digest
from support.cosign import (
    BUNDLE,
    COSIGN_ARTIFACT,
    INDEX,
    MANIFEST,
    SIGNATURE_KEY,
    Layer,
    Signer,
    bundle,
    payload,
    referrer_manifest,
    referrers_index,
    referrers_tag,
    signature_manifest,
    signature_tag,
    signed_layer,
    statement,
)
from support.trust import IMAGE, NAME, MemoryRepository, policy_file, signed_by, verify

SIGNER = Signer("ed25519")
PAYLOAD = payload(NAME, digest(IMAGE))
STATEMENT = statement(digest(IMAGE))

component = st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True)
names = st.builds(
    lambda domain, parts, tag: Reference(domain, "/".join(parts), tag),
    st.sampled_from(["docker.io", "registry.test", "registry.test:5000", "a.b.c.test", "localhost", "[::1]:443", "x.test:443"]),
    st.lists(component, min_size=2, max_size=5),
    st.sampled_from(["", "1", "latest"]),
)


@pytest.fixture(scope="module")
def trusts(tmp_path_factory):
    """By identity, a policy that requires the signer's signature."""
    found = {}
    for identity in ("matchRepository", "matchDigestOnly"):
        path = tmp_path_factory.mktemp(identity)
        found[identity] = open_trust(policy_file(path, signed_by(path, SIGNER, identity=identity)))
    return found


def refused(trust, repository) -> bool:
    try:
        asyncio.run(verify(trust, repository))
    except Untrusted:
        return True
    return False


@settings(deadline=None, max_examples=100)
@given(position=st.integers(0, len(PAYLOAD) - 1), byte=st.integers(0, 255), field=st.sampled_from(["payload", "signature"]))
def test_no_byte_of_a_payload_or_its_signature_can_be_changed(trusts, position, byte, field):
    layer = signed_layer(SIGNER, PAYLOAD)
    signature = base64.b64decode(layer.annotations[SIGNATURE_KEY])
    data = PAYLOAD if field == "payload" else signature
    position %= len(data)
    changed = data[:position] + bytes([byte]) + data[position + 1 :]
    if field == "payload":
        layer = replace(layer, data=changed)
    else:
        layer.annotations[SIGNATURE_KEY] = base64.b64encode(changed).decode()
    repository = MemoryRepository()
    repository.sign(layer)
    assert refused(trusts["matchRepository"], repository) is (changed != data)


@settings(deadline=None, max_examples=100)
@given(position=st.integers(0, len(STATEMENT) - 1), byte=st.integers(0, 255))
def test_no_byte_of_a_statement_can_be_changed(trusts, position, byte):
    changed = STATEMENT[:position] + bytes([byte]) + STATEMENT[position + 1 :]
    document = json.loads(bundle(SIGNER, STATEMENT))
    document["dsseEnvelope"]["payload"] = base64.b64encode(changed).decode()
    layer = Layer(json.dumps(document).encode(), BUNDLE)
    repository = MemoryRepository()
    repository.put_layers([layer])
    manifest = referrer_manifest([layer], IMAGE)
    repository.put("", manifest)
    repository.put(referrers_tag(IMAGE), referrers_index([manifest]), INDEX)
    assert refused(trusts["matchDigestOnly"], repository) is (changed != STATEMENT)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8) | st.sampled_from([MANIFEST, INDEX, digest(IMAGE)]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["schemaVersion", "mediaType", "layers", "manifests", "config", "digest", "size", "subject", "annotations", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
documents = st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode())


@st.composite
def damaged(draw, whole: bytes) -> bytes:
    """A document with some bytes replaced, left out or put in."""
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(len(whole), start + 12)))
    return whole[:start] + draw(st.binary(max_size=6)) + whole[end:]


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    tagged=documents | damaged(signature_manifest([Layer(b"x", annotations={SIGNATURE_KEY: "AA=="})])),
    listed=documents | damaged(referrers_index([referrer_manifest([], IMAGE)])),
    referring=documents | damaged(referrer_manifest([Layer(b"x", BUNDLE)], IMAGE)),
    blob=documents | damaged(bundle(SIGNER, statement(digest(b"another image")))),
    kinds=st.tuples(*[st.sampled_from([MANIFEST, INDEX, "", "text/html"])] * 3),
)
def test_nothing_that_is_served_does_anything_but_refuse(trusts, tagged, listed, referring, blob, kinds):
    repository = MemoryRepository()
    repository.manifests[signature_tag(IMAGE)] = Served(tagged, kinds[0])
    repository.manifests[referrers_tag(IMAGE)] = Served(listed, kinds[1])
    repository.manifests[digest(referrer_manifest([], IMAGE))] = Served(referring, kinds[2])
    repository.put("", referring, kinds[2])
    repository.blobs[digest(b"x")] = blob
    repository.blobs[digest(blob)] = blob
    for trust in trusts.values():
        assert refused(trust, repository)


@settings(deadline=None, max_examples=120)
@given(made=damaged(bundle(SIGNER, statement(digest(b"another image")))) | documents)
def test_no_bundle_does_anything_but_refuse(trusts, made):
    layer = Layer(made, BUNDLE)
    repository = MemoryRepository()
    repository.put_layers([layer])
    manifest = referrer_manifest([layer], IMAGE)
    repository.put("", manifest)
    repository.put(referrers_tag(IMAGE), referrers_index([manifest], COSIGN_ARTIFACT), INDEX)
    assert refused(trusts["matchDigestOnly"], repository)


@given(data=documents | damaged(PAYLOAD))
def test_a_payload_is_read_or_refused(data):
    with contextlib.suppress(BadSignature):
        claim = read_payload(data)
        assert all(isinstance(text, str) for text in (*claim.digests, claim.reference))


@given(data=documents)
def test_a_policy_is_kept_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("policy") / "policy.json"
    path.write_bytes(data)
    with pytest.raises(InvalidParameter):
        open_trust(str(path))


@given(name=names)
def test_every_scope_that_is_looked_up_can_be_written(name):
    scopes = list(scopes_of(name))
    for scope in scopes:
        check_scope(scope)
    assert scopes[0] == str(name)
    assert len(set(scopes)) == len(scopes)


@given(name=names, other=names)
def test_a_repositorys_scope_is_no_other_repositorys(name, other):
    assume(name.name.removesuffix(":443") != other.name.removesuffix(":443"))
    assert name.name not in list(scopes_of(Reference(other.domain, other.path, other.tag))) or other.path.startswith(
        f"{name.path}/"
    )


@given(scope=st.text(st.sampled_from("abZ01.:/*@-_[]"), max_size=20))
@example("registry.test/a:tag")
@example("a.b/c@sha256:0")
def test_a_scope_that_is_taken_is_one_that_is_looked_up(scope):
    try:
        check_scope(scope)
    except DaemonError:
        return
    host, slash, path = scope.partition("/")
    if scope.startswith("*"):
        asked = parse_reference(f"x{scope[1:]}/a/b")
    elif not slash:
        asked = parse_reference(f"{scope}/a/b")
    elif host == "docker.io" and "/" not in path:
        asked = parse_reference(f"{scope}/b")
    else:
        asked = parse_reference(scope)
    assert scope in list(scopes_of(asked))


@given(
    pairs=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=4),
    depth=st.integers(0, 3),
)
def test_json_with_a_key_twice_is_refused_at_any_depth(pairs, depth):
    text = "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"
    text = '{"x":[' * depth + text + "]}" * depth
    if len({key for key, _ in pairs}) == len(pairs):
        assert decode_strictly(dict, text.encode()) == json.loads(text)
    else:
        with pytest.raises(StrictJSONError, match="appears twice"):
            decode_strictly(dict, text.encode())


@given(first=st.tuples(st.text(), st.binary()), second=st.tuples(st.text(), st.binary()))
def test_no_two_messages_have_one_encoding(first, second):
    assume(first != second)
    assert pre_authentication_encoding(*first) != pre_authentication_encoding(*second)
