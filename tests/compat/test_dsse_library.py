"""securesystemslib, whose authors wrote DSSE down: envelopes that it signs are good here, and ours are for it."""

import base64
import copy
import json

import pytest
from boxshipd.trust.bundle import open_bundle, read_statement
from boxshipd.trust.keys import read_keys
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey
from support.archives import digest
from support.cosign import Signer, bundle, statement

IMAGE = b"a manifest"
SCHEMES = {"p256": "ecdsa-sha2-nistp256", "p384": "ecdsa-sha2-nistp384", "ed25519": "ed25519", "rsa": "rsa-pkcs1v15-sha256"}


def key_of(signer: Signer) -> SSlibKey:
    return SSlibKey.from_crypto(signer.private.public_key(), scheme=SCHEMES[signer.kind])


@pytest.mark.parametrize("kind", SCHEMES)
def test_envelopes_of_the_library_are_good_here(kind):
    signer = Signer(kind)
    envelope = Envelope(statement(digest(IMAGE)), "application/vnd.in-toto+json", {})
    envelope.sign(CryptoSigner(signer.private, key_of(signer)))
    document = json.loads(bundle(signer, statement(digest(IMAGE))))
    document["dsseEnvelope"] = envelope.to_dict()
    # The library tells the key by an id of its own, which a bundle may have and nobody needs.
    opened = open_bundle(json.dumps(document).encode(), IMAGE)
    (key,) = read_keys(signer.pem)
    assert key.made(opened.signature, opened.message)
    assert opened.statement is not None
    assert read_statement(opened.statement).digests == (digest(IMAGE),)


@pytest.mark.parametrize("kind", SCHEMES)
def test_envelopes_of_the_tests_are_good_for_the_library(kind):
    signer = Signer(kind)
    written = json.loads(bundle(signer, statement(digest(IMAGE))))["dsseEnvelope"]
    key = key_of(signer)
    for entry in written["signatures"]:
        entry["keyid"] = key.keyid
    # The library changes what it is given.
    envelope = Envelope.from_dict(copy.deepcopy(written))
    assert envelope.payload == statement(digest(IMAGE))
    envelope.verify([key], 1)
    written["payload"] = base64.b64encode(statement(digest(b"another"))).decode()
    with pytest.raises(VerificationError):
        Envelope.from_dict(written).verify([key], 1)
