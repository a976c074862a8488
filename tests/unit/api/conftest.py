"""An API on a unix socket, on top of an engine that keeps its containers in a dictionary."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
import uvloop
from boxrun.container.spec import Log
from boxship.types.containers import CreateRequest, CreateResponse, WaitResponse
from boxship.types.images import ProgressMessage
from boxshipd.api.app import Application
from boxshipd.api.security import BrowserGuard
from boxshipd.builder.cache.service import BuildCache
from boxshipd.builder.service import Builder
from boxshipd.builder.sessions import SessionRegistry
from boxshipd.containers.service import AttachOptions, Containers
from boxshipd.errors import Conflict, InternalError, NotFound
from boxshipd.events import Events
from boxshipd.images.distribution import Distribution
from boxshipd.logs import LogSource
from boxshipd.networks.service import Networks
from boxshipd.volumes.service import Volumes


class EchoSlot:
    """A place at a container whose program is cat: it answers ``received``, then what it reads, then ends."""

    def __init__(self, tty: bool) -> None:
        self.tty = tty
        self.threads: list[threading.Thread] = []
        self.abandoned = False

    async def hand_over(self, fd: int, received: bytes = b"") -> None:
        thread = threading.Thread(target=self._echo, args=(fd, received))
        thread.start()
        self.threads.append(thread)

    @staticmethod
    def _echo(fd: int, received: bytes) -> None:
        with socket.socket(fileno=fd) as sock:
            sock.setblocking(True)
            sock.sendall(received)
            while data := sock.recv(65536):
                sock.sendall(data)
            sock.sendall(b"<end>")

    def abandon(self) -> None:
        self.abandoned = True


class DictionaryContainers(Containers):
    """Containers that exist because ``create`` was called, and do what the tests tell them."""

    def __init__(self, log_path: str) -> None:
        self.created: dict[str, CreateRequest] = {}
        self.slots: list[EchoSlot] = []
        self.attached: list[AttachOptions] = []
        self.framings: list[str] = []
        self.exited: asyncio.Future[WaitResponse] = asyncio.get_running_loop().create_future()
        self.calls: list[tuple[object, ...]] = []
        self.log_path = log_path

    def _known(self, ref: str) -> CreateRequest:
        if ref not in self.created:
            raise NotFound(f"No such container: {ref}")
        return self.created[ref]

    async def create(self, name: str, request: CreateRequest, platform: str = "") -> CreateResponse:
        if name in self.created:
            raise Conflict(f'Conflict. The container name "/{name}" is already in use')
        self.created[name] = request
        return CreateResponse(id=name, warnings=[])

    async def start(self, ref: str, detach_keys: str | None = None) -> bool:
        self._known(ref)
        self.calls.append(("start", ref, detach_keys))
        return self.calls.count(("start", ref, detach_keys)) == 1

    async def stop(self, ref: str, signal: str | None = None, timeout: int | None = None) -> bool:
        self._known(ref)
        self.calls.append(("stop", ref, signal, timeout))
        return True

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        raise InternalError("kill container: the kernel said no")

    async def rename(self, ref: str, name: str) -> None:
        raise ZeroDivisionError("a mistake of ours")

    async def wait(self, ref: str, condition: str = "not-running") -> Awaitable[WaitResponse]:
        self._known(ref)
        return self.exited

    async def attachable(self, ref: str, options: AttachOptions, framing: str) -> EchoSlot:
        request = self._known(ref)
        self.attached.append(options)
        self.framings.append(framing)
        slot = EchoSlot(request.tty)
        self.slots.append(slot)
        return slot

    async def log_source(self, ref: str) -> LogSource:
        request = self._known(ref)
        ended = asyncio.Event()
        ended.set()
        return LogSource(log=Log(path=self.log_path), terminal=request.tty, ended=ended)


class DictionaryImages:
    """Images whose archives are only counted."""

    async def load(self, chunks: AsyncIterator[bytes], *, quiet: bool, wanted: str) -> AsyncIterator[ProgressMessage]:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if chunk.startswith(b"bad"):
                raise NotFound("no manifest")
        yield ProgressMessage(stream=f"Loaded {size} bytes\n")
        if size == 13:
            raise Conflict("unlucky")

    async def get(self, names: list[str], wanted: str = "") -> AsyncIterator[bytes]:
        if "missing" in names:
            raise NotFound("No such image: missing:latest")
        yield b"tar of "
        yield ",".join(names).encode()


class NoRegistries(Distribution):
    """Registries of a machine without a network: what is asked for is looked at, and no further."""

    def __init__(self) -> None:
        pass


class NoVolumes(Volumes):
    """Volumes that no test of the protocol asks for."""

    def __init__(self) -> None:
        """Without a store and directories."""


class NoNetworks(Networks):
    """Networks that no test of the protocol asks for."""

    def __init__(self) -> None:
        """Without a store and a runtime."""


class NoBuildCache(BuildCache):
    """A cache of builds that no test of the protocol asks for."""

    def __init__(self) -> None:
        """Without a store and images."""


class NoBuilder(Builder):
    """A builder that is asked for, and builds nothing: what comes of a request is looked at by others."""

    def __init__(self) -> None:
        """Without anything to build with."""

    @property
    def cache(self) -> BuildCache:
        return NoBuildCache()


class Api:
    """The served API: its socket's path and the engine behind it."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "api.sock")
        log = directory / "log.json"
        log.write_text('{"log":"hello\\n","stream":"stdout","time":"2024-01-01T00:00:00Z"}\n')
        self.containers = DictionaryContainers(str(log))
        self.images = DictionaryImages()
        self.events = Events()
        self.ended = asyncio.Event()
        self.application = Application(
            containers=self.containers,
            images=self.images,
            distribution=NoRegistries(),
            volumes=NoVolumes(),
            networks=NoNetworks(),
            events=self.events,
            info=self._info,
            shutdown=self._shutdown,
            builder=NoBuilder(),
            sessions=SessionRegistry(),
        )

    async def _info(self):
        raise NotFound("no info here")

    async def _shutdown(self) -> None:
        self.ended.set()

    async def talk(self, *packets: bytes, until: bytes | None = None, eof: bool = False) -> bytes:
        """Send packets over one connection and return all that comes back, until the end or ``until``."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            for packet in packets:
                writer.write(packet)
                await writer.drain()
            if eof:
                writer.write_eof()
            answer = b""
            async with asyncio.timeout(10):
                while (data := await reader.read(65536)) != b"":
                    answer += data
                    if until is not None and until in answer:
                        break
            return answer
        finally:
            writer.close()

    async def request(self, line: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """One request on its own connection: status, headers by lower-case name, body."""
        extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{line} HTTP/1.0\r\nHost: docker\r\n{length}{extra}\r\n".encode()
        answer = await self.talk(head + body)
        top, _, content = answer.partition(b"\r\n\r\n")
        status, *lines = top.decode().split("\r\n")
        return int(status.split()[1]), {n.lower(): v for n, _, v in (ln.partition(": ") for ln in lines)}, content


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    served = Api(tmp_path)
    factory = served.application.server()
    server = await asyncio.get_running_loop().create_unix_server(factory, served.path)
    yield served
    server.close()
    await factory.shutdown(1)
    for slot in served.containers.slots:
        for thread in slot.threads:
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()


@pytest.fixture
async def tcp_port(api: Api) -> AsyncIterator[int]:
    factory = api.application.server(BrowserGuard(tls=False))
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await factory.shutdown(1)


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    """The daemon runs on uvloop; nothing may depend on that."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
