"""Commands of a build that do their worst, servers and clients that break the rules: the daemon is there, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from boxship.types.build_session import CHUNK, Frame
from conftest import needs_root
from support.build_api import TAR, SessionClient, api, build, build_ours, context, dockerfile, logs
from support.daemon import Daemon, wait_until

pytestmark = [needs_root, pytest.mark.timeout(300)]


def resident(daemon: Daemon) -> int:
    """The daemon's memory, in bytes."""
    assert daemon.process is not None
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class peak:  # noqa: N801 - reads as a function does
    """The most memory that the daemon has had inside the block, in MiB, beyond what it had before."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._ended = threading.Event()
        self.grown = 0

    def __enter__(self) -> peak:
        self._before = resident(self._daemon)
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self.grown = max(self.grown, (resident(self._daemon) - self._before) >> 20)


def running(daemon: Daemon) -> bool:
    """Whether any command of a build runs."""
    return bool(os.listdir(daemon.data_root / "transients"))


async def drained(daemon: Daemon, text: str, query: str, *, slow: bool = False) -> tuple[int, bytes]:
    """How much a build tells, and the end of it; a slow client reads nothing until the build's commands have ended."""
    size, end = 0, b""
    url = f"/build?nocache=1&{query}"
    async with api(daemon) as session, session.post(url, data=dockerfile(text), headers=TAR) as answer:
        if slow:
            await asyncio.to_thread(wait_until, lambda: running(daemon), "a command runs", 60)
            await asyncio.to_thread(wait_until, lambda: not running(daemon), "it has ended", 60)
        async for piece in answer.content.iter_any():
            size += len(piece)
            end = (end + piece)[-2000:]
    return size, end


LINES = "yes 0123456789012345678901234567890123456789 | head -c {}"
LOUD = {
    "followed": ("FROM busybox\nRUN " + LINES.format(300_000_000), ""),
    "quiet": ("FROM busybox\nRUN " + LINES.format(300_000_000), "q=1"),
    "slow": ("FROM busybox\nRUN " + LINES.format(300_000_000), ""),
    "one line": ("FROM busybox\nRUN head -c 100000000 /dev/zero | tr '\\\\0' a", ""),
    "byte by byte": ("FROM busybox\nRUN for i in $(seq 40000); do echo -n a; echo -n b >&2; done", ""),
    # It comes from a stage whose turn to be told of is after another's, which waits for it.
    "held": (
        "FROM busybox AS first\nRUN --mount=type=cache,id=held,target=/c while ! rm /c/go; do sleep 0.1; done 2> /dev/null\n"
        f"FROM busybox\nRUN --mount=type=cache,id=held,target=/c {LINES.format(300_000_000)}; touch /c/go\n"
        "COPY --from=first /etc/passwd /x",
        "",
    ),
}


@pytest.mark.parametrize("kind", LOUD)
async def test_endless_output_is_bounded(daemon, kind):
    text, query = LOUD[kind]
    with peak(daemon) as memory:
        size, end = await drained(daemon, text + "\n", query, slow=kind in ("slow", "byte by byte"))
    assert b"Successfully built" in end or kind == "quiet", end
    assert b"errorDetail" not in end
    assert size > 0
    assert memory.grown < 120


DEEDS = {
    "daemons that stay": "for i in 1 2 3; do setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' & done; echo done",
    "daemons that keep its output": "(setsid sleep 1000 &) ; echo done",
    "everything removed": "rm -rf /* 2> /dev/null; echo done",
    "forks without end": "f() { f | f & }; f; f; echo done",
    "its own killer": "kill -9 -1; kill -9 $$; echo done",
    "open files without end": "i=10; while [ $i -lt 500 ]; do eval \"exec $i< /etc/passwd\" || break; i=$((i+1)); done; echo done",
    "deep directories": "i=0; while [ $i -lt 400 ]; do mkdir d && cd d || break; i=$((i+1)); done; echo done",
    "names of every kind": "cd /tmp; touch \"$(printf 'a\\nb')\" \"$(printf '\\377\\376')\" ' ' '*' '.wh.passwd' '.wh..wh..opq'; echo done",
    "files of every kind": "mkfifo /f; mknod /n c 1 3; mknod /b b 8 0; truncate -s 1T /sparse; chmod 7777 /tmp; ln -s / /l; echo done",
    "proc and sys": "for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /sys/power/state; do echo x > $f; done 2> /dev/null; echo done",
}  # fmt: skip


