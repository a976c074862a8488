"""Where images are looked for: mirrors, hosts.toml, TLS that has to prove something, proxies."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from boxshipd.images import reference
from boxshipd.images.remote import Remote
from boxshipd.registry.client import RegistryClient
from boxshipd.registry.credentials import ANONYMOUS, Credentials
from boxshipd.registry.errors import RegistryError, Unreachable
from boxshipd.registry.hosts import RegistrySettings
from boxshipd.registry.proxies import Proxies
from boxshipd.registry.settings import ClientSettings
from integration.registry.conftest import QUICK
from support.faulty import Fault, FaultyProxy
from support.registry import Authority, Registry, free_port
from support.remote_images import RemoteImage, layer

IMAGE = RemoteImage([layer({"mirrored": b"1"})])
SECRET = Credentials("anna", "secret")


@asynccontextmanager
async def client_of(tmp_path: Path, **settings) -> AsyncIterator[RegistryClient]:
    client = RegistryClient(ClientSettings(certificates=(str(tmp_path),), timing=QUICK, **settings))
    try:
        yield client
    finally:
        await client.close()


async def resolved(client: RegistryClient, name: str, credentials: Credentials = ANONYMOUS) -> str:
    parsed = reference.parse(name).tagged()
    remote = Remote(parsed, await client.repositories(parsed, credentials, "pull"))
    document = await remote.resolve(parsed.tag)
    assert document.content.layers[0].digest
    return document.digest


async def test_docker_hub_is_mirrored(registry: Registry, tmp_path: Path):
    IMAGE.put(registry, "library/mirrored")
    with FaultyProxy(registry.host) as mirror:
        async with client_of(tmp_path, mirrors=(f"http://{mirror.host}",)) as client:
            assert await resolved(client, "mirrored", SECRET) == IMAGE.digest
            # What Docker Hub was to be told isn't told to the mirror.
            assert mirror.seen
            assert not any("Authorization" in seen.headers for seen in mirror.seen)


async def test_any_registry_is_mirrored_below_a_prefix(registry: Registry, tmp_path: Path):
    IMAGE.put(registry, "copies/app/web")
    registries = {
        "registry.example.com/acme": RegistrySettings(mirrors=(f"http://{registry.host}/copies",)),
        "registry.example.com": RegistrySettings(mirrors=("http://127.0.0.1:1",)),
    }
    async with client_of(tmp_path, registries=registries) as client:
        assert await resolved(client, "registry.example.com/acme/app/web") == IMAGE.digest


async def test_a_mirror_that_fails_is_passed_over(registry: Registry, tmp_path: Path):
    IMAGE.put(registry, "fallen/back")
    fails = Fault(path="manifests", times=-1, status=500)
    with FaultyProxy(registry.host) as broken:
        broken.faults.append(fails)
        mirrors = ("http://127.0.0.1:1", f"http://{broken.host}")
        registries = {registry.host: RegistrySettings(mirrors=mirrors)}
        async with client_of(tmp_path, registries=registries) as client:
            assert await resolved(client, f"{registry.host}/fallen/back") == IMAGE.digest
            assert len(broken.requests("GET", "manifests")) == QUICK.attempts


async def test_hosts_toml(registry: Registry, tmp_path: Path):
    IMAGE.put(registry, "described/app")
    with FaultyProxy(registry.host) as mirror:
        async with client_of(tmp_path) as client:
            place = tmp_path / "registry.example.org"
            place.mkdir()
            (place / "hosts.toml").write_text(
                f"""
server = "https://registry.example.org"
[host."http://{mirror.host}"]
  capabilities = ["pull", "resolve"]
  [host."http://{mirror.host}".header]
    X-Known = ["yes"]
"""
            )
            assert await resolved(client, "registry.example.org/described/app") == IMAGE.digest
            assert {seen.headers.get("X-Known") for seen in mirror.seen} == {"yes"}
            assert all("ns=registry.example.org" in seen.path for seen in mirror.seen)
            (place / "hosts.toml").write_text('[host."http://x"]\n  dial_timeout = "1s"\n')
            with pytest.raises(RegistryError, match="dial_timeout"):
                await resolved(client, "registry.example.org/described/app")


async def test_only_a_host_that_may_resolve_says_what_a_tag_means(registry: Registry, tmp_path: Path):
    IMAGE.put(registry, "resolving/app")
    with FaultyProxy(registry.host) as mirror:
        async with client_of(tmp_path) as client:
            place = tmp_path / registry.host
            place.mkdir()
            (place / "hosts.toml").write_text(f'[host."http://{mirror.host}"]\n  capabilities = ["pull"]\n')
            assert await resolved(client, f"{registry.host}/resolving/app") == IMAGE.digest
            assert not mirror.seen


async def test_tls_must_prove_who_it_is(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A registry outside loopback: its certificate has to be good, and plain HTTP is never tried."""
    monkeypatch.setattr("boxshipd.registry.hosts._LOOPBACK", ())
    with Registry(certificate=authority.issue("registry")) as registry:
        async with client_of(tmp_path) as client:
            with pytest.raises(Unreachable, match="certificate"):
                await resolved(client, f"{registry.host}/x")
            place = tmp_path / registry.host
            place.mkdir()
            (place / "ca.crt").write_bytes(authority.ca.read_bytes())
            with pytest.raises(Exception, match=r"manifest for .* not found"):
                await resolved(client, f"{registry.host}/x")
    with Registry() as plain:
        async with client_of(tmp_path) as client:
            with pytest.raises(Unreachable, match="TLS"):
                await resolved(client, f"{plain.host}/x")
            assert "GET" not in plain.log()
    with Registry() as plain:
        async with client_of(tmp_path, insecure=("127.0.0.0/8",)) as client:
            with pytest.raises(Exception, match=r"manifest for .* not found"):
                await resolved(client, f"{plain.host}/x")


async def test_a_registry_that_is_not_there(tmp_path: Path):
    async with client_of(tmp_path) as client:
        with pytest.raises(Unreachable, match=r"dial tcp 127.0.0.1:\d+: .*refused"):
            await resolved(client, f"127.0.0.1:{free_port()}/x")


async def test_proxies(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Plain HTTP is asked of the proxy with the whole URL, as the proxy's own host is where the connection goes."""
    asked: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            asked.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        proxies = Proxies(http_proxy=f"http://user:word@127.0.0.1:{server.getsockname()[1]}", no_proxy="elsewhere.example")
        registries = {"far.example": RegistrySettings(mirrors=("http://mirror.example",))}
        async with client_of(tmp_path, proxies=proxies, registries=registries) as client:
            parsed = reference.parse("far.example/app:1")
            places = await client.repositories(parsed, ANONYMOUS, "pull")
            with pytest.raises(Exception, match="not found"):
                await Remote(parsed, places[:1]).resolve("1")
    finally:
        thread.join()
        server.close()
    head = asked[0].decode()
    assert head.startswith("GET http://mirror.example/v2/app/manifests/1 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjp3b3Jk" in head
