"""Passwords stay where they belong, whatever a registry or a name server says, and out of messages."""

import ipaddress
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from boxshipd import config
from boxshipd.images import reference
from boxshipd.images.digest import sha256
from boxshipd.registry import hosts, manifests, referrers, tags, uploads
from boxshipd.registry.client import RegistryClient
from boxshipd.registry.credentials import Credentials
from boxshipd.registry.errors import RegistryError
from boxshipd.registry.hosts import Hosts, check_mirror
from boxshipd.registry.proxies import Proxies, masked
from boxshipd.registry.settings import ClientSettings
from boxshipd.registry.timing import Timing
from yarl import URL

SECRET = "s3cret"
BLOB = b"hello"


class Server(ThreadingHTTPServer):
    """A host that notes who asks it for what, and answers with a header's value for each path's end."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, str]] = []
        self.locations: dict[str, str] = {}
        self.password = True
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        authorization = self.headers.get("Authorization", "")
        self.server.asked.append((self.command, self.path, authorization))
        status, headers, body = 404, {}, b"{}"
        if self.server.password and not authorization:
            status, headers = 401, {"WWW-Authenticate": 'Basic realm="x"'}
        elif "tags/list" in self.path or "referrers" in self.path:
            status, body = 200, b'{"tags": ["a"], "schemaVersion": 2, "manifests": []}'
            if "?" not in self.path and "link" in self.server.locations:
                headers = {"Link": f'<{self.server.locations["link"]}>; rel="next"'}
        elif "manifests" in self.path and "manifest" in self.server.locations:
            status, headers = 307, {"Location": self.server.locations["manifest"]}
        elif self.command == "POST":
            status, headers = 202, {"Location": self.server.locations["upload"]}
        elif self.command == "PATCH":
            status, headers = 202, {"Location": self.path, "Range": f"0-{len(BLOB) - 1}"}
        elif self.command == "PUT":
            status = 201
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def elsewhere():
    server = Server()
    server.password = False
    yield server
    server.close()


@pytest.fixture
async def place(registry):
    """A repository whose password we know."""
    client = RegistryClient(ClientSettings(timing=Timing(attempts=1)))
    (place,) = await client.repositories(reference.parse(f"{registry.host}/a/x:1"), Credentials("anna", SECRET), "pull")
    yield place
    await client.close()


async def upload(place, tmp_path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(BLOB)
    with ThreadPoolExecutor(1) as threads:
        await uploads.Upload(place, sha256(BLOB), str(path), len(BLOB), threads, sent=lambda _: None).run()


async def test_a_redirect_to_another_host_takes_nothing_along(place, registry, elsewhere):
    registry.locations["manifest"] = f"http://{elsewhere.host}/v2/a/x/manifests/1"
    with pytest.raises(RegistryError):
        await manifests.get(place, "1")
    assert [authorization != "" for _, _, authorization in registry.asked] == [False, True]
    assert [authorization for _, _, authorization in elsewhere.asked] == [""]


@pytest.mark.parametrize("listing", [tags.listed, lambda place: anext(referrers.pages(place, sha256(BLOB)))])
async def test_a_list_that_goes_on_at_another_host_ends(place, registry, elsewhere, listing):
    registry.locations["link"] = f"http://{elsewhere.host}/v2/a/x/tags/list?n=1"
    with pytest.raises(RegistryError, match="goes on at another host"):
        await listing(place)
    assert elsewhere.asked == []


async def test_an_upload_to_another_host_takes_no_password_along(place, registry, elsewhere, tmp_path):
    registry.locations["upload"] = f"http://{elsewhere.host}/u/1"
    await upload(place, tmp_path)
    assert {authorization for _, _, authorization in elsewhere.asked} == {""}


async def test_who_names_a_place_does_not_say_who_we_are_there(place, registry, elsewhere, tmp_path):
    """A name and a password in a location, which would be an error nobody foresaw beside our own, or another's in our place."""
    registry.locations["link"] = f"http://evil:pw@{registry.host}/v2/a/x/tags/list?n=1"
    assert await tags.listed(place) == ["a", "a"]
    registry.locations["upload"] = f"http://evil:pw@{registry.host}/u/1"
    await upload(place, tmp_path)
    assert {authorization for _, _, authorization in registry.asked[1:]} == {Credentials("anna", SECRET).basic}
    registry.locations["upload"] = f"http://evil:pw@{elsewhere.host}/u/1"
    await upload(place, tmp_path)
    assert {authorization for _, _, authorization in elsewhere.asked} == {""}


@pytest.mark.parametrize(
    ("addresses", "insecure"),
    [
        (["127.0.0.1"], True),
        (["127.0.0.1", "::1"], True),
        (["127.0.0.1", "203.0.113.9"], False),
        (["203.0.113.9"], False),
        ([], False),
    ],
)
async def test_one_loopback_address_among_others_makes_no_registry_insecure(monkeypatch, addresses, insecure):
    """Else a forged answer of a name server would have passwords sent to any host, without TLS that proves who it is."""

    async def resolved(_: str):
        return [ipaddress.ip_address(address) for address in addresses]

    monkeypatch.setattr(hosts, "_addresses", resolved)
    assert await Hosts().insecure("registry.test") is insecure


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://anna:s3cret@proxy:3128", "http://xxxxx:xxxxx@proxy:3128"),
        ("http://anna:s3cr/et@proxy:3128/x", "http://xxxxx:xxxxx@proxy:3128/x"),
        ("http://anna:s3c@r3t?x@proxy", "http://xxxxx:xxxxx@proxy"),
        ("http://anna:s3cret://x@proxy", "http://xxxxx:xxxxx@proxy"),
        ("anna:s3cret@proxy:3128", "xxxxx:xxxxx@proxy:3128"),
        ("http://proxy:3128/a", "http://proxy:3128/a"),
        ("proxy:3128", "proxy:3128"),
        ("", ""),
    ],
)
def test_addresses_for_people_to_see(text, shown):
    assert masked(text) == shown


@pytest.mark.parametrize(
    "address",
    [
        "http://anna:s3cret/x@proxy:3128",
        "anna:s3cret@proxy:x",
        "http://anna:s3cret@[proxy",
        "socks5://anna:s3cret@proxy",
        "http://anna:s3cret@proxy:99999",
    ],
)
def test_a_proxy_that_can_not_be_used_is_told_without_its_password(address):
    with pytest.raises(RegistryError) as caught:
        Proxies(https_proxy=address).for_url(URL("https://registry.test"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["ftp://anna:s3cret@m.test", "https://anna:s3cret@m.test?q", "https://anna:s3cret@m.test:x", "https://anna:s3cret@m.test"],
)
def test_a_mirror_that_can_not_be_used_is_told_without_its_password(address):
    with pytest.raises(RegistryError) as caught:
        check_mirror(address)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "file"),
    [
        ({"https-proxy": "http://anna:s3cret@a:1"}, {"https-proxy": "http://anna:s3cret@b:1"}),
        ({"proxies": ["https-proxy=http://anna:s3cret@a:1"]}, {"proxies": {"https-proxy": "http://anna:s3cret@b:1"}}),
        ({"registry-mirrors": ["https://anna:s3cret@a"]}, {"registry-mirrors": ["https://anna:s3cret@b"]}),
    ],
)
def test_settings_given_twice_are_told_without_their_passwords(tmp_path, flags, file):
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps(file))
    with pytest.raises(config.ConfigError, match="specified both as a flag and in the configuration file") as caught:
        config.load(flags, str(path))
    assert SECRET not in str(caught.value)
    assert "xxxxx:xxxxx@" in str(caught.value)