@pytest.mark.parametrize("deed", DEEDS)
async def test_what_a_command_does_ends_with_it(daemon, deed):
    flags = {"limits": {"memory": 256 << 20}} if deed == "forks without end" else {}
    ulimits = [{"Name": "nproc", "Soft": 200, "Hard": 200}] if deed == "forks without end" else []
    text = f"FROM busybox\nRUN {DEEDS[deed]}\n"
    answer = await build_ours(daemon, {"text": text, "no_cache": True, "ulimits": ulimits, **flags})
    assert "ID" in str(answer.documents[-1]) or answer.error["message"]
    if deed not in ("its own killer", "forks without end"):
        assert answer.image
        assert logs(answer).endswith(b"done\n")
    await asyncio.to_thread(wait_until, lambda: not running(daemon), "nothing of it runs")
    answer = await build_ours(daemon, {"text": "FROM busybox\nRUN ls /etc/passwd && echo fine\n", "no_cache": True})
    assert logs(answer) == b"/etc/passwd\nfine\n"


@contextlib.asynccontextmanager
async def serving(**handlers: object) -> AsyncIterator[str]:
    """A server's address; each handler under its name."""
    app = web.Application()
    for name, handler in handlers.items():
        app.router.add_get(f"/{name}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_servers_that_lead_elsewhere(daemon, tmp_path):
    (tmp_path / "sentinel").write_text("only the host knows")

    def to(target: str) -> object:
        async def redirect(request: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": target.format(url=f"http://{request.host}")})

        return redirect

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async def named(request: web.Request) -> web.Response:
        return web.Response(body=b"x", headers={"Content-Disposition": 'attachment; filename="../../../etc/escaped"'})

    handlers = {
        "file": to(f"file://{tmp_path}/sentinel"),
        "socket": to(f"unix://{daemon.socket}"),
        "socket2": to(f"http+unix://{str(daemon.socket).replace('/', '%2F')}/info"),
        "circle": to("{url}/circle"),
        "ftp": to("ftp://127.0.0.1/"),
        "nothing": to("http://"),
        "cut": cut,
    }
    async with serving(**handlers, named=named) as url:
        for name in handlers:
            answer = await build_ours(daemon, {"text": f"FROM scratch\nADD {url}/{name} /x\n"})
            assert "127.0.0.1" in answer.error["message"], name
            assert "only the host knows" not in str(answer.documents)
        answer = await build_ours(daemon, {"text": f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {url}/named /x\n"})
        assert "digest mismatch" in answer.error["message"]
        answer = await build_ours(daemon, {"text": f"FROM busybox\nADD {url}/named /d/\nRUN ls -A /d /etc\n"})
        assert b"escaped" not in logs(answer)
        assert b"/d:\ndownload\n" in logs(answer) or b"/d:\nnamed\n" in logs(answer)


async def test_servers_that_never_end(daemon):
    """What is endless, or silent, goes on until the client has enough, and is gone with it."""
    begun = asyncio.Event()
    lost = asyncio.Semaphore(0)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        begun.set()
        try:
            while True:
                await response.write(bytes(1 << 16))
                await asyncio.sleep(0.01)
        finally:
            lost.release()

    async def silent(request: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            lost.release()
        raise AssertionError

    async with serving(endless=endless, silent=silent) as url:
        for name in ("endless", "silent"):
            begun.clear()
            task = asyncio.create_task(build_ours(daemon, {"text": f"FROM scratch\nADD {url}/{name} /x\n"}))
            await begun.wait()
            task.cancel()
            await asyncio.wait([task])
            async with asyncio.timeout(60):
                await lost.acquire()
        await asyncio.to_thread(wait_until, lambda: not left(daemon), f"nothing is left: {left(daemon)}")


def left(daemon: Daemon) -> list[str]:
    """What a build may leave behind when it shouldn't."""
    build = daemon.data_root / "build"
    return [
        *(f"scratch {name}" for name in os.listdir(build / "scratch")),
        *(f"command {name}" for name in os.listdir(daemon.data_root / "transients")),
        *(f"download {name}" for name in os.listdir(build / "downloads") if len(name) != 64),
        *(f"blob {name}" for name in os.listdir(daemon.data_root / "content/ingest")),
        *(f"layer {name}" for name in os.listdir(daemon.data_root / "snapshots") if name.startswith(("unpacking", "removing"))),
    ]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of the host's."""
    directory = tmp_path / "x.git"
    subprocess.run(["git", "init", "--quiet", str(directory)], check=True)
    return directory


@pytest.mark.parametrize(
    "source",
    [
        "https://--upload-pack=touch${IFS}{mark}/x.git",
        "git@-oProxyCommand=touch${IFS}{mark}:x/y.git",
        "ssh://-oProxyCommand=touch${IFS}{mark}/x.git",
        "git://127.0.0.1:1/-x.git#--upload-pack=touch${IFS}{mark}",
        "http://127.0.0.1:1/x.git#--output={mark}",
        "http://127.0.0.1:1/x.git#main:../../../..{host}",
        "git://127.0.0.1:1/--upload-pack=touch.git",
        "ext::sh -c touch% {mark} x.git",
        "file://{host}/x.git",
    ],
)
async def test_addresses_of_repositories_run_nothing(daemon, tmp_path, repository, source):
    mark = tmp_path / "mark"
    source = source.replace("{mark}", str(mark)).replace("{host}", str(tmp_path))
    text = f"FROM busybox\nADD {json.dumps([source, '/x'])}\nRUN ls -A /x\n"
    answer = await build_ours(daemon, {"text": text, "build_args": {"IFS": " "}}, {"context context": context({"a": ""})})
    assert answer.error["message"]
    answer = await build_ours(daemon, {"remote": source})
    assert answer.error["message"]
    assert not mark.exists()
    assert os.listdir(tmp_path) == [repository.name]


async def test_clients_that_break_their_session(daemon):
    """Whatever they send for a stream, the build ends with an error, and the daemon is there for the next."""
    frames = {
        "too much": [{"kind": "data", "data": bytes(CHUNK)}] * 40,
        "after the end": [{"kind": "end"}, {"kind": "data", "data": b"x"}],
        "receipts for nothing": [{"kind": "ack", "count": 1 << 40}],
        "negative receipts": [{"kind": "ack", "count": -(1 << 40)}],
        "opened by the client": [{"kind": "open", "method": "secret", "name": "x"}],
        "an error": [{"kind": "error", "message": "\x1b]0;title\x07" + "x" * 5000}],
        "nothing, and gone": [],
        "half, and gone": [{"kind": "data", "data": bytes(10_000)}],
    }
    text = "FROM busybox\nCOPY a /a\nRUN --mount=type=secret,id=s cat /run/secrets/s\n"
    for name, sent in frames.items():

        class Breaker(SessionClient):
            async def serve(self, socket: aiohttp.ClientWebSocketResponse) -> None:
                async for message in socket:
                    opened = msgspec.msgpack.decode(message.data, type=Frame)
                    if opened.kind != "open":
                        continue
                    for frame in sent:  # noqa: B023 - used up within the turn
                        with contextlib.suppress(ConnectionError):
                            await socket.send_bytes(msgspec.msgpack.encode(Frame(stream=opened.stream, **frame)))
                    if "gone" in name:  # noqa: B023
                        await socket.close()

        answer = await asyncio.wait_for(build_ours(daemon, {"text": text}, client=Breaker({})), 60)
        assert answer.error["message"], name
        assert not [each for each in left(daemon) if each.startswith("scratch")], name
    supplies = {"context context": context({"a": ""}), "secret s": bytes(100 << 20)}
    answer = await build_ours(daemon, {"text": text}, supplies)
    assert "more than" in answer.error["message"]
    assert (await build_ours(daemon, {"text": text}, {**supplies, "secret s": b"fine"})).image


async def test_contexts_that_never_end_or_are_cut(daemon):
    """A context that comes byte by byte holds up nobody; one that is cut off leaves nothing."""
    whole = dockerfile("FROM scratch\nCOPY a /\n", a="x" * 100_000)
    going = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield whole[:5000]
        going.set()
        while True:
            yield b"x"
            await asyncio.sleep(0.05)

    slow = [asyncio.create_task(build(daemon, slowly())) for _ in range(20)]
    await going.wait()
    assert (await build(daemon, whole)).image
    for task in slow:
        task.cancel()
    await asyncio.wait(slow)
    await asyncio.to_thread(wait_until, lambda: not left(daemon), f"nothing is left: {left(daemon)}")
    for end in (0, 100, 700, 5000):
        assert (await build(daemon, whole[:end])).error["message"]
    assert not left(daemon)


async def test_what_the_clients_show_prints_only(daemon, tmp_path):
    escape = "\x1b]0;owned\x07\x1b[2J\x9b31m"
    (tmp_path / "Dockerfile").write_text(
        f"FROM busybox\nRUN printf '\\033]0;owned\\007\\033[2J\\r\\b' && echo 'a{escape}b'\nRUN echo {escape} && false\n"
    )
    done = await asyncio.to_thread(daemon.cli, "boxship", "build", "--progress=plain", str(tmp_path), code=1)
    said = done.stderr.decode() + done.stdout.decode()
    assert "echo" in said
    assert not [character for character in said if not character.isprintable() and character != "\n"]
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\nBOGUS {escape}\n")
    done = await asyncio.to_thread(daemon.cli, "boxship", "build", "--progress=plain", str(tmp_path), code=1)
    assert not [character for character in done.stderr.decode() if not character.isprintable() and character != "\n"]
