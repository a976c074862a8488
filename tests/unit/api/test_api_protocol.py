"""What every request meets: versions, headers, routes, errors, bodies."""

import asyncio
import json

import pytest
from boxshipd.api.coverage import OPERATIONS


async def test_ping_has_dockers_headers(api):
    status, headers, body = await api.request("GET /_ping")
    assert (status, body) == (200, b"OK")
    assert headers["api-version"] == "1.51"
    assert headers["docker-experimental"] == "false"
    assert headers["ostype"] == "linux"
    assert headers["server"].startswith("Boxship/")
    assert headers["builder-version"] == "1"
    assert headers["swarm"] == "inactive"
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["cache-control"] == "no-cache, no-store, must-revalidate"
    status, headers, body = await api.request("HEAD /v1.24/_ping")
    assert (status, body, headers["content-length"]) == (200, b"", "0")


async def test_versions_outside_the_range_are_refused(api):
    assert (await api.request("GET /v1.51/version"))[0] == 200
    assert json.loads((await api.request("GET /v1.52/version"))[2])["message"] == (
        "client version 1.52 is too new. Maximum supported API version is 1.51"
    )
    status, headers, body = await api.request("GET /v1.23/_ping")
    assert status == 400
    assert headers["api-version"] == "1.51"
    assert json.loads(body)["message"] == (
        "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
    )


@pytest.mark.parametrize(
    "line", ["GET /nothing", "PATCH /version", "HEAD /version", "GET /containers//json", "GET /v1.x/_ping", "GET /v1.40"]
)
async def test_unknown_operations_are_not_found(api, line):
    status, headers, body = await api.request(line)
    assert status == 404
    assert headers["content-type"] == "application/json"
    if not line.startswith("HEAD"):
        assert body == b'{"message":"page not found"}\n'


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.lacks], ids=lambda o: o.name)
async def test_every_absent_operation_is_refused_by_name(api, operation):
    path = operation.path.replace("{id}", "x").replace("{name}", "x")
    status, _, body = await api.request(f"{operation.method} {path}")
    assert status == 501
    if operation.method != "HEAD":
        message = json.loads(body)["message"]
        assert message.startswith(operation.name)
        assert message.endswith("is not supported in Boxship 0.1")


@pytest.mark.parametrize("version", ["1.24", "1.43"])
async def test_older_clients_may_name_one_network_at_a_containers_creation(api, version):
    """Source: moby's TestCreateWithMultipleEndpointSettings."""

    async def create(name: str, *networks: str) -> tuple[int, dict]:
        body = {"Image": "x", "NetworkingConfig": {"EndpointsConfig": {network: {} for network in networks}}}
        path = f"POST /v{version}/containers/create?name={name}"
        status, _, answer = await api.request(path, json.dumps(body).encode(), Content_Type="application/json")
        return status, json.loads(answer)

    message = "Container cannot be created with multiple network endpoints: one, two"
    assert await create("several", "one", "two") == (400, {"message": message})
    assert "several" not in api.containers.created
    assert (await create("single", "one"))[0] == 201
    assert (await create("none"))[0] == 201
    version = "1.44"
    assert (await create("several", "one", "two"))[0] == 201
    assert list(api.containers.created["several"].networking_config.endpoints_config) == ["one", "two"]


async def test_errors_have_dockers_status_and_shape(api):
    assert await _message(api, "POST /containers/x/start") == (404, "No such container: x")
    assert await _message(api, "POST /containers/x/kill") == (500, "kill container: the kernel said no")
    assert await _message(api, "POST /containers/x/rename?name=y") == (
        500,
        "ContainerRename failed: ZeroDivisionError: a mistake of ours",
    )
    body = b'{"Image":"x"}'
    assert (await api.request("POST /containers/create?name=a", body, Content_Type="application/json"))[0] == 201
    status, _, _ = await api.request("POST /containers/create?name=a", body, Content_Type="application/json")
    assert status == 409


async def _message(api, line: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
    status, _, answer = await api.request(line, body, **headers)
    return status, json.loads(answer)["message"]


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("text/plain", b"{}", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        ("junk", b"{}", "malformed Content-Type header (junk): mime: expected slash after first token"),
        ("application/json", b"", "invalid JSON: got EOF while reading request body"),
        ("application/json", b"{}{}", "unexpected content after JSON"),
        ("application/json", b"{}", "config cannot be empty in order to create a container"),
        ("application/json; charset=utf-8", b"null", "invalid JSON: Expected `object`, got `null`"),
        ("application/json", b'{"Image":5}', "invalid JSON: Expected `str`, got `int` - at `$.Image`"),
        (
            "application/json",
            b'{"Image":"x","HostConfig":{"Ulimits":[{"Name":"nofile","Soft": 9223372036854775808}]}}',
            "invalid JSON: number 9223372036854775808 doesn't fit in 64 bits",
        ),
    ],
)
async def test_bodies_must_be_json_that_fits(api, content_type, body, message):
    assert await _message(api, "POST /containers/create", body, Content_Type=content_type) == (400, message)


