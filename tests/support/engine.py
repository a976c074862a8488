"""An engine without HTTP: store, images, containers and a real supervisor, below one temporary directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from boxrun.container.spec import IDMapping
from boxrun.network.contract import Policy
from boxship.types.containers import CreateRequest
from boxship.types.host import HostConfig
from boxshipd.containers.parts import ContainerParts
from boxshipd.containers.service import Containers
from boxshipd.containers.settings import Settings
from boxshipd.events import Events
from boxshipd.images.service import Images, ImageUse
from boxshipd.networks.kernel import NetworkKernel
from boxshipd.networks.service import Networks
from boxshipd.networks.settings import NetworkSettings, with_local_pool
from boxshipd.runtime.connector import SupervisorConnector
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.jobs import Scheduler
from boxshipd.state.store import Store
from boxshipd.volumes.service import Volumes

from support.leaks import leaks

IMAGE = "boxship/base"


class Engine:
    """One life of a daemon; ``crash`` ends it as kill -9 would, and another Engine at the same home is the next life."""

    def __init__(self, home: Path, *, network: NetworkSettings | None = None, **settings: object) -> None:
        self.home = home
        self.network = network
        self.settings = Settings(
            data_root=f"{home}/data",
            exec_root=f"{home}/exec",
            cgroup_parent=f"/{home.name}",
            log_level="debug",
            **{"shutdown_timeout": 0, **settings},
        )
        self.events = Events()
        self.heard = self.events.subscribe()
        self.lives = [self]

    async def open(self) -> Engine:
        os.makedirs(self.settings.data_root, exist_ok=True)
        self.store = Store.open(f"{self.settings.data_root}/state.db")
        self.images = await Images.open(
            self.settings.data_root,
            self.store,
            publish=self.events.publish,
            uses=self._image_uses,
        )
        self.volumes = Volumes(self.store, self.settings.data_root, self.events.publish)
        await self.volumes.open()
        self.link = RuntimeLink(SupervisorConnector(self.settings.exec_root, "debug"))
        self.scheduler = Scheduler()
        kernel = NetworkKernel(self.link)
        self.networks = Networks(
            store=self.store,
            settings=with_local_pool(self.network or NetworkSettings(bridge="none"), "test"),
            kernel=kernel,
            scheduler=self.scheduler,
            publish=self.events.publish,
        )
        await self.networks.open()
        self.parts = ContainerParts(
            store=self.store,
            events=self.events,
            images=self.images,
            runtime=self.link,
            scheduler=self.scheduler,
            settings=self.settings,
            volumes=self.volumes,
            networks=self.networks,
            kernel=kernel,
            policy=Policy(),
        )
        self.containers = Containers(self.parts)
        await self.parts.open()
        return self

    def _image_uses(self, image: str) -> list[ImageUse]:
        return self.containers.image_uses(image)

    async def close(self) -> None:
        await self.parts.close()
        self.volumes.close()
        self.images.close()
        self.store.close()

    async def crash(self) -> None:
        """Let go of everything at once: nothing is finished, nothing is told to the runtime."""
        await self.link.close()
        for timer in self.parts.timers.pending():
            self.parts.timers.cancel(timer)
        await self.scheduler.close(0)
        self.volumes.close()
        self.images.close()
        self.store.close()

    async def next_life(self, **settings: object) -> Engine:
        """Another daemon where this one was."""
        follower = Engine(self.home, network=self.network, **settings)
        follower.lives = self.lives
        await follower.open()
        self.lives.append(follower)
        return follower

    async def reborn(self, **settings: object) -> Engine:
        """Crash, and begin the next life."""
        await self.crash()
        return await self.next_life(**settings)

    async def create(self, *command: str, name: str = "", tty: bool = False, stop_signal: str | None = None, **host) -> str:
        request = CreateRequest(
            image=IMAGE,
            cmd=list(command),
            tty=tty,
            open_stdin=tty,
            stop_signal=stop_signal,
            host_config=HostConfig(**{"network_mode": "none", **host}),
        )
        return (await self.containers.create(name, request)).id

    async def joined(self, network: str) -> str:
        """A container that shares another's network."""
        request = CreateRequest(image=IMAGE, cmd=["sleep", "1000"], host_config=HostConfig(network_mode=network))
        return (await self.containers.create("", request)).id

    async def run(self, *command: str, **options) -> str:
        """A container that is running."""
        id_ = await self.create(*command, **options)
        await self.containers.start(id_)
        return id_

    async def obedient(self, signal: str, exit_code: int, **options) -> str:
        """A container that runs and ends with this exit code at this signal."""
        id_ = await self.run(
            "sh", "-c", f"trap 'exit {exit_code}' {signal}; echo ready; while :; do sleep 0.01; done", **options
        )
        log = (await self.containers.inspect(id_)).log_path
        await self.until(lambda: os.path.getsize(log), "it listens to its signal")
        return id_

    async def result(self, id_: str, condition: str = "not-running") -> int:
        async with asyncio.timeout(20):
            return (await (await self.containers.wait(id_, condition))).status_code

    async def event(self, action: str) -> dict[str, str]:
        """The attributes of the next event with this action."""
        async with asyncio.timeout(20):
            async for message in self.heard:
                if message.action == action:
                    return message.actor.attributes
        raise AssertionError("the events ended")

    async def actions(self, until: str) -> list[str]:
        """The actions of containers' events up to this one."""
        seen = []
        async with asyncio.timeout(20):
            async for message in self.heard:
                if message.type == "container":
                    seen.append(message.action)
                    if message.action == until:
                        return seen
        raise AssertionError("the events ended")

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a state that nothing announces."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, f"not in time: {what}"
            await asyncio.sleep(0.005)

    def supervisor_pid(self) -> int:
        return int((self.home / "exec" / "boxrun.pid").read_text())

    def directories(self) -> set[str]:
        return set(os.listdir(f"{self.settings.data_root}/containers"))


@contextmanager
def engine_home() -> Iterator[Path]:
    """A short path of its own; nothing of what was below it may be left in the kernel."""
    path = Path(tempfile.mkdtemp(prefix="boxship-test-", dir="/tmp"))
    yield path
    try:
        assert not leaks(path.name)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def running_engine(home: Path, **settings: object) -> AsyncIterator[Engine]:
    """An engine; it, or the last of the lives that followed it, is shut down with everything in the end."""
    engine = Engine(home, **settings)
    await engine.open()
    try:
        yield engine
    finally:
        last = engine.lives[-1]
        try:
            await last.parts.shutdown()
        finally:
            await last.close()
            with suppress(OSError, ValueError):
                os.kill(last.supervisor_pid(), signal.SIGKILL)


def user_namespaces() -> dict[str, tuple[IDMapping, ...]]:
    """The settings of an engine whose containers have user namespaces: other ids on the host, and not the same for groups."""
    return {
        "uid_mappings": (IDMapping(inside=0, outside=200000, size=65536),),
        "gid_mappings": (IDMapping(inside=0, outside=300000, size=65536),),
    }
