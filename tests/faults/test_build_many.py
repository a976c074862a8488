"""Many builds at once: they queue, share what is the same, are given up one by one, and nothing in use is ever pruned."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess

import aiohttp
import pytest
from conftest import needs_root
from support.build_api import TAR, Answer, api, build, build_ours, dockerfile, logs
from support.daemon import Daemon, wait_until

pytestmark = [needs_root, pytest.mark.timeout(300)]


def left(daemon: Daemon) -> list[str]:
    """What builds may leave behind when they shouldn't."""
    data = daemon.data_root
    return [
        *(f"scratch {name}" for name in os.listdir(data / "build/scratch")),
        *(f"command {name}" for name in os.listdir(data / "transients")),
        *(f"blob {name}" for name in os.listdir(data / "content/ingest")),
        *(f"layer {name}" for name in os.listdir(data / "snapshots") if name.startswith(("unpacking", "removing"))),
        *(f"{record['ID']} in use" for record in daemon.get("/system/df")["BuildCache"] if record["InUse"]),
    ]


async def nothing_left(daemon: Daemon) -> None:
    await asyncio.to_thread(wait_until, lambda: not left(daemon), "nothing is left of builds", 30)


async def contents(daemon: Daemon, image: str, *paths: str) -> bytes:
    """Files of an image."""
    run = ("run", "--rm", "--network=none", image, "cat", *paths)
    return (await asyncio.to_thread(daemon.cli, "boxship", *run)).stdout


async def test_sixty_four_at_once(daemon):
    def text(number: int) -> bytes:
        return dockerfile(f"FROM busybox\nCOPY a /a\nRUN echo {number} > /n\n", a=f"{number} too")

    answers = await asyncio.gather(*(build(daemon, text(number), t=f"many:{number}") for number in range(64)))
    assert len({answer.image for answer in answers}) == 64
    for number in (0, 31, 63):
        assert await contents(daemon, f"many:{number}", "/n", "/a") == f"{number}\n{number} too".encode()
    await nothing_left(daemon)


async def test_the_same_from_eight_clients_is_done_once(daemon):
    # The commands count themselves in a cache; with nothing shared there would be eight lines each.
    steps = "".join(
        f"RUN --mount=type=cache,id=counted,target=/c echo {step} >> /c/count; sleep 0.2; echo {step} > /{step}\n"
        for step in ("one", "two", "three")
    )
    body = dockerfile(f"FROM busybox\nCOPY a /a\n{steps}", a="A")
    answers = await asyncio.gather(*(build(daemon, body) for _ in range(8)))
    assert len({answer.image for answer in answers}) == 1
    told = await build_ours(
        daemon,
        {"text": "FROM busybox\nRUN --mount=type=cache,id=counted,target=/c cat /c/count; rm /c/count\n", "no_cache": True},
    )
    assert logs(told) == b"one\ntwo\nthree\n"
    await nothing_left(daemon)


GO = "while [ ! -e /c/go ]; do sleep 0.05; done"
SHARED = f"FROM busybox\nRUN --mount=type=cache,id=shared,target=/c echo begun; {GO}; rm /c/go; echo ended > /ended\n"


async def go(daemon: Daemon) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,id=shared,target=/c touch /c/go\n"
    assert (await build_ours(daemon, {"text": text, "no_cache": True})).image


@contextlib.asynccontextmanager
async def begun(session: aiohttp.ClientSession, **query: str):
    """A build whose command has begun, and its answer."""
    async with session.post("/build", params=query, data=dockerfile(SHARED), headers=TAR) as answer:
        text = b""
        while b"begun" not in text:
            piece = await answer.content.readany()
            assert piece, text
            text += piece
        yield answer


async def test_who_goes_away_takes_no_step_from_others(daemon):
    """Three builds wait for one command: the one that began it is cancelled, one is cut off, and the third gets it."""
    async with (
        api(daemon) as first,
        api(daemon) as second,
        api(daemon) as third,
        begun(first, buildid="first") as one,
        begun(third, t="third") as last,
    ):
        async with begun(second):
            assert (await first.post("/build/cancel?id=first")).status == 200
            assert b"cancelled" in await one.content.read()
            await second.close()
        await go(daemon)
        end = await last.content.read()
        assert b"Successfully built" in end, end
    assert await contents(daemon, "third", "/ended") == b"ended\n"
    await nothing_left(daemon)


STEPS = {
    "command": ("FROM busybox\nRUN echo begun; sleep 1000\n", "echo begun; sleep"),
    "command that ignores signals": ("FROM busybox\nRUN trap '' INT TERM HUP; echo begun; sleep 1000 & wait\n", "trap"),
    "copy": ("FROM busybox\nCOPY . /many\n", "COPY . /many"),
    "export": ("FROM busybox\nCOPY . /many\n", "exporting"),
}


@pytest.mark.parametrize(("client", "step"), [("docker", "command"), *(("boxship", step) for step in STEPS)])
def test_an_interrupted_client_ends_its_build(daemon, tmp_path, client, step):
    text, said = STEPS[step]
    (tmp_path / "Dockerfile").write_text(text)
    if "many" in text:
        for number in range(3000):
            (tmp_path / str(number)).write_bytes(os.urandom(3000))
    flags = ("--progress=plain",) if client == "boxship" else ()
    command = [*daemon.command(client), "build", "--no-cache", *flags, str(tmp_path)]
    env = {**daemon.env(), "DOCKER_BUILDKIT": "0"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if (said if client == "boxship" else "begun").encode() in line and b"Step" not in line:
                break
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(60) != 0 or step == "export"
    wait_until(lambda: not left(daemon), "nothing is left of the build", 10)


async def test_pruning_takes_nothing_that_is_in_use(daemon):
    """While builds run, over and over, everything is pruned, over and over; each of them is right all the same."""
    ended = False
    rounds = 0

    async def prune() -> None:
        nonlocal rounds
        async with api(daemon) as session:
            while not ended:
                async with session.post("/build/prune?all=1") as answer:
                    assert answer.status == 200, await answer.text()
                async with session.get("/system/df") as answer:
                    assert answer.status == 200
                async with session.post('/images/prune?filters={"dangling":["true"]}') as answer:
                    assert answer.status == 200
                rounds += 1

    async def one(number: int) -> Answer:
        text = (
            "FROM busybox AS a\nRUN --mount=type=cache,id=kept,target=/c echo x > /c/x; cat /c/x; echo a > /a\n"
            f"FROM busybox\nRUN echo {number % 3} > /n\nCOPY --from=a /a /b\nCOPY f /f\nRUN cat /n /b /f > /all\n"
        )
        return await build(daemon, dockerfile(text, f="file\n"), t=f"pruned:{number}")

    pruning = asyncio.create_task(prune())
    numbers = 0
    try:
        while rounds < 3 and not pruning.done():
            for answer in await asyncio.gather(*(one(number) for number in range(numbers, numbers + 6))):
                assert answer.image
            numbers += 6
    finally:
        ended = True
        await pruning
    for number in range(0, 6, 2):
        assert await contents(daemon, f"pruned:{number}", "/all") == f"{number % 3}\na\nfile\n".encode()
    daemon.request("POST", "/build/prune?all=1")
    assert await contents(daemon, "pruned:3", "/all") == b"0\na\nfile\n"
    assert json.dumps(daemon.get("/system/df"))
    await nothing_left(daemon)
