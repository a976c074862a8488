"""aiodocker against the daemon."""

from __future__ import annotations

import aiodocker
import pytest


@pytest.fixture
async def client(daemon):
    async with aiodocker.Docker(url=daemon.host) as docker:
        yield docker


async def test_a_containers_life(client):
    container = await client.containers.create(
        {"Image": "busybox", "Cmd": ["sh", "-c", "echo out; echo err >&2; exit 4"], "HostConfig": {"NetworkMode": "none"}},
        name="from-aiodocker",
    )
    await container.start()
    waiting = await container.wait()
    assert waiting["StatusCode"] == 4
    assert await container.log(stdout=True) == ["out\n"]
    assert await container.log(stderr=True) == ["err\n"]
    shown = await container.show()
    assert shown["State"]["ExitCode"] == 4
    await container.delete()
    with pytest.raises(aiodocker.DockerError) as caught:
        await container.show()
    assert caught.value.status == 404


async def test_attach_both_ways(client):
    container = await client.containers.create({"Image": "busybox", "Cmd": ["cat"], "OpenStdin": True, "StdinOnce": True})
    async with container.attach(stdin=True, stdout=True, stderr=True) as stream:
        await container.start()
        await stream.write_in(b"hello")
        message = await stream.read_out()
        assert (message.stream, message.data) == (1, b"hello")
    await container.delete(force=True)


async def test_attach_over_a_websocket(client):
    container = await client.containers.create({"Image": "busybox", "Cmd": ["cat"], "OpenStdin": True, "Tty": True})
    await container.start()
    socket = await container.websocket(stdin=True, stdout=True, stream=True)
    await socket.send_str("typed\n")
    got = b""
    while got.count(b"typed") < 2:
        message = await socket.receive(timeout=20)
        got += message.data if isinstance(message.data, bytes) else message.data.encode()
    await socket.close()
    await container.delete(force=True)


async def test_a_websocket_gets_what_was_written_before(client):
    container = await client.containers.create({"Image": "busybox", "Cmd": ["sh", "-c", "echo before; cat"], "OpenStdin": True})
    await container.start()
    while await container.log(stdout=True) != ["before\n"]:
        pass
    socket = await container.websocket(stdin=True, stdout=True, stream=True, logs=True)
    assert (await socket.receive(timeout=20)).data == b"before\n"
    await socket.close()
    await container.delete(force=True)


async def test_images_and_system(client):
    assert (await client.version())["ApiVersion"] == "1.51"
    assert "busybox:latest" in (await client.images.inspect("busybox"))["RepoTags"]
    assert any("busybox:latest" in (image["RepoTags"] or []) for image in await client.images.list())
    assert (await client.system.info())["Driver"]


async def test_logs_followed(client):
    container = await client.containers.create({"Image": "busybox", "Cmd": ["sh", "-c", "for i in 1 2 3; do echo $i; done"]})
    await container.start()
    lines = [line async for line in container.log(stdout=True, follow=True)]
    assert "".join(lines) == "1\n2\n3\n"
    await container.delete(force=True)
