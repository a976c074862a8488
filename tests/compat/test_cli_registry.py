"""Registries with Docker's command line and with ours: the same words, the same files, the same images."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator

import pytest
from support.cli import Client, put_program
from support.daemon import DOCKER
from support.registry import PASSWORD, REGISTRY, USER, Authority, Registry, TokenServer
from support.remote_images import RemoteImage, layer

pytestmark = [
    pytest.mark.skipif(DOCKER is None, reason="no docker command"),
    pytest.mark.skipif(REGISTRY is None, reason="no docker-registry"),
]
NAMES = ["docker", "boxship"]


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture(scope="module")
def protected() -> Iterator[Registry]:
    with Registry(htpasswd=True) as registry:
        yield registry


@pytest.fixture(params=NAMES)
def client(request, daemon, tmp_path) -> Client:
    return Client(daemon, request.param, tmp_path / "config")


@pytest.fixture
def clients(daemon, tmp_path) -> tuple[Client, Client]:
    return Client(daemon, "docker", tmp_path / "one"), Client(daemon, "boxship", tmp_path / "two")


@pytest.fixture
def pushed(daemon, registry, request) -> Iterator[str]:
    """A small image in the registry, which the daemon doesn't have."""
    repository = f"team/{request.node.name.replace('[', '-').strip(']').lower()[:80]}"
    image = RemoteImage([layer({"etc/one": b"1"}), layer({"etc/two": b"2"})], docker=True)
    for tag in ("v1", "latest"):
        image.put(registry, repository, tag)
    yield f"{registry.host}/{repository}"
    for tag in ("v1", "latest"):
        daemon.request("DELETE", f"/images/{registry.host}/{repository}:{tag}?force=1")


def said_alike(clients: tuple[Client, Client], *args: str, code: int = 0, stdin: str | None = None) -> tuple[str, str]:
    """Both say the same; what that is."""
    docker, boxship = (client.both(*args, code=code, stdin=stdin) for client in clients)
    places = [(str(client.config), "CONFIG") for client in clients]
    first, second = (
        tuple(text.replace(*place) for text in said) for said, place in zip((docker, boxship), places, strict=True)
    )
    assert second == first
    return second


def test_pulls_say_the_same(clients, pushed, daemon):
    name = pushed.partition("/")[2]
    for args in (["pull", f"{pushed}:v1"], ["pull", pushed], ["pull", "-q", pushed], ["pull", "-a", pushed]):
        said = []
        for client in clients:
            for tag in ("v1", "latest"):
                daemon.request("DELETE", f"/images/{pushed}:{tag}?force=1")
            # Layers finish in any order.
            said.append([sorted(text.splitlines()) for text in client.both(*args)])
        assert said[0] == said[1], args
        assert any(f"Pulling from {name}" in line for line in said[1][0]) or "-q" in args
    said_alike(clients, "pull", pushed)


@pytest.mark.parametrize(
    "args",
    [
        ["pull", "UPPER"],
        ["pull", "a:b:c"],
        ["pull", ""],
        ["pull", "x@sha256:11"],
        ["pull", "1" * 64],
        ["pull", "a" * 300],
        ["pull"],
        ["push", "UPPER"],
        ["push", f"x@sha256:{'1' * 64}"],
        ["pull", "-a", "x:1"],
        ["push", "-a", "x:1"],
        ["create", "--pull", "always", "UPPER"],
        ["create", "--pull", "sometimes", "x"],
        ["run", "--pull", "never", "nothing-like-it"],
        ["run", "UPPER"],
        ["run", "1" * 64],
        ["create", "--platform", "a/b/c/d", "busybox"],
    ],
)
def test_refusals_say_the_same(clients, args):
    code = 125 if args[0] == "run" or "sometimes" in args else 1
    said_alike(clients, *args, code=code)


def test_what_the_registry_lacks(clients, registry):
    said_alike(clients, "pull", f"{registry.host}/no/such:tag", code=1)
    said_alike(clients, "run", "--rm", f"{registry.host}/no/such:tag", code=125)
    said_alike(clients, "push", f"{registry.host}/no/such:tag", code=1)


def test_a_missing_image_is_pulled_by_run(client, pushed, daemon, registry):
    busybox = f"{registry.host}/run/{client.name}:1"
    client("tag", "busybox", busybox)
    client("push", busybox)
    client("rmi", busybox)
    out, err = client.both("run", "--rm", "--network", "none", busybox, "echo", "hi")
    assert out == "hi\n"
    assert err.startswith(
        f"Unable to find image '{busybox}' locally\n1: Pulling from run/{client.name}\n".replace("boxship", "docker")
    )
    assert client.both("run", "--rm", "--network", "none", busybox, "echo", "hi") == ("hi\n", "")
    assert "Image is up to date" in client.both("run", "--rm", "--pull", "always", "--network", "none", busybox, "true")[1]
    client("rmi", busybox)
    assert client.both("run", "-q", "--rm", "--network", "none", busybox, "echo", "hi") == ("hi\n", "")
    client("rmi", busybox)
    assert "No such image" in client.both("create", "--pull", "never", busybox, "true", code=1)[1]


