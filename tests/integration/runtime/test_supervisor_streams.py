"""Attached clients: piped input and output, terminals, detach keys, and clients that come later or go away."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from boxrun.bus import BusError
from boxrun.container.spec import Stdio
from boxrun.supervisor.contract import Attachment, AttachRequest, ResizeRequest, Runtime, SignalRequest
from support.runtime import SupervisorProcess, eventually, read_until


class Client:
    """A client's end of an attachment."""

    def __init__(self, framing: str = "raw", **options: object) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.setblocking(False)
        self.attachment = Attachment(framing=framing, **options)  # type: ignore[arg-type]
        self.handed = (self.attachment, theirs.detach())

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read_all(self, timeout: float = 30) -> bytes:
        got = []
        async with asyncio.timeout(timeout):
            while chunk := await self.read():
                got.append(chunk)
        return b"".join(got)

    async def until(self, wanted: bytes) -> bytes:
        return await read_until(self.read, wanted)

    async def attach(self, supervisor: SupervisorProcess, identity: str) -> None:
        request = AttachRequest(id=identity, attachment=self.attachment)
        await supervisor.bus.unary(Runtime.attach, request, timeout=15, fds=[self.handed[1]])
        os.close(self.handed[1])

    def close(self) -> None:
        self.sock.close()


MakeClient = Callable[..., Client]


@pytest.fixture
def client(request: pytest.FixtureRequest) -> MakeClient:
    def make(framing: str = "raw", **options: object) -> Client:
        client = Client(framing, **options)
        request.addfinalizer(client.close)
        return client

    return make


async def test_ten_megabytes_through_cat(supervisor: SupervisorProcess, client: MakeClient) -> None:
    spec = supervisor.spec("cat", stdio=Stdio(open_stdin=True, stdin_once=True))
    attached = client(stdin=True)
    data = os.urandom(10 << 20)
    await supervisor.launch(spec, attached.handed)

    async def feed() -> None:
        await attached.send(data)
        attached.sock.shutdown(socket.SHUT_WR)

    _, got = await asyncio.gather(feed(), attached.read_all())
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    assert (await supervisor.exited(spec.id)).exit_code == 0


async def test_the_first_byte_and_the_last_reach_a_client_of_the_start(
    supervisor: SupervisorProcess, client: MakeClient
) -> None:
    spec = supervisor.spec("sh", "-c", "echo out; echo err >&2; exit 3")
    attached = client("multiplexed")
    await supervisor.launch(spec, attached.handed)
    assert sorted(frames(await attached.read_all())) == [(1, b"out\n"), (2, b"err\n")]
    assert (await supervisor.exited(spec.id)).exit_code == 3


def frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        size = int.from_bytes(data[4:8], "big")
        found.append((data[0], data[8 : 8 + size]))
        data = data[8 + size :]
    return found


async def test_terminal_resize_and_detach(supervisor: SupervisorProcess, client: MakeClient) -> None:
    spec = supervisor.spec("sh", terminal=True, stdio=Stdio(open_stdin=True), env=("PATH=/bin", "PS1=# "))
    attached = client(stdin=True, detach_keys="ctrl-p,ctrl-q")
    await supervisor.launch(spec, attached.handed)
    await attached.until(b"# ")
    await supervisor.bus.unary(Runtime.resize, ResizeRequest(id=spec.id, height=33, width=99))
    await attached.send(b"stty size\r")
    await attached.until(b"33 99")
    async with supervisor.events() as events:
        async for event in events:
            if event.kind == "listed":
                # From here on nothing that happens is missed.
                await attached.send(b"\x10\x11")
            if event.kind == "detached":
                break
    await attached.read_all()
    assert (await supervisor.status(spec.id)).phase == "running"
    again = client(stdin=True)
    await again.attach(supervisor, spec.id)
    await again.send(b"echo back $((6*7)); exit 4\r")
    await again.until(b"back 42")
    await again.read_all()
    assert (await supervisor.exited(spec.id)).exit_code == 4


async def test_a_terminal_survives_its_programs_closing_it(supervisor: SupervisorProcess, client: MakeClient) -> None:
    script = "exec </dev/null >/dev/null 2>&1; sleep 0.3; echo still here >/dev/console"
    spec = supervisor.spec("sh", "-c", script, terminal=True)
    attached = client()
    await supervisor.launch(spec, attached.handed)
    assert b"still here" in await attached.read_all()


