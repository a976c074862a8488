"""Files that are downloaded: what they become, and how seldom they are."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from boxrun.container.spec import Resources
from boxship.types.build import BuildStatus
from boxshipd.builder.cache.fetched import Fetched
from boxshipd.builder.executor import Surroundings, Work
from boxshipd.builder.graph import HttpSource, Vertex
from boxshipd.builder.ops.http import HttpExecutor
from boxshipd.builder.progress import Reporter
from boxshipd.builder.results import Tree
from boxshipd.errors import DaemonError, InvalidParameter
from boxshipd.images.distribution import Distribution
from boxshipd.images.errors import DigestMismatch, LimitExceeded
from boxshipd.images.service import Images
from boxshipd.images.workers import Workers
from boxshipd.registry.errors import RegistryError
from boxshipd.registry.proxies import Proxies
from boxshipd.registry.settings import ClientSettings
from boxshipd.scheduler.jobs import Scheduler
from boxshipd.state.store import Store
from support.building import Client

DATE = "Sat, 01 Jan 2022 12:00:00 GMT"
SECONDS = 1641038400


class Site:
    """A web server that counts what it is asked for."""

    def __init__(self) -> None:
        self.content = b"first\n"
        self.etag = '"1"'
        self.account = ""
        self.asked: list[tuple[str, int]] = []

    async def file(self, request: web.Request) -> web.Response:
        status = 304 if request.headers.get("If-None-Match") == self.etag else 200
        self.asked.append((request.path, status))
        headers = {"ETag": self.etag, "Last-Modified": DATE}
        return web.Response(status=status, body=self.content if status == 200 else None, headers=headers)

    async def dated(self, request: web.Request) -> web.Response:
        status = 304 if request.headers.get("If-Modified-Since") == DATE else 200
        self.asked.append((request.path, status))
        return web.Response(status=status, body=self.content if status == 200 else None, headers={"Last-Modified": DATE})

    async def named(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, 200))
        return web.Response(body=self.content, headers={"Content-Disposition": 'attachment; filename="given.txt"'})

    async def private(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, 200))
        if request.headers.get("Authorization") != self.account:
            raise web.HTTPUnauthorized
        return web.Response(body=self.content)

    async def elsewhere(self, request: web.Request) -> web.Response:
        # Another origin: the same server by another name.
        raise web.HTTPFound(f"http://localhost:{request.url.port}/private")

    async def redirected(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/file.txt")

    async def circle(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/circle")

    async def missing(self, request: web.Request) -> web.Response:
        return web.Response(status=404, text="nothing here")

    async def cut(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"only this")
        assert request.transport is not None
        request.transport.abort()
        return response


@pytest.fixture
async def site() -> AsyncIterator[tuple[Site, str]]:
    site = Site()
    app = web.Application()
    app.router.add_get("/file.txt", site.file)
    app.router.add_get("/dated", site.dated)
    app.router.add_get("/named", site.named)
    app.router.add_get("/redirected", site.redirected)
    app.router.add_get("/private", site.private)
    app.router.add_get("/elsewhere", site.elsewhere)
    app.router.add_get("/circle", site.circle)
    app.router.add_get("/cut", site.cut)
    app.router.add_get("/{other:.*}", site.missing)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    port = runner.addresses[0][1]
    yield site, f"http://127.0.0.1:{port}"
    await runner.cleanup()


class Fetching:
    """Carries out ``HttpSource``, as often as wanted."""

    def __init__(self, home: Path, distribution: Distribution, workers: Workers) -> None:
        self.home = home
        self.client = Client()
        self.statuses: list[BuildStatus] = []
        scratch = home / "scratch"
        scratch.mkdir()
        self.scratch = str(scratch)
        self.fetched = Fetched(str(home / "fetched"), "regular")
        self.executor = HttpExecutor(distribution, self.fetched, workers, self.scratch, largest=4 << 20)

    async def get(self, url: str, **op) -> Tree:
        source = HttpSource(url=url, **op)
        vertex = Vertex(op=source)
        report = Reporter(vertex, lambda progress: self.statuses.extend(progress.statuses))
        (tree,) = await self.executor.run(source, Work(vertex, (), Surroundings(self.client, Resources()), report))
        assert isinstance(tree, Tree)
        return tree

    async def bytes(self, url: str, **op) -> tuple[str, bytes]:
        """The name and the content of the only file."""
        tree = await self.get(url, **op)
        (entry,) = tree.children(b"")
        with tree.open(entry) as file:
            content = file.read()
        tree.close()
        return entry.path.decode(), content


@pytest.fixture
async def distribution(tmp_path: Path) -> AsyncIterator[Distribution]:
    store = Store.open(str(tmp_path / "state.db"))
    images = await Images.open(str(tmp_path), store, publish=lambda *_: None, uses=lambda _: ())
    distribution = Distribution(images, Scheduler(), ClientSettings(proxies=Proxies(no_proxy="127.0.0.1")))
    yield distribution
    await distribution.close()
    images.close()
    store.close()


@pytest.fixture
async def fetching(tmp_path: Path, distribution: Distribution) -> AsyncIterator[Fetching]:
    with Workers() as workers:
        fetching = Fetching(tmp_path, distribution, workers)
        yield fetching
        assert os.listdir(fetching.scratch) == []
        assert not [name for name in os.listdir(tmp_path / "fetched") if name.startswith("new-")]


async def test_a_file_has_its_name_its_time_and_nobody_elses_permissions(fetching: Fetching, site: tuple[Site, str]) -> None:
    tree = await fetching.get(f"{site[1]}/file.txt")
    (entry,) = tree.children(b"")
    assert (entry.path, entry.mode, entry.uid, entry.gid) == (b"file.txt", 0o600, 0, 0)
    assert entry.mtime == SECONDS * 10**9
    with tree.directory() as directory:
        assert Path(directory, "file.txt").read_bytes() == b"first\n"
    tree.close()
    done = [status for status in fetching.statuses if status.completed]
    assert [(status.id, status.current) for status in done] == [("downloading", 6)]


async def test_what_has_not_changed_is_only_asked_about(fetching: Fetching, site: tuple[Site, str]) -> None:
    server, root = site
    for path in ("file.txt", "dated"):
        server.asked.clear()
        first = await fetching.get(f"{root}/{path}")
        second = await fetching.get(f"{root}/{path}")
        assert first.digest == second.digest
        first.close()
        second.close()
        assert server.asked == [(f"/{path}", 200), (f"/{path}", 304)]


async def test_what_has_changed_comes_anew_while_others_still_use_the_old(fetching: Fetching, site: tuple[Site, str]) -> None:
    server, root = site
    old = await fetching.get(f"{root}/file.txt")
    server.content, server.etag = b"second\n", '"2"'
    new = await fetching.get(f"{root}/file.txt")
    assert old.digest != new.digest
    for tree, content in ((old, b"first\n"), (new, b"second\n")):
        (entry,) = tree.children(b"")
        with tree.open(entry) as file:
            assert file.read() == content
        tree.close()


async def test_a_checksum_is_kept_to_and_makes_asking_unnecessary(fetching: Fetching, site: tuple[Site, str]) -> None:
    server, root = site
    good = "sha256:" + hashlib.sha256(b"first\n").hexdigest()
    for _ in range(2):
        assert (await fetching.bytes(f"{root}/file.txt", checksum=good))[1] == b"first\n"
    assert server.asked == [("/file.txt", 200)]
    longer = "sha512:" + hashlib.sha512(b"first\n").hexdigest()
    assert (await fetching.bytes(f"{root}/file.txt", checksum=longer))[1] == b"first\n"
    with pytest.raises(DigestMismatch, match="expected: sha256:0000"):
        await fetching.get(f"{root}/file.txt", checksum="sha256:" + "0" * 64)
    with pytest.raises(InvalidParameter):
        await fetching.get(f"{root}/file.txt", checksum="md5:abc")


async def test_a_files_name_is_the_one_asked_for_or_given_or_the_urls(fetching: Fetching, site: tuple[Site, str]) -> None:
    _, root = site
    assert (await fetching.bytes(f"{root}/named"))[0] == "given.txt"
    assert (await fetching.bytes(f"{root}/named", filename="mine"))[0] == "mine"
    assert (await fetching.bytes(f"{root}/redirected"))[0] == "redirected"
    assert (await fetching.bytes(f"{root}/file.txt?x=1"))[0] == "file.txt"


async def test_what_fails_leaves_nothing(fetching: Fetching, site: tuple[Site, str]) -> None:
    server, root = site
    for path in ("none", "circle", "cut"):
        with pytest.raises(RegistryError):
            await fetching.get(f"{root}/{path}")
    server.content = bytes((4 << 20) + 1)
    with pytest.raises(LimitExceeded, match="more than 4194304 bytes"):
        await fetching.get(f"{root}/file.txt")
    for url in ("ftp://x/y", "http://", "http://127.0.0.1:1/x"):
        with pytest.raises(DaemonError):
            await fetching.get(url)
    assert os.listdir(fetching.home / "fetched") == []


async def test_a_context_that_is_an_archive_is_what_it_holds(fetching: Fetching, site: tuple[Site, str]) -> None:
    server, root = site
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        info = tarfile.TarInfo("Dockerfile")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"FROM"))
    server.content = packed.getvalue()
    tree = await fetching.get(f"{root}/file.txt", unpack=True)
    assert [entry.path for entry in tree.children(b"")] == [b"Dockerfile"]
    tree.close()
    assert (await fetching.bytes(f"{root}/file.txt"))[1] == packed.getvalue()
    server.content, server.etag = b"FROM scratch\n", '"3"'
    assert (await fetching.bytes(f"{root}/file.txt", unpack=True, filename="context")) == ("context", b"FROM scratch\n")


async def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    fetched = Fetched(str(tmp_path), "regular", limit=10 << 10)
    for number in range(4):
        new = fetched.new()
        Path(new, "data").write_bytes(bytes([number + 1]) * 4096)
        fetched.keep(new, str(number), "something")
        if number:
            fetched.give_back(str(number))
    # The first one is still in use, so the second and the third had to go.
    assert sorted(os.listdir(tmp_path)) == ["0", "3"]
    assert fetched.find("1") is None


@pytest.mark.parametrize(
    ("secrets", "header"),
    [
        ({"HTTP_AUTH_TOKEN_127.0.0.1": b"word\n"}, "Bearer word"),
        ({"HTTP_AUTH_HEADER_127.0.0.1": b"Basic d29yZA==\n"}, "Basic d29yZA=="),
        ({"HTTP_AUTH_TOKEN_127.0.0.1": b"token", "HTTP_AUTH_HEADER_127.0.0.1": b"header"}, "Bearer token"),
    ],
)
async def test_a_secret_of_the_client_s_opens_what_is_private(
    fetching: Fetching, site: tuple[Site, str], secrets, header
) -> None:
    server, root = site
    server.account = header
    with pytest.raises(RegistryError, match=r"401|nauthorized"):
        await fetching.bytes(f"{root}/private")
    fetching.client.secrets = secrets
    assert await fetching.bytes(f"{root}/private") == ("private", b"first\n")
    if len(secrets) == 1:
        with_account = root.replace("://", "://me:password@")
        assert (await fetching.bytes(f"{with_account}/private"))[1] == b"first\n", "a secret counts before the URL's account"
    fetching.client.secrets = {}
    with pytest.raises(RegistryError, match=r"401|nauthorized"):
        await fetching.bytes(f"{root}/private")
    for path in (fetching.home / "fetched").rglob("*"):
        assert path.is_dir() or header.split()[-1].encode() not in path.read_bytes()


async def test_a_secret_goes_to_its_own_host_only(fetching: Fetching, site: tuple[Site, str]) -> None:
    server, root = site
    server.account = "Bearer word"
    fetching.client.secrets = {"HTTP_AUTH_TOKEN_127.0.0.2": b"word", "HTTP_AUTH_TOKEN": b"word"}
    with pytest.raises(RegistryError, match=r"401|nauthorized"):
        await fetching.bytes(f"{root}/private")
    fetching.client.secrets = {"HTTP_AUTH_TOKEN_127.0.0.1": b"word"}
    with pytest.raises(RegistryError, match=r"401|nauthorized"):
        await fetching.bytes(f"{root}/elsewhere")
    assert server.asked[-1] == ("/private", 200), "the redirect was followed, without the secret"


@pytest.mark.parametrize("secret", [b"a\nHost: elsewhere", b"a\0b", b"\xff"])
async def test_a_secret_that_is_no_header_is_refused_unseen(fetching: Fetching, site: tuple[Site, str], secret: bytes) -> None:
    fetching.client.secrets = {"HTTP_AUTH_HEADER_127.0.0.1": secret}
    with pytest.raises(InvalidParameter, match=r"secret HTTP_AUTH_HEADER_127\.0\.0\.1 can't be a header") as refused:
        await fetching.bytes(f"{site[1]}/private")
    assert "elsewhere" not in str(refused.value)
