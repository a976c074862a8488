"""ADD, and contexts of URLs, don't reach the API of the engine that builds, wherever it listens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web
from conftest import needs_root
from support.build_api import build, dockerfile
from support.daemon import Daemon
from support.daemons import running

pytestmark = needs_root

REFUSED = "that is where this engine itself listens"


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Daemon, str]]:
    """A daemon that serves TCP, and its port."""
    with running(Daemon("-H", "tcp://0.0.0.0:0", "--insecure-tcp")) as daemon:
        yield daemon, daemon.log().rpartition("tcp://0.0.0.0:")[2].split('"')[0]


@pytest.fixture
async def site() -> AsyncIterator[web.AppRunner]:
    app = web.Application()
    app.router.add_get("/file", _file)
    app.router.add_get("/to/{port}", _to)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner
    await runner.cleanup()


async def _file(request: web.Request) -> web.Response:
    return web.Response(text="FROM scratch\n")


async def _to(request: web.Request) -> web.Response:
    raise web.HTTPFound(f"http://127.0.0.1:{request.match_info['port']}/version")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3", "0.0.0.0", "[::ffff:127.0.0.1]"])
async def test_add_does_not_reach_the_engine(served, host):
    daemon, port = served
    answer = await build(daemon, dockerfile(f"FROM scratch\nADD http://{host}:{port}/version /\n"))
    assert REFUSED in answer.error["message"]


async def test_nor_does_a_redirect_or_a_context(served, site):
    daemon, port = served
    there = f"http://127.0.0.1:{site.addresses[0][1]}"
    answer = await build(daemon, dockerfile(f"FROM scratch\nADD {there}/to/{port} /\n"))
    assert REFUSED in answer.error["message"]
    answer = await build(daemon, b"", remote=f"http://127.0.0.1:{port}/version")
    assert REFUSED in answer.error["message"]


async def test_other_ports_of_the_machine_are_reached_as_ever(served, site):
    daemon, _ = served
    there = f"http://127.0.0.1:{site.addresses[0][1]}"
    answer = await build(daemon, dockerfile(f"FROM scratch\nADD {there}/file /\n"))
    assert "Successfully built" in answer.text
