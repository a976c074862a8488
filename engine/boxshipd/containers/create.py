"""Creating a container: merge with the image, validate, make its directory, record it.

The directory is the first of the two phases: one without a record is what a crash left behind, and the next start sweeps it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time

from boxrun.container.defaults import MASKED_PATHS, READONLY_PATHS
from boxship.types.containers import ContainerConfig, CreateRequest, CreateResponse
from boxship.types.host import HostConfig, RestartPolicy
from msgspec.structs import replace

from boxshipd.containers.directories import Directories
from boxshipd.containers.host_files import write_files
from boxshipd.containers.log.config import build_log, effective
from boxshipd.containers.model import Attached, Config, Container, State
from boxshipd.containers.names import make_name, validate_name
from boxshipd.containers.networking.config import canonical_mode, endpoints_of, plan
from boxshipd.containers.networking.links import Links
from boxshipd.containers.registry import Registry
from boxshipd.containers.settings import Settings
from boxshipd.containers.spec.builder import build_spec
from boxshipd.containers.spec.machine import check_machine, validate_storage, without_effect
from boxshipd.containers.spec.mount_options import parse_mounts
from boxshipd.containers.spec.remapping import Remapping, check_remapped
from boxshipd.containers.spec.runtimes import validate_runtime
from boxshipd.containers.spec.validation import validate_config, validate_host_config, validate_request
from boxshipd.containers.volumes.creation import ContainerVolumes, Preparation
from boxshipd.errors import Conflict, InternalError, InvalidParameter, NotFound
from boxshipd.events import Events
from boxshipd.health import settings as health
from boxshipd.images.service import Image, Images
from boxshipd.networks.service import Networks
from boxshipd.runtime.link import RuntimeLink
from boxshipd.times import rfc3339


class Creator:
    """Makes containers."""

    def __init__(
        self,
        *,
        registry: Registry,
        directories: Directories,
        images: Images,
        volumes: ContainerVolumes,
        events: Events,
        runtime: RuntimeLink,
        settings: Settings,
        networks: Networks,
        links: Links,
    ) -> None:
        self._registry = registry
        self._networks = networks
        self._links = links
        self._directories = directories
        self._images = images
        self._volumes = volumes
        self._events = events
        self._runtime = runtime
        self.settings = settings
        self.creating: dict[str, tuple[str, str]] = {}
        """Name and image of those that have no record yet, by id: the image has to stay."""

    async def create(self, name: str, request: CreateRequest, platform: str) -> CreateResponse:
        """Create a container and answer when its record is durable.

        Raises:
            NotFound: no such image.
            Conflict: the name is in use.
            InvalidParameter, NotImplementedHere: the configuration can't be, or not here; it joins a container there isn't.
        """
        name = validate_name(name) if name else make_name(self._registry.names)
        if not request.image:
            raise InvalidParameter("no image specified")
        id_ = _new_id()
        self._registry.reserve(name, id_)
        try:
            image = await self._images.resolve(request.image, platform)
            self.creating[id_] = (name, image.id)
            async with self._volumes.prepared(id_, request, image) as volumes:
                container, warnings = self._build(id_, name, request, image, volumes.attached if volumes else [])
                warnings += await check_machine(container.spec, self._runtime)
                if volumes is not None:
                    await self._volumes.fill(volumes)
                await self._record(container, volumes)
        except BaseException:
            if self._registry.names.get(name) == id_ and self._registry.get(id_) is None:
                self._registry.release(name)
            raise
        finally:
            self.creating.pop(id_, None)
        self._events.publish("container", "create", id_, container.attributes())
        return CreateResponse(id=id_, warnings=warnings)

    def _build(
        self, container_id: str, name: str, request: CreateRequest, image: Image, attached: list[Attached]
    ) -> tuple[Container, list[str]]:
        """Merge and validate everything; nothing is made yet."""
        host = self._host_config(request.host_config or HostConfig())
        validate_request(host)
        warnings = [*([image.warning] if image.warning else []), *without_effect(host)]
        networking, advice = plan(request, host, self._networks)
        self._links.validate(host, endpoints_of(host, networking).values())
        warnings += advice
        config = merge(request, image.config)
        validate_config(config)
        validate_host_config(config, host)
        validate_runtime(host, self.settings)
        remapping = check_remapped(host, Remapping(self.settings.uid_mappings, self.settings.gid_mappings))
        validate_storage(host, self.settings.data_root)
        config = replace(config, hostname=self._hostname(config, host, container_id))
        words = [*_words(config.entrypoint), *_words(config.cmd)]
        if not words:
            raise InvalidParameter("no command specified")
        directory = self._directories.path(container_id)
        log, created = effective(host.log_config, self.settings.log_config), time.time_ns()
        record = Config(
            id=container_id,
            created=created,
            image_id=image.id,
            layers=image.layers,
            config=config,
            host_config=replace(host, log_config=log),
            path=words[0],
            args=words[1:],
            log=build_log(
                log,
                container=config,
                container_id=container_id,
                name=name,
                image=config.image,
                directory=directory,
                image_id=image.id,
                command=tuple(words),
                created=rfc3339(created),
            ),
            networking=networking,
            mounts=(*parse_mounts(host).points, *(item.point for item in attached)),
            attached=tuple(attached),
            platform=image.os or "linux",
            uid_mappings=remapping.uids,
            gid_mappings=remapping.gids,
        )
        container = Container(name, record, State(), directory)
        try:
            container.spec = build_spec(container, self.settings, self._registry.find)
        except (Conflict, InternalError):
            # It joins a container that isn't running now, or a device that isn't there now: that is for its start to find.
            container.spec = None
        return container, warnings

    def _host_config(self, host: HostConfig) -> HostConfig:
        """The request's host configuration with Docker's defaults filled in, as ``inspect`` shows it."""
        mode = canonical_mode(host.network_mode, self._networks)
        if mode.startswith("container:") and len(mode) > len("container:"):
            mode = f"container:{self._joined(mode).id}"
        for other in (host.pid_mode, host.ipc_mode):
            if other.startswith("container:") and len(other) > len("container:"):
                self._joined(other)
        policy = host.restart_policy or RestartPolicy()
        return replace(
            host,
            network_mode=mode,
            shm_size=host.shm_size or self.settings.default_shm_size,
            memory_swap=host.memory * 2 if host.memory > 0 and not host.memory_swap else host.memory_swap,
            memory_swappiness=None if host.memory_swappiness == -1 else host.memory_swappiness,
            pids_limit=host.pids_limit if host.pids_limit and host.pids_limit > 0 else None,
            restart_policy=policy if policy.name else replace(policy, name="no"),
            ipc_mode=host.ipc_mode or self.settings.default_ipc_mode,
            cgroupns_mode=host.cgroupns_mode or self.settings.default_cgroupns_mode,
            masked_paths=_paths(host.masked_paths, MASKED_PATHS, host.privileged),
            readonly_paths=_paths(host.readonly_paths, READONLY_PATHS, host.privileged),
            runtime=host.runtime or self.settings.default_runtime,
        )

    def _joined(self, mode: str) -> Container:
        """The container that a ``container:`` mode names."""
        try:
            return self._registry.find(mode.removeprefix("container:"))
        except NotFound as error:
            # Not a 404: clients take one from create for a missing image, and would pull it.
            raise InvalidParameter(str(error)) from error

    def _hostname(self, config: ContainerConfig, host: HostConfig, container_id: str) -> str:
        if config.hostname:
            return config.hostname
        if host.network_mode == "host" or host.uts_mode == "host":
            return os.uname().nodename
        if host.network_mode.startswith("container:"):
            return self._registry.find(host.network_mode.removeprefix("container:")).config.config.hostname
        return container_id[:12]

    async def _record(self, container: Container, volumes: Preparation | None) -> None:
        """Make the directory, then the record; without the latter the former goes again."""
        try:
            self._directories.make(container.id, local_log="/local-logs/" in container.config.log.path)
            write_files(
                container.directory,
                hostname=container.config.config.hostname,
                host=container.config.host_config,
                settings=self.settings,
            )
        except OSError as error:
            self._directories.discard(container.id)
            raise InternalError(f"create container {container.id}: {error.strerror or error}") from error
        adding = asyncio.ensure_future(self._add(container, volumes))
        try:
            await asyncio.shield(adding)
        except asyncio.CancelledError:
            # Whether the record became durable is settled first: the directory goes only without it.
            await asyncio.wait([adding])
            if adding.exception() is not None:
                self._directories.discard(container.id)
            raise
        except BaseException:
            self._directories.discard(container.id)
            raise

    async def _add(self, container: Container, volumes: Preparation | None) -> None:
        """Put the container and its new volumes on record together."""
        if volumes is None:
            await self._registry.add(container)
            return
        await self._registry.add(container, volumes.record)
        try:
            volumes.settle()
        except InternalError:
            await self._registry.delete(container, volumes.unrecord)
            raise


def _new_id() -> str:
    """64 random hex digits whose first twelve aren't a number, lest the short form be mistaken for one."""
    while True:
        id_ = secrets.token_hex(32)
        if not id_[:12].isdigit():
            return id_


