"""A container's volumes at its creation: which they are, those that are made for it, and what the image puts into them.

In three steps, so that nothing is left of a creation that fails: ``prepare`` finds out and makes nothing, ``fill`` makes new
volumes aside and copies content, ``settle`` takes them up after they were put on record together with the container.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from boxrun.container.spec import Mount
from boxrun.supervisor.contract import Runtime, TreeRequest
from boxship.types.containers import CreateRequest, MountPoint
from boxship.types.host import HostConfig
from msgspec.structs import replace

from boxshipd.containers.directories import mount_points
from boxshipd.containers.model import Attached, Container
from boxshipd.containers.registry import Registry
from boxshipd.containers.spec.mount_options import Mounts, parse_mounts
from boxshipd.containers.volumes.filling import Filling, fill_volume
from boxshipd.containers.volumes.options import (
    ImageRequest,
    VolumeRequest,
    clean_target,
    parse_volumes_from,
)
from boxshipd.errors import InternalError, InvalidParameter, NotFound
from boxshipd.images.service import Image, Images
from boxshipd.runtime.link import RuntimeLink
from boxshipd.volumes.content import is_empty
from boxshipd.volumes.model import DRIVER, Volume
from boxshipd.volumes.options import volume_mount
from boxshipd.volumes.service import Volumes, check_driver, delete, insert


class ContainerVolumes:
    """Finds and makes the volumes of containers that are being created."""

    def __init__(self, registry: Registry, images: Images, volumes: Volumes, runtime: RuntimeLink, data_root: str) -> None:
        self._registry = registry
        self._images = images
        self._volumes = volumes
        self._runtime = runtime
        self._data_root = data_root

    @asynccontextmanager
    async def prepared(self, container_id: str, request: CreateRequest, image: Image) -> AsyncIterator[Preparation | None]:
        """What a new container mounts beside its host configuration's own binds and tmpfs; None where that is nothing.

        What is found stays as long as the block lasts; what was made goes with it, unless ``settle`` was called.

        Raises:
            InvalidParameter, NotFound: as the request has it.
        """
        host = request.host_config or HostConfig()
        asked = host.binds or host.mounts or host.volumes_from or request.volumes or image.config.volumes
        if not asked:
            yield None
            return
        wanted = parse_mounts(host)
        if not (wanted.requests or host.volumes_from or request.volumes or image.config.volumes):
            yield None
            return
        requests = [*wanted.requests, *self._declared(request, image, host, wanted)]
        async with AsyncExitStack() as stack:
            preparation = Preparation(self._volumes, container_id, image)
            stack.callback(preparation.close)
            await self._lock(stack, preparation, requests)
            taken = {spec.target for spec in wanted.specs} | {item.target for item in requests}
            for item in requests:
                if isinstance(item, ImageRequest):
                    await self._image(stack, preparation, item)
                else:
                    self._volume(preparation, item)
            for attached in self._inherited(host, taken):
                preparation.inherit(attached)
            yield preparation

    async def fill(self, preparation: Preparation) -> None:
        """Make new volumes aside, and copy the image's content into those that are empty.

        Raises:
            InvalidParameter: the image has a file where a volume is to be.
            InternalError: a volume can't be made or filled; nothing is left of it.
        """
        preparation.stage()
        lower = (*preparation.image.layers, mount_points(self._data_root))
        fillings = [filling for filling in preparation.fillings if _may_have(lower, filling.target)]
        if not fillings:
            return
        view = Mount(kind="overlay", target="/", source=preparation.image.id, lower=lower)
        _, (root_fd,) = await self._runtime.call_for_descriptors(
            Runtime.tree, TreeRequest(mount=view), f"look into image {preparation.image.id}"
        )
        loop = asyncio.get_running_loop()
        running = {name for c in self._registry if c.state.running for name in volume_names(c)}
        try:
            for filling in fillings:
                fill = partial(fill_volume, root_fd, filling, shared=filling.name in running)
                work = loop.run_in_executor(self._volumes.directories.workers, fill)
                try:
                    await asyncio.shield(work)
                except asyncio.CancelledError:
                    # What it writes to must not be taken away, nor the descriptor be closed, under its hands.
                    while not work.done():
                        with suppress(asyncio.CancelledError):
                            await asyncio.wait([work])
                    raise
        finally:
            os.close(root_fd)

    async def _lock(
        self, stack: AsyncExitStack, preparation: Preparation, requests: Sequence[VolumeRequest | ImageRequest]
    ) -> None:
        """Have those volumes to ourselves that this creation may make or fill; others may have content already."""
        waiting = set()
        for item in requests:
            if isinstance(item, VolumeRequest) and item.name:
                if self._ready(item.name, copy=item.copy and not item.subpath):
                    # At once: nothing may come between finding it and keeping it.
                    preparation.hold(item.name)
                else:
                    waiting.add(item.name)
        if waiting:
            await stack.enter_async_context(self._volumes.locked(waiting))
        preparation.locked = frozenset(waiting)

    def _ready(self, name: str, *, copy: bool) -> bool:
        volume = self._volumes.find(name)
        if volume is None:
            return False
        content = self._volumes.content(volume)
        return not copy or content is None or not is_empty(content)

    def _volume(self, preparation: Preparation, item: VolumeRequest) -> None:
        try:
            preparation.volume(item)
        except NotFound as error:
            raise InvalidParameter(str(error)) from error

    async def _image(self, stack: AsyncExitStack, preparation: Preparation, item: ImageRequest) -> None:
        try:
            image = await self._images.resolve(item.source)
        except NotFound as error:
            # Not a 404: clients take one from create for a missing image of the container's, and would pull that.
            raise InvalidParameter(str(error)) from error
        stack.enter_context(self._images.holding(image.id))
        spec = Mount(
            kind="overlay", target=item.target, source=item.source, lower=image.layers, subpath=item.subpath, readonly=True
        )
        point = MountPoint(
            type="image", source=image.id, destination=item.target, mode="", rw=False, propagation="rprivate", name=item.source
        )
        preparation.attached.append(Attached(spec=spec, point=point, image=image.id))

    def _declared(self, request: CreateRequest, image: Image, host: HostConfig, wanted: Mounts) -> list[VolumeRequest]:
        """The anonymous volumes of the request and of the image, where nothing else goes to the same place."""
        taken = {item.target for item in (*wanted.specs, *wanted.requests)}
        taken |= {attached.point.destination for attached in self._inherited(host, set())}
        found: dict[str, VolumeRequest] = {}
        for text in (*(image.config.volumes or {}), *(request.volumes or {})):
            # Docker takes a relative one for one below the root, and both may try to climb out of it.
            target = clean_target(f"/{text}", f"invalid volume '{text}'")
            if target not in taken:
                found[target] = VolumeRequest(name="", target=target, driver=host.volume_driver)
        return list(found.values())

    def _inherited(self, host: HostConfig, taken: set[str]) -> list[Attached]:
        """Other containers' mounts, where the new one has none of its own; of several the last one counts."""
        found: dict[str, Attached] = {}
        for text in host.volumes_from or ():
            ref, readonly = parse_volumes_from(text)
            try:
                other = self._registry.find(ref)
            except NotFound as error:
                raise InvalidParameter(str(error)) from error
            for attached in _mounts_of(other):
                if attached.point.destination not in taken:
                    found[attached.point.destination] = _narrowed(attached, readonly=readonly)
        return list(found.values())


