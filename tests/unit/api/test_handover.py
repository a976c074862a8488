"""A client's socket isn't let go of before the client has read what was sent to it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from boxshipd import handover
from boxshipd.handover import head_read


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


async def test_an_idle_client_is_let_go_at_once(ends):
    ours, _ = ends
    begin = time.monotonic()
    await head_read(ours.fileno())
    assert time.monotonic() - begin < handover._SECONDS


async def test_it_waits_for_the_head_to_be_read(ends):
    ours, theirs = ends
    ours.sendall(b"HTTP/1.1 101 UPGRADED\r\n\r\n")
    waiting = asyncio.create_task(head_read(ours.fileno()))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert theirs.recv(4)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done(), "some of it is still to be read"
    assert theirs.recv(4096)
    await waiting


async def test_a_client_that_never_reads_gets_the_rest_all_the_same(ends, monkeypatch):
    ours, _ = ends
    monkeypatch.setattr(handover, "_SECONDS", 0.02)
    ours.sendall(b"head")
    begin = time.monotonic()
    await head_read(ours.fileno())
    assert time.monotonic() - begin >= 0.02


async def test_a_client_that_has_gone_is_not_waited_for(ends):
    ours, theirs = ends
    ours.sendall(b"head")
    theirs.close()
    begin = time.monotonic()
    await head_read(ours.fileno())
    assert time.monotonic() - begin < handover._SECONDS
