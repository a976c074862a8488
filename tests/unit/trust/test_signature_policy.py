"""Policy files: kept to the letter, or refused; and which part of one is for an image."""

import base64
import json
import subprocess
import sys

import pytest
from boxshipd.errors import InvalidParameter
from boxshipd.images import reference
from boxshipd.trust.errors import Untrusted
from boxshipd.trust.identity import (
    ExactReference,
    ExactRepository,
    MatchDigestOnly,
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    RemapIdentity,
    RemapRepository,
    check_identity,
    matches,
)
from boxshipd.trust.policy import Accept, Reject, read_policy
from boxshipd.trust.verifier import open_trust
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.cosign import Signer

ACCEPT = {"type": "insecureAcceptAnything"}
REJECT = {"type": "reject"}
DIGEST = "sha256:" + "a" * 64


def policy(tmp_path, default=ACCEPT, **transports) -> str:
    path = tmp_path / "policy.json"
    named = {name.replace("_", "-"): scopes for name, scopes in transports.items()}
    path.write_text(json.dumps({"default": [default], "transports": named}))
    return str(path)


def signed(**fields):
    return {"type": "sigstoreSigned", **fields}


def data(signer: Signer) -> str:
    return base64.b64encode(signer.pem).decode()


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("registry.test/a/b:1", "docker:registry.test/a/b:1"),
        ("registry.test/a/b:2", "docker:registry.test/a/b"),
        ("registry.test/a/b", "docker:registry.test/a/b"),
        ("registry.test/a/b@" + DIGEST, "docker:registry.test/a/b@" + DIGEST),
        ("registry.test/a/b:2@" + DIGEST, "docker:registry.test/a/b@" + DIGEST),
        ("registry.test/a/b:1@" + DIGEST, "docker:registry.test/a/b:1"),
        ("registry.test/a/c/d", "docker:registry.test/a"),
        ("registry.test/ab", "docker:registry.test"),
        ("registry.test/b:1", "docker:registry.test"),
        ("Registry.TEST/a/b:1", "docker:registry.test/a/b:1"),
        ("registry.test:443/a/b:1", "docker:registry.test/a/b:1"),
        ("registry.test:5000/a/b:1", "docker:registry.test:5000"),
        ("registry.test:8080/a", "docker:*.test"),
        ("sub.registry.test/a", "docker:*.registry.test"),
        ("deep.sub.registry.test:80/a", "docker:*.registry.test"),
        ("other.test/a", "docker:*.test"),
        ("busybox", "docker:docker.io/library/busybox"),
        ("index.docker.io/library/busybox:1", "docker:docker.io/library/busybox"),
        ("debian", "docker:docker.io/library"),
        ("openshift/origin", "docker:docker.io/openshift"),
        ("other/app", "docker:"),
        ("localhost/a", "docker:"),
        ("[::1]:5000/a", "docker:[::1]:5000"),
    ],
)
def test_the_most_specific_scope_counts(tmp_path, name, scope):
    scopes = (
        *("registry.test", "registry.test/a", "registry.test/a/b", "registry.test/a/b:1", "registry.test/a/b@" + DIGEST),
        *("registry.test:5000", "*.registry.test", "*.test", "docker.io/library", "docker.io/library/busybox"),
        *("docker.io/openshift", "[::1]:5000", ""),
    )
    read = read_policy(policy(tmp_path, docker={scope: [ACCEPT] for scope in scopes}))
    assert read.rule_for(reference.parse(name)).where == scope


