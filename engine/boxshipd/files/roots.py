"""Containers' roots as descriptors, had from the runtime."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from weakref import WeakValueDictionary

from boxrun.container.spec import Mount
from boxrun.supervisor.contract import RootReply, RootRequest, Runtime

from boxshipd.containers.model import Container
from boxshipd.containers.registry import Registry
from boxshipd.containers.settings import Settings
from boxshipd.containers.spec.builder import file_mounts, own_mounts, root_of
from boxshipd.containers.spec.mount_options import make_host_directories
from boxshipd.errors import InternalError, NotFound
from boxshipd.files.ids import Owners
from boxshipd.files.lookup import Root
from boxshipd.files.uses import Uses, current_task
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.jobs import Job, Scheduler

_LASTING = frozenset({"bind", "overlay", "filesystem"})


class Roots:
    """Opens containers' roots.

    Args:
        registry: the containers.
        runtime: who opens them.
        scheduler: orders them among the containers' other jobs.
        uses: notes who has one.
        settings: gives the daemon's present settings.
    """

    def __init__(
        self, registry: Registry, runtime: RuntimeLink, scheduler: Scheduler, uses: Uses, settings: Callable[[], Settings]
    ) -> None:
        self._registry = registry
        self._runtime = runtime
        self._scheduler = scheduler
        self._uses = uses
        self._settings = settings
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def open(
        self, container: Container, ref: str, what: str, *, below: bool = False
    ) -> AsyncIterator[tuple[Root, Owners]]:
        """A container's root inside the block, running or not, and its owners' numbers.

        Args:
            container: which one.
            ref: how the client called it.
            what: what is done to what, for messages.
            below: without what is mounted on it.

        Raises:
            Conflict: it can't be had, or was taken away by a start or a removal.
        """
        async with self._turn(container):
            fds, owners = await self._opened(container, what, below=below)
            async with self._uses.hold(container.id, what):
                try:
                    yield Root(fds[0], ref), owners
                finally:
                    for fd in fds:
                        os.close(fd)

    def _turn(self, container: Container) -> AbstractAsyncContextManager[None]:
        """One at a time where the root has to be assembled: two overlays must not have the same upper directory."""
        if container.state.running:
            return nullcontext()
        return self._turns.setdefault(container.id, asyncio.Lock())

    async def _opened(self, container: Container, what: str, *, below: bool) -> tuple[list[int], Owners]:
        """The root's descriptor and, where there is one, its lease; in order with the container's starts and removals."""
        opened: list[int] = []
        given_up = False
        task = current_task()

        async def work(_: Job) -> Owners:
            if container.removed or container.state.removing:
                raise NotFound(f"No such container: {container.id}")
            request = self._request(container, below=below)
            reply: RootReply
            reply, fds = await self._runtime.call_for_descriptors(Runtime.root, request, what)
            if given_up or len(fds) != 2 - reply.running:
                for fd in fds:
                    os.close(fd)
                raise InternalError(f"{what}: the runtime sent {len(fds)} descriptors")
            opened.extend(fds)
            # Before the key is given back: a start that comes next has to know.
            self._uses.enter(container.id, task)
            return Owners(request.uid_mappings, request.gid_mappings)

        try:
            return opened, await self._scheduler.run("root", container.id, work)
        except BaseException:
            given_up = True
            for fd in opened:
                os.close(fd)
            if opened:
                self._uses.leave(container.id, task)
            raise

    def _request(self, container: Container, *, below: bool) -> RootRequest:
        """What the root of a container that doesn't run is assembled from: its layers and the mounts that last."""
        mounts: tuple[Mount, ...] = ()
        if not below and not container.state.running:
            make_host_directories(container.config.host_config)
            own = own_mounts(container)
            files = file_mounts(container, self._files_of(container), own)
            mounts = tuple(mount for mount in (*files, *own) if mount.kind in _LASTING and not mount.container)
        return RootRequest(
            id=container.id,
            root=root_of(container, self._settings()),
            mounts=mounts,
            uid_mappings=container.config.uid_mappings,
            gid_mappings=container.config.gid_mappings,
            below=below,
        )

    def _files_of(self, container: Container) -> Container:
        mode = container.config.host_config.network_mode
        donor = self._registry.get(mode.removeprefix("container:")) if mode.startswith("container:") else None
        return donor or container
