"""Attaching: the socket is handed over with every byte that follows the request, however it was packed."""

import asyncio
import base64
import json
import os

import pytest

HEAD = b"POST /v1.43/containers/c/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n%s\r\n"
UPGRADE = HEAD % b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n"
PLAIN = HEAD % b""


async def create(api, tty: bool = False) -> None:
    body = json.dumps({"Image": "x", "Tty": tty}).encode()
    await api.request("POST /containers/create?name=c", body, Content_Type="application/json")


@pytest.mark.parametrize("head", [UPGRADE, PLAIN], ids=["upgrade", "plain"])
@pytest.mark.parametrize(
    "packing",
    [
        lambda head, stdin: [head + stdin],
        lambda head, stdin: [head, stdin],
        lambda head, stdin: [head[:-1], head[-1:] + stdin],
        lambda head, stdin: [head[:-2], head[-2:] + stdin],
        lambda head, stdin: [head[:-3], head[-3:] + stdin],
        lambda head, stdin: [b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n" + head + stdin],
        lambda head, stdin: [bytes([byte]) for byte in head] + [stdin],
    ],
    ids=["together", "apart", "cut1", "cut2", "cut3", "pipelined", "bytewise"],
)
async def test_stdin_follows_the_request(api, head, packing):
    await create(api)
    answer = await api.talk(*packing(head, b"GET /evil HTTP/1.1\r\n\r\ninput"), eof=True)
    assert answer.endswith(b"\r\n\r\nGET /evil HTTP/1.1\r\n\r\ninput<end>")
    assert b"404" not in answer


async def test_the_heads_are_dockers(api):
    await create(api)
    answer = await api.talk(UPGRADE, eof=True)
    assert answer.startswith(
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
        b"Connection: Upgrade\r\nUpgrade: tcp\r\nApi-Version: 1.51\r\n"
    )
    answer = await api.talk(PLAIN, eof=True)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n")
    old = await api.talk(UPGRADE.replace(b"v1.43", b"v1.41"), eof=True)
    assert b"application/vnd.docker.raw-stream" in old


async def test_a_terminal_is_raw(api):
    await create(api, tty=True)
    assert b"Content-Type: application/vnd.docker.raw-stream" in await api.talk(UPGRADE, eof=True)


async def test_much_stdin_arrives_whole(api):
    await create(api)
    stdin = os.urandom(3_000_000)
    reader, writer = await asyncio.open_unix_connection(api.path)

    async def send() -> None:
        writer.write(UPGRADE + stdin)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    answer = await asyncio.wait_for(reader.read(), 20)
    await sending
    writer.close()
    assert answer.partition(b"\r\n\r\n")[2] == stdin + b"<end>"


async def test_a_refused_attach_leaves_the_connection_usable(api):
    ping = b"GET /_ping HTTP/1.0\r\n\r\n"
    reader, writer = await asyncio.open_unix_connection(api.path)
    writer.write(UPGRADE)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert json.loads(await reader.readline()) == {"message": "No such container: c"}
    writer.write(ping)
    assert (await reader.read()).endswith(b"OK")
    writer.close()


async def test_a_refused_attach_with_stdin_is_closed(api):
    answer = await api.talk(UPGRADE + b"stdin")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"Connection: close" in answer


WEBSOCKET = (
    "GET /containers/c/attach/ws?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n"
)


async def test_websocket_handshake(api):
    await create(api)
    answer = await api.talk(WEBSOCKET.format("").encode() + b"frames", eof=True)
    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    # The example of RFC 6455, section 1.3.
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert b"Sec-WebSocket-Protocol" not in answer
    assert answer.endswith(b"\r\n\r\nframes<end>")
    answer = await api.talk(WEBSOCKET.format("Sec-WebSocket-Protocol: chat, boxship.multiplexed\r\n").encode(), eof=True)
    assert b"Sec-WebSocket-Protocol: boxship.multiplexed\r\n" in answer
    assert api.containers.framings == ["websocket", "websocket-multiplexed"]
    assert not api.containers.attached[0].stdin
    await api.talk(WEBSOCKET.replace("/containers", "/v1.41/containers").format("").encode(), eof=True)
    assert api.containers.attached[-1].stdin


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Upgrade: WebSocket\r\n", ""),
        ("Version: 13", "Version: 8"),
        ("dGhlIHNhbXBsZSBub25jZQ==", base64.b64encode(b"short").decode()),
        ("dGhlIHNhbXBsZSBub25jZQ==", "%%%"),
    ],
)
async def test_broken_handshakes_are_refused(api, old, new):
    await create(api)
    answer = await api.talk(WEBSOCKET.format("").replace(old, new).encode(), until=b"}")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"not a websocket handshake" in answer
    assert not api.containers.slots


async def test_logs_over_a_websocket(api):
    await create(api)
    request = WEBSOCKET.format("Sec-WebSocket-Protocol: boxship.multiplexed\r\n").replace("attach/ws", "logs/ws")
    answer = await api.talk(request.encode(), until=b"hello\n")
    assert b"Sec-WebSocket-Protocol: boxship.multiplexed\r\n" in answer
    assert b"\x82\x0e\x01\0\0\0\0\0\0\x06hello\n" in answer