def test_without_a_scope_the_default_counts(tmp_path):
    read = read_policy(policy(tmp_path, REJECT, docker={"registry.test": [ACCEPT]}))
    assert read.rule_for(reference.parse("other.test/x")).requirements == (Reject(),)
    assert read.rule_for(reference.parse("registry.test/x")).requirements == (Accept(),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "Expected `object`"),
        ("{}", "missing required field `default`"),
        ('{"default": []}', "default: no requirement at all"),
        ('{"default": [{"type": "insecureAcceptAnything"}], "default": [{"type": "reject"}]}', "'default' appears twice"),
        ('{"default": [{"type": "reject"}], "defaults": []}', "unknown field `defaults`"),
        ('{"default": [{"type": "perhaps"}]}', "Invalid value 'perhaps'"),
        ('{"default": [{"type": "reject", "unless": 1}]}', "unknown field `unless`"),
        ('{"default": [{}]}', "missing required field `type`"),
        ('{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/x"}]}', "GPG signatures are not available"),
        ('{"default": [{"type": "signedBaseLayer"}]}', "signedBaseLayer is not available"),
        ('{"default": [{"type": "reject"}], "transports": {"dokcer": {}}}', "unknown transport 'dokcer'"),
        ('{"default": [{"type": "reject"}], "transports": {"docker": {"busybox": [{"type": "reject"}]}}}', "written in full"),
        ("[" * 100_000, "nested too deeply"),
        ('{"default": NaN}', "NaN isn't JSON"),
        ('{"default": "\xff"}', "Expected `array`"),
    ],
)
def test_what_can_not_be_kept_to_the_letter(tmp_path, text, message):
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(InvalidParameter) as caught:
        read_policy(str(path))
    assert message in str(caught.value)
    assert f"signature policy {path}: " in str(caught.value)


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ("*", "a wildcard stands for"),
        ("*.", "a wildcard stands for"),
        ("*.a/b", "a wildcard stands for"),
        ("a.*.test", "a wildcard stands for"),
        ("Registry.test", "lower case"),
        ("https://registry.test", "is no registry's host"),
        ("registry.test/", "invalid reference format"),
        ("registry.test/UPPER", "must be lowercase"),
        ("registry.test/a:", "invalid reference format"),
        ("registry.test/a@sha256:1", "invalid reference format"),
        ("docker.io/busybox:1", "written in full, as 'docker.io/library/busybox:1'"),
        ("index.docker.io", "written docker.io"),
        ("team/app", "written in full, with their registry"),
        ("-x.test", "is no registry's host"),
        ("a" * 600, "at most 512"),
    ],
)
def test_a_scope_that_would_never_fit_is_refused(tmp_path, scope, message):
    with pytest.raises(InvalidParameter) as caught:
        read_policy(policy(tmp_path, docker={scope: [REJECT]}))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of keyPath, keyPaths, keyData, keyDatas"),
        ({"keyPath": "/a", "keyData": ""}, "exactly one of"),
        ({"keyPaths": []}, "keyPaths is empty"),
        ({"keyPath": "team.pub"}, "the path must be absolute"),
        ({"keyPath": "/nowhere/team.pub"}, "reading /nowhere/team.pub failed: No such file or directory"),
        ({"keyData": "*"}, "keyData isn't base64"),
        ({"keyData": ""}, "no public key in PEM form"),
        (
            {"keyData": base64.b64encode(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----").decode()},
            "can't be read",
        ),
        ({"keyData": base64.b64encode(Signer().private_pem()).decode()}, "it has a ENCRYPTED PRIVATE KEY; only public keys"),
        ({"keyDatas": ["", ""]}, "no public key in PEM form"),
        ({"fulcio": {}, "keyData": ""}, "fulcio is not available"),
        ({"pki": {}, "keyData": ""}, "pki is not available"),
        ({"rekorPublicKeyPath": "/r", "keyData": ""}, "rekor is not available"),
        ({"rekorPublicKeyDatas": [], "keyData": ""}, "rekor is not available"),
        ({"keyPath": 1}, "Expected `str"),
        ({"keyData": data(Signer()), "signedIdentity": {"type": "whoever"}}, "Invalid value 'whoever'"),
        ({"keyData": data(Signer()), "signedIdentity": {"type": "exactReference"}}, "missing required field `dockerReference`"),
        ({"keyData": data(Signer()), "signedIdentity": {"type": "matchExact", "x": 1}}, "unknown field `x`"),
        (
            {"keyData": data(Signer()), "signedIdentity": {"type": "exactReference", "dockerReference": "a.test/b"}},
            "it must have a tag or a digest",
        ),
        (
            {"keyData": data(Signer()), "signedIdentity": {"type": "exactRepository", "dockerRepository": "a.test/b:1"}},
            "neither a tag nor a digest",
        ),
        (
            {
                "keyData": data(Signer()),
                "signedIdentity": {"type": "remapIdentity", "prefix": "a.test/b:1", "signedPrefix": "b.test"},
            },
            "without tag or digest",
        ),
    ],
    ids=range(21),
)
def test_requirements_of_signatures_that_can_not_be_kept(tmp_path, fields, message):
    with pytest.raises(InvalidParameter) as caught:
        open_trust(policy(tmp_path, docker={"registry.test": [signed(**fields)]}))
    assert message in str(caught.value)
    assert "signature policy" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "an RSA key of 1024 bits; 2048 to 8192 are taken"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "an ECDSA key on secp256k1; P-256, P-384 and P-521 are taken"),
        (lambda: dsa.generate_private_key(1024), "a key of a kind that isn't taken"),
    ],
)
def test_keys_that_nobody_should_trust(tmp_path, key, message):
    pem = key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(InvalidParameter) as caught:
        open_trust(policy(tmp_path, signed(keyData=base64.b64encode(pem).decode())))
    assert message in str(caught.value)


