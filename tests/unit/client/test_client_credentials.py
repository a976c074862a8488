"""Registry accounts: where they are looked for, what is sent of them, and files that are damaged or hostile."""

from __future__ import annotations

import base64
import json
import os
import stat

import pytest
from boxship.credentials.account import HUB_KEY, Account, hostname, key_of
from boxship.credentials.config_file import ConfigFile, directory
from boxship.credentials.helper import Helper
from boxship.credentials.keeper import Keeper
from boxship.errors import CredentialError, InvalidConfig
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(deadline=None)
@given(TEXT, TEXT, TEXT)
def test_the_header_is_what_daemons_decode(username, password, server):
    name, value = Account(server, username, password).header()
    assert name == "X-Registry-Auth"
    decoded = json.loads(base64.urlsafe_b64decode(value))
    expected = {"username": username, "password": password, "serveraddress": server}
    assert decoded == {key: text for key, text in expected.items() if text}


def test_nobody_is_an_empty_object():
    assert Account().header() == ("X-Registry-Auth", "e30=")


@pytest.mark.parametrize(
    ("domain", "key"), [("docker.io", HUB_KEY), ("index.docker.io", HUB_KEY), ("r.example:5000", "r.example:5000")]
)
def test_what_accounts_are_kept_under(domain, key):
    assert key_of(domain) == key


@pytest.mark.parametrize("server", ["r.example:5", "http://r.example:5", "https://r.example:5/v1/", "r.example:5/v2"])
def test_addresses_become_hosts(server):
    assert hostname(server) == "r.example:5"


def test_which_directory():
    assert directory({"BOXSHIP_CONFIG": "/b", "DOCKER_CONFIG": "/d"}) == "/b"
    assert directory({"DOCKER_CONFIG": "/d"}) == "/d"
    assert directory({}).endswith("/.docker")


def config(tmp_path, document: object) -> ConfigFile:
    path = tmp_path / "config.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return ConfigFile(str(path))


def auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("key", ["r.example", "https://r.example", "https://r.example/v1/", "r.example/team"])
def test_addresses_of_old_are_found(tmp_path, key):
    assert config(tmp_path, {"auths": {key: {"auth": auth("me:pass:word")}}}).account("r.example") == Account(
        key, "me", "pass:word"
    )


def test_other_hosts_accounts_are_not(tmp_path):
    """Whoever can choose a registry's name gets nobody else's password."""
    file = config(tmp_path, {"auths": {"r.example": {"auth": auth("me:secret")}}})
    for server in ("r.example:443", "r.example.evil.test", "evil.test", "R.example", "", "example"):
        assert file.account(server) == Account()


@pytest.mark.parametrize(
    "document",
    ["{", "[]", "1", {"auths": [1]}, {"auths": {"r": []}}, {"auths": {"r": {"auth": "?"}}}, {"auths": {"r": {"auth": auth("nocolon")}}},
     {"auths": {"r": {"auth": auth(":p")}}}, {"auths": {"r": {"auth": "/w=="}}}],
)  # fmt: skip
def test_damaged_files_are_errors(tmp_path, document):
    with pytest.raises(InvalidConfig, match="config"):
        config(tmp_path, document).account("r")


def test_an_empty_file_is_an_empty_configuration(tmp_path):
    file = config(tmp_path, "")
    assert file.servers == []
    file.put(Account("r", "me", "p"))
    assert json.loads((tmp_path / "config.json").read_text()) == {"auths": {"r": {"auth": auth("me:p")}}}


def test_the_file_is_the_owners_alone_and_replaced_in_one_step(tmp_path):
    file = config(tmp_path, {"psFormat": "x"})
    os.chmod(file.path, 0o644)
    before = os.stat(file.path)
    with open(file.path) as reader:
        assert file.put(Account("r", "me", "p"))
        # Who has it open reads the old one to its end.
        assert json.loads(reader.read()) == {"psFormat": "x"}
    after = os.stat(file.path)
    assert stat.S_IMODE(after.st_mode) == 0o600
    assert after.st_ino != before.st_ino
    assert not file.put(Account("r", "me", "p"))
    assert os.stat(file.path).st_ino == after.st_ino
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    file = ConfigFile(str(tmp_path / "no" / "config.json"))
    (tmp_path / "no").write_text("a file")
    with pytest.raises(InvalidConfig, match=r"config\.json: "):
        file.put(Account("r", "me", "p"))
    assert sorted(os.listdir(tmp_path)) == ["no"]


@pytest.mark.parametrize("name", ["../../tmp/evil", "/bin/sh", ""])
def test_a_helper_is_a_name_and_no_path(name):
    with pytest.raises(CredentialError, match="invalid credential helper"):
        Helper(name)


def test_a_helpers_secret_is_in_no_message(tmp_path, monkeypatch):
    program = tmp_path / "docker-credential-odd"
    program.write_text('#!/bin/sh\necho \'{"Username": "me", "Sec": "hunter2"}\'\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(CredentialError) as caught:
        Helper("odd").account("r")
    assert "hunter2" not in str(caught.value)


def test_the_environment_comes_first(tmp_path, monkeypatch):
    config(tmp_path, {"auths": {"r": {"auth": auth("file:p")}, "s": {"auth": auth("file:p")}}})
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"r": {"auth": auth("env:p")}}}))
    keeper = Keeper(str(tmp_path))
    assert (keeper.account("r").username, keeper.account("s").username) == ("env", "file")
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", "{")
    with pytest.raises(InvalidConfig, match="DOCKER_AUTH_CONFIG is not JSON"):
        keeper.account("r")