async def test_a_client_wakes_a_parked_shim(supervisor: SupervisorProcess, client: MakeClient) -> None:
    spec = supervisor.spec("cat", stdio=Stdio(open_stdin=True, stdin_once=True))
    await supervisor.launch(spec)
    await eventually(lambda: supervisor.parked(spec.id), "the worker has parked")
    attached = client("multiplexed", stdin=True, received=b"ahead ")
    await attached.attach(supervisor, spec.id)
    await attached.send(b"and behind")
    attached.sock.shutdown(socket.SHUT_WR)
    got = frames(await attached.read_all())
    assert b"".join(data for _, data in got) == b"ahead and behind"
    assert (await supervisor.exited(spec.id)).exit_code == 0


async def test_a_terminal_goes_on_after_parking(supervisor: SupervisorProcess, client: MakeClient) -> None:
    spec = supervisor.spec("sh", terminal=True, stdio=Stdio(open_stdin=True), env=("PATH=/bin", "PS1="))
    await supervisor.launch(spec)
    await eventually(lambda: supervisor.parked(spec.id), "the worker has parked")
    attached = client(stdin=True)
    await attached.attach(supervisor, spec.id)
    await attached.send(b"echo $((40+2)); exit 6\r")
    await attached.until(b"42\r\n")
    assert (await supervisor.exited(spec.id)).exit_code == 6


async def test_an_unfinished_line_outlives_the_worker(supervisor: SupervisorProcess, client: MakeClient) -> None:
    script = "echo -n begun; read x; echo ' and ended'"
    spec = supervisor.spec("sh", "-c", script, stdio=Stdio(open_stdin=True))
    await supervisor.launch(spec)
    await eventually(lambda: supervisor.parked(spec.id), "the worker has parked")
    attached = client(stdin=True)
    await attached.attach(supervisor, spec.id)
    await attached.send(b"\n")
    assert (await supervisor.exited(spec.id)).exit_code == 0
    (line,) = Path(spec.log.path).read_text().splitlines()
    assert json.loads(line)["log"] == "begun and ended\n"


async def test_clients_go_on_without_any_supervisor(supervisor: SupervisorProcess, client: MakeClient) -> None:
    spec = supervisor.spec("cat", stdio=Stdio(open_stdin=True, stdin_once=True))
    attached = client(stdin=True)
    await supervisor.launch(spec, attached.handed)
    await attached.send(b"one\n")
    assert await attached.until(b"one\n")
    await supervisor.kill()
    await attached.send(b"two\n")
    assert await attached.until(b"two\n")
    await supervisor.start()
    assert (await supervisor.status(spec.id)).phase == "running"
    later = client()
    await later.attach(supervisor, spec.id)
    await attached.send(b"three\n")
    assert await later.until(b"three\n")
    attached.sock.shutdown(socket.SHUT_WR)
    assert (await supervisor.exited(spec.id)).exit_code == 0


async def test_nobody_attached_without_input(supervisor: SupervisorProcess) -> None:
    spec = supervisor.spec("sh", "-c", "cat; echo done")
    await supervisor.launch(spec)
    assert (await supervisor.exited(spec.id)).exit_code == 0


async def test_attach_refused(supervisor: SupervisorProcess, client: MakeClient) -> None:
    spec = supervisor.spec("cat", terminal=True, stdio=Stdio(open_stdin=True))
    await supervisor.launch(spec)
    with pytest.raises(BusError, match="Unknown character"):
        await client(stdin=True, detach_keys="nonsense").attach(supervisor, spec.id)
    reader, writer = os.pipe()
    with pytest.raises(BusError, match="attach to container"):
        await supervisor.bus.unary(
            Runtime.attach, AttachRequest(id=spec.id, attachment=Attachment(framing="raw")), fds=[reader]
        )
    os.close(reader)
    os.close(writer)
    assert (await supervisor.status(spec.id)).phase == "running"
    await supervisor.bus.unary(Runtime.signal, SignalRequest(id=spec.id, signal=signal.SIGKILL))
    await supervisor.exited(spec.id)