def test_a_file_of_keys_has_its_bound(tmp_path):
    path = tmp_path / "huge.pub"
    path.write_bytes(Signer().pem * 2000)
    with pytest.raises(InvalidParameter, match="more than 65536 bytes"):
        open_trust(policy(tmp_path, signed(keyPath=str(path))))


def test_a_policy_of_podmans_is_one_here(tmp_path):
    """The file that Debian's golang-github-containers-common installs, as far as it goes."""
    path = policy(tmp_path, ACCEPT, docker_daemon={"": [ACCEPT]}, dir={"/srv": [REJECT]}, atomic={"": [REJECT]})
    assert read_policy(path).rule_for(reference.parse("x")).requirements == (Accept(),)


@pytest.mark.parametrize(
    ("identity", "asked", "signed", "expected"),
    [
        (MatchExact(), "a.test/x:1", "a.test/x:1", True),
        (MatchExact(), "a.test/x:1", "A.test/x:1", True),
        (MatchExact(), "a.test/x:1", "a.test/x", False),
        (MatchExact(), "a.test/x:1", "a.test/x:2", False),
        (MatchExact(), f"a.test/x@{DIGEST}", f"a.test/x@{DIGEST}", True),
        (MatchExact(), f"a.test/x@{DIGEST}", "a.test/x:1", False),
        (MatchRepoDigestOrExact(), "a.test/x:1", "a.test/x:1", True),
        (MatchRepoDigestOrExact(), "a.test/x:1", "a.test/x:2", False),
        (MatchRepoDigestOrExact(), "a.test/x:1", "a.test/x", False),
        (MatchRepoDigestOrExact(), "a.test/x:1", f"a.test/x@{DIGEST}", False),
        (MatchRepoDigestOrExact(), f"a.test/x@{DIGEST}", "a.test/x:9", True),
        (MatchRepoDigestOrExact(), f"a.test/x@{DIGEST}", "a.test/y:9", False),
        (MatchRepoDigestOrExact(), f"a.test/x:1@{DIGEST}", "a.test/x:2", False),
        (MatchRepoDigestOrExact(), f"a.test/x:1@{DIGEST}", "a.test/x:1", True),
        (MatchRepository(), "a.test/x:1", "a.test/x", True),
        (MatchRepository(), "a.test/x:1", "a.test/x:2", True),
        (MatchRepository(), "a.test/x:1", "a.test/xx", False),
        (MatchRepository(), "a.test/x:1", "b.test/x", False),
        (MatchRepository(), "busybox:1", "index.docker.io/library/busybox", True),
        (MatchRepository(), "busybox:1", "docker.io/busybox", True),
        (MatchRepository(), "a.test/x", "a.test/x:1:2", False),
        (MatchRepository(), "a.test/x", "", False),
        (ExactReference(docker_reference="v.test/x:1"), "a.test/y:2", "v.test/x:1", True),
        (ExactReference(docker_reference="v.test/x:1"), "a.test/y:2", "v.test/x:2", False),
        (ExactReference(docker_reference="v.test/x:1"), "a.test/y:2", "a.test/y:2", False),
        (ExactRepository(docker_repository="v.test/x"), "a.test/y:2", "v.test/x", True),
        (ExactRepository(docker_repository="v.test/x"), "a.test/y:2", "v.test/x:7", True),
        (ExactRepository(docker_repository="v.test/x"), "a.test/y:2", "a.test/y", False),
        (RemapIdentity(prefix="m.test/v", signed_prefix="v.test"), "m.test/v/x:1", "v.test/x:1", True),
        (RemapIdentity(prefix="m.test/v", signed_prefix="v.test"), "m.test/v/x:1", "v.test/x", False),
        (RemapIdentity(prefix="m.test/v", signed_prefix="v.test"), "m.test/v/x:1", "m.test/v/x:1", False),
        (RemapIdentity(prefix="m.test/v", signed_prefix="v.test"), "m.test/vv/x:1", "m.test/vv/x:1", True),
        (RemapIdentity(prefix="m.test/v", signed_prefix="v.test"), "m.test/vv/x:1", "v.testv/x:1", False),
        (RemapRepository(prefix="m.test", signed_prefix="v.test"), "m.test/a/b:1", "v.test/a/b", True),
        (RemapRepository(prefix="m.test", signed_prefix="v.test"), "M.test/a/b:1", "v.test/a/b", True),
        (RemapRepository(prefix="m.test/x", signed_prefix="v.test/z"), "m.test/x:1", "v.test/z:5", True),
        (RemapRepository(prefix="m.test", signed_prefix="v.test"), "m.test/a/b:1", "v.test/a/c", False),
        (MatchDigestOnly(), "a.test/x:1", "anything at all", True),
    ],
)
def test_identities(identity, asked, signed, expected):
    check_identity(identity)
    assert matches(identity, reference.parse(asked), signed) is expected