class Preparation:
    """The volumes of one container that is being created."""

    def __init__(self, volumes: Volumes, container_id: str, image: Image) -> None:
        self._volumes = volumes
        self._id = container_id
        self._held: list[str] = []
        self._staged: list[str] = []
        self.image = image
        self.locked: frozenset[str] = frozenset()
        self.attached: list[Attached] = []
        self.new: list[Volume] = []
        self.fillings: list[Filling] = []

    def volume(self, item: VolumeRequest) -> None:
        """Take a requested volume in, as it is or as one to be made.

        Raises:
            InvalidParameter, NotFound: it can't be made.
        """
        volume = self._volumes.find(item.name) if item.name else None
        if volume is None:
            volume = next((new for new in self.new if new.name == item.name), None)
        fresh = volume is None
        if volume is None:
            volume = self._volumes.draft(item.name, item.driver, item.labels, item.options)
            self.new.append(volume)
        else:
            check_driver(item.driver, item.name)
        source = self._volumes.source(volume)
        spec = volume_mount(source, volume.options, item.target, readonly=item.readonly, subpath=item.subpath)
        point = MountPoint(
            type="volume",
            name=volume.name,
            source=source,
            destination=item.target,
            driver=DRIVER,
            mode=item.mode,
            rw=not item.readonly,
            propagation="",
        )
        self.attached.append(
            Attached(
                spec=spec,
                point=point,
                anonymous=not item.name,
                exclusive=spec.kind == "filesystem" and spec.filesystem in {"tmpfs", "ramfs"},
            )
        )
        if item.copy and not item.subpath:
            self._plan_filling(volume, item, fresh=fresh)

    def _plan_filling(self, volume: Volume, item: VolumeRequest, *, fresh: bool) -> None:
        content, directories = self._volumes.content(volume), self._volumes.directories
        if content is None:
            return
        if content != directories.path(volume.name):
            if os.path.isdir(content) and is_empty(content):
                self.fillings.append(Filling(volume.name, item.target, content))
        elif fresh:
            self.fillings.append(Filling(volume.name, item.target, directories.staged(volume.name), fresh=True))
        elif volume.name in self.locked and is_empty(content):
            self.fillings.append(Filling(volume.name, item.target, content, aside=directories.aside))

    def inherit(self, attached: Attached) -> None:
        """Take another container's mount in.

        Raises:
            InvalidParameter: the volume is gone.
        """
        if attached.volume:
            if self._volumes.find(attached.volume) is None:
                raise InvalidParameter(f"get {attached.volume}: no such volume")
            self.hold(attached.volume)
        self.attached.append(attached)

    def hold(self, name: str) -> None:
        """Keep a volume from being removed meanwhile."""
        self._volumes.hold(name, self._id)
        self._held.append(name)

    def stage(self) -> None:
        """Make the new volumes aside.

        Raises:
            InternalError: one can't be made.
        """
        for volume in self.new:
            self._staged.append(volume.name)
            try:
                self._volumes.directories.stage(volume.name)
            except OSError as error:
                raise InternalError(f"create {volume.name}: {error}") from error

    def record(self, db: sqlite3.Connection) -> None:
        """Put the new volumes on record, within the container's transaction."""
        insert(db, self.new)

    def unrecord(self, db: sqlite3.Connection) -> None:
        """Undo ``record``."""
        delete(db, self.new)

    def settle(self) -> None:
        """Take up the new volumes, which are on record now.

        Raises:
            InternalError: a directory can't be moved.
        """
        self._staged.clear()
        self._volumes.established(self.new)

    def close(self) -> None:
        """Let go of what is held, and give up what was made and isn't on record."""
        for name in self._staged:
            self._volumes.directories.unstage(name)
        for name in self._held:
            self._volumes.let_go(name, self._id)


