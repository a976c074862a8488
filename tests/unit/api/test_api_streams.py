"""Answers that take their time: wait, events, logs, progress; and what happens when the client leaves meanwhile."""

import asyncio
import json

import pytest
from boxship.types.containers import WaitResponse

CREATE = {"Content_Type": "application/json"}


@pytest.fixture
async def container(api):
    await api.request("POST /containers/create?name=c", b'{"Image":"x"}', **CREATE)
    return "c"


async def test_wait_answers_its_head_as_soon_as_it_waits(api, container):
    reader, writer = await asyncio.open_unix_connection(api.path)
    writer.write(b"POST /v1.43/containers/c/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    api.containers.exited.set_result(WaitResponse(status_code=3))
    assert b'{"StatusCode":3}' in await reader.read()
    writer.close()


async def test_wait_refuses_unknown_conditions(api, container):
    status, _, body = await api.request("POST /containers/c/wait?condition=never")
    assert (status, json.loads(body)["message"]) == (400, 'invalid condition: "never"')
    assert (await api.request("POST /containers/none/wait"))[0] == 404


async def test_events_flow_until_the_client_leaves(api):
    reader, writer = await asyncio.open_unix_connection(api.path)
    query = "filters=%7B%22type%22%3A%5B%22container%22%5D%7D"
    writer.write(f"GET /events?{query} HTTP/1.0\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.0 200")
    api.events.publish("image", "tag", "i")
    api.events.publish("container", "start", "c", {"image": "x"})
    event = json.loads(await reader.readline())
    assert (event["Action"], event["Actor"]["ID"], event["from"]) == ("start", "c", "x")
    assert api.events.followers == 1
    writer.close()
    async with asyncio.timeout(5):
        while api.events.followers:  # noqa: ASYNC110 - nobody is told of a follower's leaving
            await asyncio.sleep(0)


async def test_events_of_the_past_end_by_themselves(api):
    api.events.publish("container", "die", "c")
    status, _, body = await api.request("GET /events?since=1h&until=0s")
    assert status == 200
    assert [json.loads(line)["Action"] for line in body.splitlines()] == ["die"]
    status, _, body = await api.request("GET /events?since=5&until=4")
    assert status == 400
    assert "cannot be after" in json.loads(body)["message"]
    assert (await api.request("GET /events?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D"))[0] == 400


async def test_logs_are_framed_for_containers_without_a_terminal(api, container):
    status, headers, body = await api.request("GET /containers/c/logs?stdout=1")
    assert (status, headers["content-type"]) == (200, "application/vnd.docker.multiplexed-stream")
    assert body == b"\x01\0\0\0\0\0\0\x06hello\n"
    _, headers, _ = await api.request("GET /v1.41/containers/c/logs?stdout=1")
    assert headers["content-type"] == "application/vnd.docker.raw-stream"
    status, _, body = await api.request("GET /containers/c/logs")
    assert (status, json.loads(body)["message"]) == (400, "Bad parameters: you must choose at least one stream")


async def test_progress_errors_before_the_first_message_have_a_status(api):
    status, _, body = await api.request("POST /images/load", b"bad archive")
    assert (status, json.loads(body)["message"]) == (404, "no manifest")


async def test_progress_errors_on_the_way_end_the_stream(api):
    status, _, body = await api.request("POST /images/load", b"thirteen bytes"[:13])
    first, last = map(json.loads, body.splitlines())
    assert (status, first["stream"]) == (200, "Loaded 13 bytes\n")
    assert last == {"error": "unlucky", "errorDetail": {"message": "unlucky"}}
