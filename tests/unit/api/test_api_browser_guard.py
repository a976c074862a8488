"""Requests that a web page could have caused are refused on TCP."""

import asyncio

import pytest


async def ask(port: int, headers: str, path: str = "/_ping") -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n".replace("POST /_", "GET /_").encode())
    answer = await reader.read()
    writer.close()
    assert b"Access-Control" not in answer
    return int(answer.split()[1])


@pytest.mark.parametrize("host", ["127.0.0.1:2375", "localhost", "LOCALHOST:1", "[::1]:2375", "192.168.1.5"])
async def test_own_hosts_are_served(tcp_port, host):
    assert await ask(tcp_port, f"Host: {host}\r\n") == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:2375", "127.0.0.1.evil.example", "localhost.evil", "[::1", ""])
async def test_other_hosts_are_refused(tcp_port, host):
    assert await ask(tcp_port, f"Host: {host}\r\n") == 403


@pytest.mark.parametrize(
    "headers",
    [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://127.0.0.1:8080\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ],
)
@pytest.mark.parametrize("path", ["/_ping", "/containers/create", "/containers/x/attach"])
async def test_requests_of_pages_are_refused(tcp_port, headers, path):
    assert await ask(tcp_port, f"Host: 127.0.0.1:2375\r\nContent-Type: text/plain\r\n{headers}", path) == 403


async def test_an_origin_that_is_ours_is_served(tcp_port):
    assert await ask(tcp_port, "Host: 127.0.0.1:2375\r\nOrigin: http://127.0.0.1:2375\r\n") == 200