def test_pushes_say_the_same(clients, registry):
    for tag in ("v1", "v2"):
        clients[0]("tag", "busybox", f"{registry.host}/pushed/alike:{tag}")
    for args in (["-q", "pushed/alike:v1"], ["pushed/alike:v1"], ["-a", "pushed/alike"]):
        said_alike(clients, "push", *args[:-1], f"{registry.host}/{args[-1]}")
    said_alike(clients, "push", f"{registry.host}/pushed/alike", code=1)


def test_login_writes_the_same_file(clients, protected):
    said_alike(clients, "login", "-u", USER, "-p", PASSWORD, protected.host)
    docker, boxship = (client.config_file for client in clients)
    assert boxship.read_bytes() == docker.read_bytes()
    assert stat.S_IMODE(boxship.stat().st_mode) == 0o600
    assert sorted(path.name for path in boxship.parent.iterdir()) == ["config.json"]
    said_alike(clients, "login", protected.host)
    said_alike(clients, "login", f"http://{protected.host}/v2/")
    said_alike(clients, "login", "-u", USER, "--password-stdin", protected.host, stdin=f"{PASSWORD}\n")
    said_alike(clients, "logout", protected.host)
    assert boxship.read_bytes() == docker.read_bytes()
    said_alike(clients, "logout", protected.host)


@pytest.mark.parametrize(
    ("args", "stdin"),
    [
        (["-u", USER, "-p", "wrong", "HOST"], None),
        (["-u", USER, "-p", "x", "127.0.0.1:1"], None),
        (["-u", USER, "HOST"], None),
        (["HOST"], None),
        ([], None),
        (["-u", "", "HOST"], None),
        (["-u", USER, "-p", "", "HOST"], None),
        (["--password-stdin", "HOST"], "x"),
        (["-p", "x", "--password-stdin", "HOST"], "x"),
        (["a", "b"], None),
    ],
)
def test_logins_that_fail_say_the_same(clients, protected, args, stdin):
    args = [protected.host if arg == "HOST" else arg for arg in args]
    docker, boxship = (client.both("login", *args, code=1, stdin=stdin) for client in clients)
    # A slip of the pen in Docker's.
    assert boxship == (docker[0], docker[1].replace("SRun '", "Run '"))
    assert not clients[1].config_file.exists()


def test_what_else_is_in_the_file_stays(client, protected):
    client.config.mkdir()
    before = {
        "credHelpers": {"other.example": "x"},
        "psFormat": "{{.ID}}<&>",
        "auths": {"a.example": {"auth": "eDp5", "email": "e"}},
    }
    real = client.config / "elsewhere.json"
    real.write_text(json.dumps(before))
    client.config_file.symlink_to(real)
    client("login", "-u", USER, "-p", PASSWORD, protected.host)
    after = json.loads(real.read_text())
    assert client.config_file.is_symlink()
    assert after["auths"].pop(protected.host) == {"auth": "YW5uYTpwYXNzOncwcmQ="}
    if client.name == "docker":
        # Docker's own forgets addresses of old.
        before["auths"]["a.example"].pop("email", None), after["auths"]["a.example"].pop("email", None)
    assert after == before


def test_what_is_protected_needs_the_login(client, protected, daemon):
    image = f"{protected.host}/secret/{client.name}:1"
    client("tag", "busybox", image)
    assert "no basic auth credentials" in client.both("push", image, code=1)[1]
    client("login", "-u", USER, "-p", PASSWORD, protected.host)
    assert "digest: sha256:" in client("push", image)
    client("rmi", image)
    client("pull", image)
    client("logout", protected.host)
    client("rmi", image)
    assert "no basic auth credentials" in client.both("pull", image, code=1)[1]


def test_a_token_server_gives_what_is_kept_instead_of_the_password(clients, tmp_path):
    with TokenServer(Authority(tmp_path)) as server, Registry(token=server) as registry:
        said_alike(clients, "login", "-u", USER, "-p", PASSWORD, registry.host)
        docker, boxship = (json.loads(client.config_file.read_text()) for client in clients)
        assert boxship == docker
        assert boxship["auths"][registry.host]["identitytoken"] == server.refresh
        image = f"{registry.host}/tokens/one:1"
        clients[1]("tag", "busybox", image)
        clients[1]("push", image)
        clients[1]("rmi", image)
        clients[1]("pull", "-q", image)
        clients[1]("rmi", image)