def test_a_prefix_that_makes_no_name_is_told():
    identity = RemapIdentity(prefix="m.test/x", signed_prefix="v.test")
    with pytest.raises(InvalidParameter, match="names no image"):
        matches(identity, reference.parse("m.test/x:1"), "v.test/x:1")


# Archives


def test_archives_have_rules_of_their_own(tmp_path):
    trust = open_trust(policy(tmp_path, REJECT, docker_archive={"": [ACCEPT]}))
    trust.admit_loading()
    trust.admit_docker_archive()
    with pytest.raises(Untrusted, match=r"oci-archive is rejected by the signature policy .* \(default\)"):
        trust.admit_oci_archive()
    with pytest.raises(Untrusted, match="tarball is rejected"):
        trust.admit_root_file_system()


def test_what_must_be_signed_does_not_come_in_as_an_archive(tmp_path):
    trust = open_trust(policy(tmp_path, signed(keyData=data(Signer()))))
    for admit in (trust.admit_loading, trust.admit_docker_archive, trust.admit_oci_archive, trust.admit_root_file_system):
        with pytest.raises(Untrusted, match="has no signatures, which are required"):
            admit()


@pytest.mark.parametrize("scopes", [{"/srv/x": [REJECT]}, {"": [signed(keyData=data(Signer()))]}])
def test_archives_rules_that_could_not_be_kept(tmp_path, scopes):
    with pytest.raises(InvalidParameter, match=r"docker-archive:"):
        read_policy(policy(tmp_path, docker_archive=scopes))


@pytest.mark.parametrize(
    ("statements", "loaded"),
    [
        ("import boxshipd.daemon", []),
        ("from boxshipd.trust.verifier import open_trust; open_trust({accepting!r})", []),
        ("from boxshipd.trust.verifier import open_trust; open_trust({signing!r})", ["cryptography"]),
    ],
)
def test_only_a_policy_that_asks_for_signatures_loads_cryptography(tmp_path, statements, loaded):
    accepting = policy(tmp_path)
    (tmp_path / "signing").mkdir()
    signing = policy(tmp_path / "signing", signed(keyData=data(Signer())))
    code = statements.format(accepting=accepting, signing=signing)
    check = "; import sys; print([name for name in ('cryptography',) if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(loaded)


def test_an_engine_without_a_policy_loads_none_of_it():
    code = "import boxshipd.daemon, sys; print([name for name in sys.modules if name.startswith('boxshipd.trust')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