def _paths(given: list[str] | None, default: tuple[str, ...], privileged: bool) -> list[str] | None:
    if given is not None or privileged:
        return given
    return list(default)


def _words(value: list[str] | str | None) -> list[str]:
    """A command in either of the forms the API takes."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def merge(request: CreateRequest, image: ContainerConfig) -> ContainerConfig:
    """The request's configuration with what it leaves open taken from the image.

    Source: moby daemon/commit.go (merge) and create.go (mergeAndVerifyConfig).
    """
    entrypoint, cmd = request.entrypoint, request.cmd
    if not _words(entrypoint):
        if not _words(cmd):
            cmd = image.cmd
        if entrypoint is None:
            entrypoint = image.entrypoint
    if _words(entrypoint) == [""]:
        entrypoint = None
    set_names = {entry.partition("=")[0] for entry in request.env or ()}
    env = [*(request.env or ()), *(e for e in image.env or () if e.partition("=")[0] not in set_names)]
    fields = {name: getattr(request, name) for name in ContainerConfig.__struct_fields__}
    fields |= {
        "user": request.user or image.user,
        "entrypoint": _words(entrypoint) or None,
        "cmd": _words(cmd) or None,
        "env": env,
        "labels": {**(image.labels or {}), **(request.labels or {})},
        "working_dir": request.working_dir or image.working_dir,
        "stop_signal": request.stop_signal or image.stop_signal,
        "shell": request.shell or image.shell,
        "healthcheck": health.merge(request, image),
        "volumes": {**(image.volumes or {}), **(request.volumes or {})} or None,
    }
    exposed = {**(image.exposed_ports or {}), **(request.exposed_ports or {})}
    if exposed:
        fields["exposed_ports"] = exposed
    return ContainerConfig(**fields)