def _may_have(layers: Sequence[str], target: str) -> bool:
    """Whether an image could have something at ``target``: its first part is in one of the layers, whatever it is there."""
    first = target.split("/")[1]
    return any(os.path.lexists(f"{layer}/{first}") for layer in layers)


def volume_names(container: Container) -> list[str]:
    """The names of a container's volumes."""
    return [attached.volume for attached in container.config.attached if attached.volume]


def volume_uses(registry: Registry) -> dict[str, list[str]]:
    """The ids of the containers that use each volume."""
    uses: dict[str, list[str]] = {}
    for container in registry:
        for name in dict.fromkeys(volume_names(container)) if container.config.attached else ():
            uses.setdefault(name, []).append(container.id)
    return uses


def _mounts_of(container: Container) -> list[Attached]:
    """All mounts of a container that another can have too: those of its host configuration and what is attached."""
    own = parse_mounts(container.config.host_config)
    specs = {spec.target: spec for spec in own.specs}
    configured = [Attached(spec=specs[point.destination], point=point) for point in own.points]
    return [*configured, *container.config.attached]


def _narrowed(attached: Attached, *, readonly: bool) -> Attached:
    """Another container's mount, for reading only where that is asked for."""
    if not readonly or not attached.point.rw:
        return attached
    spec, point = replace(attached.spec, readonly=True), replace(attached.point, rw=False)
    return replace(attached, spec=spec, point=point)
