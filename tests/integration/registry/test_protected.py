"""Registries that want to know who asks, and that show who they are, with the real docker command."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon
from support.daemons import stocked
from support.registry import PASSWORD, USER, Authority, Registry, TokenServer
from support.remote_images import RemoteImage, layer

pytestmark = needs_root


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certs.d")


@pytest.fixture(scope="module")
def daemon(certs: Path) -> Iterator[Daemon]:
    """A daemon that looks for registries' certificates in a directory of the test's."""
    with stocked(Daemon("--registry-certs-dir", str(certs))) as daemon:
        yield daemon


def login(daemon: Daemon, registry: Registry, password: str = PASSWORD, code: int = 0) -> str:
    done = daemon.cli("docker", "login", "-u", USER, "--password-stdin", registry.host, stdin=password.encode(), code=code)
    return (done.stdout + done.stderr).decode()


def push_and_pull(daemon: Daemon, registry: Registry) -> None:
    name = f"{registry.host}/team/private:1"
    daemon.cli("docker", "tag", "busybox", name)
    daemon.cli("docker", "push", name)
    daemon.cli("docker", "rmi", name)
    daemon.cli("docker", "pull", name)
    assert daemon.cli("docker", "run", "--rm", "--network", "none", name, "echo", "in").stdout == b"in\n"


def test_basic_authentication(daemon: Daemon):
    with Registry(htpasswd=True) as registry:
        daemon.cli("docker", "tag", "busybox", f"{registry.host}/team/private:1")
        refused = daemon.cli("docker", "push", f"{registry.host}/team/private:1", code=1)
        assert b"no basic auth credentials" in refused.stderr
        assert "unauthorized" in login(daemon, registry, "wrong", code=1)
        assert "Login Succeeded" in login(daemon, registry)
        push_and_pull(daemon, registry)
        daemon.cli("docker", "logout", registry.host)
        refused = daemon.cli("docker", "pull", f"{registry.host}/team/private:1", code=1)
        assert b"no basic auth credentials" in refused.stderr


def test_tokens(daemon: Daemon, authority: Authority):
    with TokenServer(authority) as server, Registry(token=server) as registry:
        assert "incorrect username or password" in login(daemon, registry, "wrong", code=1)
        assert "Login Succeeded" in login(daemon, registry)
        # The token server has given a refresh token, which docker keeps instead of the password.
        kept = json.loads((daemon.home / "config.json").read_text())["auths"][registry.host]
        assert kept.get("identitytoken") == TokenServer.refresh
        server.asked.clear()
        push_and_pull(daemon, registry)
        methods = {method for method, _, _ in server.asked}
        assert methods == {"POST"}
        assert all(fields["grant_type"] == ["refresh_token"] for _, fields, _ in server.asked)
        scopes = {scope for _, fields, _ in server.asked for scope in fields["scope"]}
        assert "repository:team/private:pull,push" in scopes
        # One token per set of scopes, not one per request.
        assert len(server.asked) <= len(scopes) + 1


def test_tokens_for_a_password(daemon: Daemon, authority: Authority):
    with TokenServer(authority) as server, Registry(token=server) as registry:
        name = f"{registry.host}/team/private:1"
        daemon.cli("docker", "tag", "busybox", name)
        given = base64.urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()
        answer = daemon.raw(
            f"POST /images/{registry.host}/team/private/push?tag=1 HTTP/1.0\r\nHost: x\r\nX-Registry-Auth: {given}\r\n\r\n".encode()
        )
        assert b'"1: digest: sha256:' in answer
        assert {method for method, _, _ in server.asked} == {"GET"}
        assert all(authorization.startswith("Basic ") for _, _, authorization in server.asked)
        # Anonymous tokens allow nothing there.
        refused = daemon.cli("docker", "pull", name, code=1)
        assert b"repository does not exist or may require 'docker login': denied" in refused.stderr


def test_tokens_that_run_out(daemon: Daemon, authority: Authority):
    """A token is refused meanwhile: another one is got, and nothing of it is seen."""
    with TokenServer(authority) as server, Registry(token=server) as registry:
        login(daemon, registry)
        server.life = -100
        refused = daemon.cli("docker", "pull", f"{registry.host}/team/private:1", code=1)
        assert b"unauthorized" in refused.stderr
        server.life = 300
        push_and_pull(daemon, registry)


def test_tls_with_an_own_authority(daemon: Daemon, authority: Authority, certs: Path):
    with Registry(certificate=authority.issue("registry")) as registry:
        name = f"localhost:{registry.port}"
        daemon.cli("docker", "tag", "busybox", f"{name}/tls:1")
        # Loopback needn't be trusted, as with Docker; so what is looked at is what the registry's own name makes of it.
        daemon.cli("docker", "push", f"{name}/tls:1")
        shown = subprocess.run(
            ["skopeo", "inspect", "--cert-dir", str(_certs(authority, certs, name)), f"docker://{name}/tls:1"],
            capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        assert json.loads(shown.stdout)["Name"] == f"{name}/tls"


def test_tls_with_client_certificates(daemon: Daemon, authority: Authority, certs: Path):
    with Registry(certificate=authority.issue("registry"), client_ca=authority.ca) as registry:
        daemon.cli("docker", "tag", "busybox", f"{registry.host}/mtls:1")
        refused = daemon.cli("docker", "push", f"{registry.host}/mtls:1", code=1)
        assert b"tls" in refused.stderr.lower() or b"EOF" in refused.stderr or b"certificate" in refused.stderr
        place = _certs(authority, certs, registry.host)
        certificate, key = authority.issue("client", "extendedKeyUsage=clientAuth")
        shutil.copy(certificate, place / "client.cert")
        refused = daemon.cli("docker", "push", f"{registry.host}/mtls:1", code=1)
        assert b"missing key" in refused.stderr
        shutil.copy(key, place / "client.key")
        daemon.cli("docker", "push", f"{registry.host}/mtls:1")


def _certs(authority: Authority, certs: Path, host: str) -> Path:
    place = certs / host
    place.mkdir(exist_ok=True)
    shutil.copy(authority.ca, place / "ca.crt")
    return place


def test_docker_py(daemon: Daemon):
    import docker

    with Registry(htpasswd=True) as registry:
        client = docker.DockerClient(base_url=daemon.host)
        try:
            client.login(USER, PASSWORD, registry=registry.host)
            repository = f"{registry.host}/team/py"
            client.images.get("busybox").tag(repository, "1")
            said = [*client.images.push(repository, "1", stream=True, decode=True)]
            assert said[-1].get("aux", {}).get("Tag") == "1", said
            client.images.remove(f"{repository}:1")
            image = client.images.pull(repository, "1")
            assert image.tags == [f"{repository}:1"] or f"{repository}:1" in image.tags
            assert client.images.get_registry_data(f"{repository}:1").id == said[-1]["aux"]["Digest"]
            image = RemoteImage([layer({"x": b"y"})])
            with pytest.raises(docker.errors.NotFound):
                client.images.pull(repository, "absent")
        finally:
            client.close()
