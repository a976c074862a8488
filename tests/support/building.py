"""One operation of a build at a time, carried out by a real engine: its commands run in real containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence

from boxrun.container.spec import Resources
from boxship.types.build import BuildProgress, BuildStatus
from boxshipd.builder.executor import Surroundings, Work
from boxshipd.builder.graph import Exec, Input, Operation, Vertex
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.ops import execution
from boxshipd.builder.ops.execution import ExecExecutor
from boxshipd.builder.progress import Reporter
from boxshipd.builder.results import Result, Snapshot
from boxshipd.errors import NotFound

from support.engine import IMAGE, Engine


class Client:
    """The client's side of a build: what it has is what a test gives it."""

    def __init__(self) -> None:
        self.secrets: dict[str, bytes] = {}
        self.agents: dict[str, Callable[[], int]] = {}

    async def context(self, name: str) -> AsyncIterator[bytes]:
        raise NotFound(f"no context {name}")

    async def secret(self, secret_id: str) -> bytes:
        if secret_id not in self.secrets:
            raise NotFound(f"no secret {secret_id}")
        return self.secrets[secret_id]

    async def agent(self, agent_id: str) -> int:
        if agent_id not in self.agents:
            raise NotFound(f"no agent {agent_id}")
        return self.agents[agent_id]()

    async def receive(self, destination: str, chunks: AsyncIterator[bytes]) -> None:
        raise NotFound(destination)


class Caches:
    """Directories of cache mounts that are never locked: what a solver's have beyond that is its own affair."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.asked: list[tuple[str, str, str]] = []

    @contextlib.asynccontextmanager
    async def mount(self, mount_id, sharing, *, base="", fill=None, mode=0o755, uid=0, gid=0):
        self.asked.append((mount_id, sharing, base))
        path = f"{self.root}/{(base + mount_id).replace('/', '_').replace(':', '_')}"
        if not os.path.isdir(path):
            os.makedirs(path)
            os.chown(path, uid, gid)
            os.chmod(path, mode)
            if fill is not None:
                await asyncio.to_thread(fill, path, lambda: None)
        yield path


class Building:
    """Carries out operations of one build."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.client = Client()
        self.layers = LayerSession(engine.images.stores)
        self.caches = Caches(f"{engine.home}/caches-{id(self)}")
        self.printed: defaultdict[int, bytes] = defaultdict(bytes)
        self.statuses: dict[str, BuildStatus] = {}
        self.heard = asyncio.Event()
        self.executor = ExecExecutor(
            execution.Engine(
                transients=engine.containers.transients,
                networks=engine.networks,
                runtime=engine.link,
                caches=self.caches,
                workers=engine.images.workers,
            ),
            self.layers,
        )

    def close(self) -> None:
        self.layers.release()

    async def base(self) -> Snapshot:
        """The embedded base image's file system."""
        image = await self.engine.images.resolve(IMAGE)
        snapshot = Snapshot(self.engine.images.record_of(image.id).layers)
        assert self.layers.pin(snapshot)
        return snapshot

    def work(
        self, op: Operation, inputs: Sequence[Result], entitlements: frozenset[str] = frozenset(), **resources: int
    ) -> Work:
        vertex = Vertex(op=op, inputs=tuple(Input(f"sha256:{number}") for number in range(len(inputs))))
        around = Surroundings(session=self.client, resources=Resources(**resources), entitlements=entitlements)
        return Work(vertex, inputs, around, Reporter(vertex, self._sink))

    def _sink(self, progress: BuildProgress) -> None:
        for log in progress.logs:
            self.printed[log.stream] += log.data
        self.statuses.update((status.id, status) for status in progress.statuses)
        self.heard.set()

    async def run(
        self,
        script: str,
        *inputs: Result,
        entitlements: frozenset[str] = frozenset(),
        limits: dict[str, int] | None = None,
        **op,
    ) -> Snapshot:
        """Run a shell script; the file system after it."""
        exec_op = Exec(args=("/bin/sh", "-c", script), **{"network": "none", **op})
        given = inputs or (await self.base(),)
        (result,) = await self.executor.run(exec_op, self.work(exec_op, given, entitlements, **(limits or {})))
        assert isinstance(result, Snapshot)
        return result

    async def until_printed(self, text: bytes) -> None:
        """Wait until a command has printed something."""
        async with asyncio.timeout(30):
            while text not in self.printed[1]:
                self.heard.clear()
                await self.heard.wait()

    def top(self, snapshot: Snapshot) -> list[str]:
        """What a file system's topmost layer is made of, by the archive that it came to be."""
        path = self.engine.images.stores.content.path(snapshot.layers[-1].blob)
        listed = subprocess.run(["tar", "-tzf", path], capture_output=True, text=True, check=True)
        return sorted(listed.stdout.splitlines())

    def file(self, snapshot: Snapshot, path: str) -> bytes:
        """A file of the topmost layer."""
        with open(f"{self.layers.directories(snapshot)[0]}/{path}", "rb") as file:
            return file.read()
