"""Whose credentials are for which registry."""

import base64
import contextlib
import json

import pytest
from boxship.types.registry import AuthConfig
from boxshipd.errors import InvalidParameter
from boxshipd.registry.credentials import Credentials, decode_all, decode_header, for_registry, hostname
from hypothesis import given
from hypothesis import strategies as st


def header(document: object, alphabet=base64.urlsafe_b64encode, pad: bool = True) -> str:
    text = alphabet(json.dumps(document).encode()).decode()
    return text if pad else text.rstrip("=")


@pytest.mark.parametrize("alphabet", [base64.urlsafe_b64encode, base64.b64encode])
@pytest.mark.parametrize("pad", [True, False])
def test_headers_in_any_alphabet(alphabet, pad):
    config = decode_header(header({"username": "ü>?", "password": "ÿÿ~~", "email": None}, alphabet, pad))
    assert (config.username, config.password) == ("ü>?", "ÿÿ~~")


def test_all_registries():
    found = decode_all(header({"a.example": {"username": "a", "password": "b"}}))
    assert found["a.example"].username == "a"
    assert decode_all("") == {}


@given(st.text(max_size=200))
def test_any_header_is_read_or_refused(text):
    with contextlib.suppress(InvalidParameter):
        assert isinstance(decode_header(text), AuthConfig)


def test_errors_tell_no_secrets():
    with pytest.raises(InvalidParameter) as refused:
        decode_header(header({"username": "anna", "password": ["s3cret"]}))
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(Credentials("anna", "s3cret", "s3cret", "s3cret"))
    assert "s3cret" not in repr(AuthConfig(username="anna", password="s3cret", auth="s3cret"))


def test_credentials_for_another_registry_are_none():
    given_ = AuthConfig(username="anna", password="secret", serveraddress="https://one.example:5000/v2/")
    assert for_registry(given_, "one.example:5000") == Credentials("anna", "secret")
    for other in ("one.example", "two.example", "docker.io", "one.example:5001", "xone.example:5000"):
        assert not for_registry(given_, other)


@pytest.mark.parametrize(
    "address",
    ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io", "index.docker.io", "https://registry-1.docker.io/v2/"],
)
def test_docker_hub_has_one_name(address):
    assert hostname(address) == "docker.io"


def test_names_and_passwords_in_one():
    auth = base64.b64encode(b"anna:pass:word").decode()
    assert for_registry(AuthConfig(auth=auth), "x.example") == Credentials("anna", "pass:word")
    with pytest.raises(InvalidParameter):
        for_registry(AuthConfig(auth="!!"), "x.example")