async def test_cut_json_is_refused(api):
    status, message = await _message(api, "POST /containers/create", b'{"Image":', Content_Type="application/json")
    assert status == 400
    assert message.startswith("invalid JSON: ")


async def test_nulls_are_absent_fields_but_stay_in_maps(api):
    body = json.dumps(
        {
            "Image": "busybox",
            "Hostname": None,
            "User": None,
            "Tty": None,
            "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {
                "NetworkMode": None,
                "Memory": None,
                "PortBindings": {"80/tcp": None},
                "RestartPolicy": {"Name": None},
            },
        }
    ).encode()
    assert (await api.request("POST /containers/create?name=n", body, Content_Type="application/json"))[0] == 201
    request = api.containers.created["n"]
    assert request.hostname == ""
    assert request.host_config.port_bindings == {"80/tcp": None}
    assert request.host_config.restart_policy.name == ""


async def test_a_huge_body_is_refused_before_it_is_read(api):
    head = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n"
    assert b"request body too large" in await api.talk(head, until=b"bytes")


async def test_a_huge_chunked_body_is_refused_on_the_way(api):
    head = (
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    assert b"request body too large" in await api.talk(head, *[chunk] * 5, until=b"bytes")


@pytest.mark.parametrize("path", ["/containers/create", "/exec/x/start"])
async def test_who_leaves_in_the_middle_of_a_request_is_let_go_of(api, path, caplog):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n"
    assert await api.talk(head.encode() + b'{"Detach', eof=True) == b""
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_garbage_is_answered_in_json_and_closed(api):
    answer = await api.talk(b"\x16\x03\x01 not http\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ") or answer.startswith(b"HTTP/1.0 400 ")
    assert b'{"message":' in answer


async def test_requests_in_one_packet_are_answered_in_order(api):
    one = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await api.talk(one * 20 + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 20
    assert answer.count(b"HTTP/1.1 404 ") == 1


async def test_a_request_may_come_byte_by_byte(api):
    packets = [bytes([byte]) for byte in b"GET /_ping HTTP/1.0\r\n\r\n"]
    assert (await api.talk(*packets)).endswith(b"OK")


async def test_expect_continue_is_answered_before_the_body_comes(api):
    head = b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    reader, writer = await asyncio.open_unix_connection(api.path)
    writer.write(head)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abcde")
    assert b"Loaded 5 bytes" in await reader.readuntil(b"}")
    writer.close()


async def test_start_and_stop_answer_not_modified(api):
    await api.request("POST /containers/create?name=s", b'{"Image":"x"}', Content_Type="application/json")
    assert (await api.request("POST /containers/s/start"))[0] == 204
    assert (await api.request("POST /containers/s/start"))[0] == 304
    assert (await api.request("POST /v1.41/containers/s/stop?t=3&signal=SIGINT"))[0] == 204
    assert (await api.request("POST /v1.42/containers/s/stop?t=-1&signal=SIGINT"))[0] == 204
    assert api.containers.calls[-2:] == [("stop", "s", None, 3), ("stop", "s", "SIGINT", -1)]
    assert (await _message(api, "POST /containers/s/stop?t=soon"))[0] == 400
    assert (await _message(api, "POST /containers/s/start", b'{"a":"bcd"}', Content_Type="application/json"))[0] == 400
    assert await _message(api, "POST /containers/s/resize?h=1&w=-1") == (400, 'invalid resize width "-1": value out of range')


async def test_shutdown_is_answered_when_it_is_done(api):
    assert (await api.request("POST /system/shutdown"))[0] == 204
    assert api.ended.is_set()


async def test_names_may_have_slashes_and_escapes(api):
    status, _, body = await api.request("GET /images/registry:5000/a/b/get")
    assert (status, body) == (200, b"tar of registry:5000/a/b")
    assert (await api.request("GET /v1.40/images/a%2Fb/get"))[2] == b"tar of a/b"
    assert (await api.request("GET /images/get?names=a&names=b"))[2] == b"tar of a,b"
    assert await _message(api, "GET /images/missing/get") == (404, "No such image: missing:latest")


async def test_what_can_not_be_a_name_is_not_pulled(api):
    status, message = await _message(api, "POST /images/create?fromImage=Alpine&tag=3.20")
    assert (status, message) == (400, "invalid reference format: repository name (library/Alpine) must be lowercase")
