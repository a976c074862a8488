"""What pulls and pushes tell, and to whom."""

import asyncio

from boxshipd.images import choice, output
from boxshipd.images.distribution import named
from boxshipd.images.model import Platform
from boxshipd.images.output import Output
from boxshipd.images.sharing import Sharing
from boxshipd.registry.documents import RemoteDescriptor, RemoteIndex, RemotePlatform


async def told(stream: Output) -> list[tuple[str, str]]:
    return [(message.id or "", message.status) async for message in stream.follow()]


async def test_whoever_comes_late_is_told_everything():
    stream = Output()
    stream.message("Pulling from x", "latest")
    early = asyncio.create_task(told(stream))
    stream.update("layer", "Pulling fs layer")
    stream.progress("layer", "Downloading", 0, 10)
    await asyncio.sleep(0)
    stream.progress("layer", "Downloading", 10, 10)
    stream.update("layer", "Download complete")
    stream.end()
    whole = [
        ("latest", "Pulling from x"),
        ("layer", "Pulling fs layer"),
        ("layer", "Downloading"),
        ("layer", "Download complete"),
    ]
    assert await told(stream) == whole
    assert [step for step in await early if step != ("layer", "Downloading")] == [w for w in whole if w[1] != "Downloading"]


async def test_progress_is_told_ten_times_a_second_at_most():
    stream = Output()
    follower = asyncio.create_task(told(stream))
    for count in range(1000):
        stream.progress("layer", "Downloading", count, 1000)
        await asyncio.sleep(0)
    stream.end()
    assert len(await follower) < 50


def test_bars_are_dockers():
    assert output.bar(0, 0, 0) == ""
    assert output.bar(50, 0, 0) == "     50B"
    assert output.bar(50, 100, 1) == "[" + "=" * 25 + ">" + " " * 25 + "]      50B/100B 1s"
    assert output.bar(100, 100, 1) == "[" + "=" * 50 + ">]     100B/100B"
    assert output.size(2_129_920) == "2.13MB"
    assert output.size(999) == "999B"


async def test_work_is_shared_and_ends_with_its_last_follower():
    sharing, begun, ended = Sharing(), [], []

    async def work(stream: Output) -> None:
        begun.append(stream)
        stream.message("begun")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(stream)

    first, second = sharing.follow("key", work), sharing.follow("key", work)
    assert [(await anext(first)).status, (await anext(second)).status] == ["begun", "begun"]
    assert len(begun) == 1
    await first.aclose()
    assert not ended
    await second.aclose()
    assert ended == begun
    third = sharing.follow("key", work)
    await anext(third)
    assert len(begun) == 2
    await third.aclose()


def descriptor(digit: str, architecture: str, variant: str = "", system: str = "linux") -> RemoteDescriptor:
    return RemoteDescriptor("t", f"sha256:{digit * 64}", 1, platform=RemotePlatform(architecture, system, variant=variant))


def test_the_best_platform_is_chosen():
    index = RemoteIndex([descriptor("1", "386"), descriptor("2", "arm", "v6"), descriptor("3", "arm", "v7"), descriptor("4", "arm64", "v8"), descriptor("5", "amd64", system="windows")])  # fmt: skip
    chosen = {text: choice.choose(index, platform).digest[7] for text, platform in {
        "amd64": Platform("amd64", "linux"), "arm64": Platform("arm64", "linux"), "v7": Platform("arm", "linux", "v7"),
        "v6": Platform("arm", "linux", "v6"), "arm": Platform("arm", "linux"),
    }.items()}  # fmt: skip
    assert chosen == {"amd64": "1", "arm64": "4", "v7": "3", "v6": "2", "arm": "3"}


def test_names_of_pulls():
    digest = "sha256:" + "a" * 64
    assert str(named("busybox", "1")) == "docker.io/library/busybox:1"
    assert str(named("busybox:1", "2")) == "docker.io/library/busybox:2"
    assert str(named("busybox", digest)) == f"docker.io/library/busybox@{digest}"
    assert str(named(f"busybox@{digest}", "1")) == f"docker.io/library/busybox@{digest}"
    assert str(named("busybox", "")) == "docker.io/library/busybox"