HELPER = """#!/usr/bin/python3
# Keeps accounts in a file, by the protocol of docker-credential-helpers.
import json, os, sys
path = os.environ["HELPER_FILE"]
kept = json.load(open(path)) if os.path.exists(path) else {}
action, data = sys.argv[1], sys.stdin.read()
with open(path + ".log", "a") as log:
    log.write(f"{action} {data.strip()}\\n")
if action == "store":
    entry = json.loads(data)
    kept[entry["ServerURL"]] = entry
elif action == "get":
    if data.strip() not in kept:
        print("credentials not found in native keychain")
        sys.exit(1)
    print(json.dumps(kept[data.strip()]))
elif action == "erase":
    if data.strip() == "broken.example":
        print("the vault is closed")
        sys.exit(1)
    kept.pop(data.strip(), None)
json.dump(kept, open(path, "w"))
"""


@pytest.mark.parametrize("setting", ["credsStore", "credHelpers"])
def test_programs_keep_accounts_alike(clients, protected, tmp_path, setting):
    put_program(tmp_path, "docker-credential-test", HELPER)
    for client in clients:
        client.config.mkdir()
        client.config_file.write_text(json.dumps({setting: "test" if setting == "credsStore" else {protected.host: "test"}}))
        client.env |= {"PATH": f"{tmp_path}:{client.env['PATH']}", "HELPER_FILE": str(tmp_path / f"{client.name}.kept")}
    image = f"{protected.host}/helped/{setting.lower()}:1"
    clients[0]("tag", "busybox", image)
    said_alike(clients, "login", "-u", USER, "-p", PASSWORD, protected.host)
    docker, boxship = (json.loads((tmp_path / f"{name}.kept").read_text()) for name in NAMES)
    assert boxship == docker == {protected.host: {"ServerURL": protected.host, "Username": USER, "Secret": PASSWORD}}
    assert json.loads(clients[1].config_file.read_text()) == json.loads(clients[0].config_file.read_text())
    assert PASSWORD not in clients[1].config_file.read_text()
    said_alike(clients, "login", protected.host)
    clients[1]("push", image)
    said_alike(clients, "push", image)
    said_alike(clients, "logout", protected.host)
    assert json.loads((tmp_path / "boxship.kept").read_text()) == {}
    assert json.loads(clients[1].config_file.read_text()) == json.loads(clients[0].config_file.read_text())
    assert "no basic auth credentials" in said_alike(clients, "push", image, code=1)[1]
    clients[0]("rmi", image)


def test_a_program_that_fails_is_named(clients, protected, tmp_path):
    for client in clients:
        client.config.mkdir()
        client.config_file.write_text(json.dumps({"credsStore": "missing"}))
    said = said_alike(clients, "login", "-u", USER, "-p", PASSWORD, protected.host, code=1)
    assert 'exec: "docker-credential-missing": executable file not found in $PATH' in said[1]
    # Docker's goes on without a word; ours says that nobody could be asked for the account.
    err = clients[1].both("pull", f"{protected.host}/x", code=1)[1]
    assert err.startswith("WARNING: error getting credentials - err: exec: ")


def test_the_environment_has_accounts_too(daemon, protected, tmp_path):
    client = Client(daemon, "boxship", tmp_path / "config")
    image = f"{protected.host}/from-environment:1"
    client("tag", "busybox", image)
    client.env["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": {protected.host: {"auth": "YW5uYTpwYXNzOncwcmQ="}}})
    client("push", image)
    client("rmi", image)


def test_a_damaged_file_is_named_and_not_overwritten(daemon, protected, registry, tmp_path):
    client = Client(daemon, "boxship", tmp_path / "config")
    client.config.mkdir()
    client.config_file.write_text('{"auths": {')
    err = client.both("login", "-u", USER, "-p", PASSWORD, protected.host, code=1)[1]
    assert f"loading config file: {client.config_file}: " in err
    assert client.config_file.read_text() == '{"auths": {'
    err = client.both("pull", f"{registry.host}/no/such", code=1)[1]
    assert err.startswith(f"WARNING: Error loading config file: {client.config_file}: ")


def test_config_directories(daemon, protected, tmp_path):
    client = Client(daemon, "boxship", tmp_path / "one")
    client.env["BOXSHIP_CONFIG"] = str(tmp_path / "two")
    client("login", "-u", USER, "-p", PASSWORD, protected.host)
    client("--config", str(tmp_path / "three"), "login", "-u", USER, "-p", PASSWORD, protected.host)
    assert not (tmp_path / "one").exists()
    assert (tmp_path / "two" / "config.json").read_bytes() == (tmp_path / "three" / "config.json").read_bytes()
