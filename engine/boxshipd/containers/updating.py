"""``update``: other limits, or another restart policy, for a container that exists.

The record is changed first, with a mark that the limits may not be in force yet; then the running container's groups are; then
the mark is taken off and the client answered. A daemon that dies in between finds the mark and brings the limits into force.
What the kernel refuses is taken back as a whole.
Source: moby daemon/update.go, container/container_unix.go (UpdateContainer).
"""

from __future__ import annotations

import logging

from boxrun.container.spec import Resources
from boxrun.supervisor.contract import Runtime, UpdateRequest
from boxship.types.containers import UpdateResponse
from boxship.types.host import HostConfig
from boxship.types.update import UpdateRequest as Changes
from msgspec import UNSET
from msgspec.structs import replace

from boxshipd.containers.model import Config, Container
from boxshipd.containers.registry import Registry
from boxshipd.containers.spec.resources import build_resources
from boxshipd.containers.spec.validation import validate_resources
from boxshipd.errors import Conflict, DaemonError, InternalError, InvalidParameter, NotFound, Unavailable
from boxshipd.events import Events
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.jobs import Job, Scheduler
from boxshipd.scheduler.restart import validate_policy

log = logging.getLogger(__name__)

_NUMBERS = (
    *("blkio_weight", "cpu_shares", "nano_cpus", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems"),
    *("memory", "memory_swap", "memory_reservation", "cpu_realtime_period", "cpu_realtime_runtime"),
)
_DEVICE_LISTS = (
    *("blkio_weight_device", "blkio_device_read_bps", "blkio_device_write_bps"),
    *("blkio_device_read_iops", "blkio_device_write_iops"),
)
_FIXED = {
    "cgroup_parent": "CgroupParent",
    "devices": "Devices",
    "device_cgroup_rules": "DeviceCgroupRules",
    "device_requests": "DeviceRequests",
    "kernel_memory": "KernelMemory",
    "kernel_memory_tcp": "KernelMemoryTCP",
    "memory_swappiness": "MemorySwappiness",
    "oom_kill_disable": "OomKillDisable",
    "ulimits": "Ulimits",
    "cpu_count": "CpuCount",
    "cpu_percent": "CpuPercent",
    "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
}
"""What is decided at the creation, with its name in the API."""


class Updating:
    """Changes limits and restart policies."""

    def __init__(self, registry: Registry, events: Events, runtime: RuntimeLink, scheduler: Scheduler) -> None:
        self._registry = registry
        self._events = events
        self._runtime = runtime
        self._scheduler = scheduler

    async def update(self, container: Container, changes: Changes) -> UpdateResponse:
        """Change a container, answering when the record is durable and a running container has its new limits.

        Raises:
            InvalidParameter: something can't be, or not after the creation.
            Conflict: it contradicts what the container has.
            InternalError: the kernel refused a limit; nothing has changed.
        """
        _validate(changes)
        return await self._scheduler.run("update", container.id, lambda _: self._update(container, changes))

    def limit_again(self, container: Container) -> None:
        """Queue what brings a running container's limits to what the record says, after a daemon that died over an update."""

        async def work(_: Job) -> None:
            state = container.state
            if not state.limits_pending or not state.running or state.restarting:
                return
            try:
                await self._apply(container, build_resources(_limits(container.config.host_config), ()))
            except DaemonError as error:
                log.warning("bring the limits of container %s into force: %s", container.id, error)
                return
            state.limits_pending = False
            self._registry.save_later(container)

        self._scheduler.spawn("update", container.id, work)

    async def _update(self, container: Container, changes: Changes) -> UpdateResponse:
        state, before = container.state, container.config
        try:
            if container.removed:
                raise NotFound(f"No such container: {container.id}")
            if state.removing or state.dead:
                raise Conflict('container is marked for removal and cannot be "update"')
            host = merged(before.host_config, changes)
            resources = _changed(host, changes)
        except NotFound:
            raise
        except DaemonError as error:
            raise type(error)(f"Cannot update container {container.id}: {error}") from error
        runs = state.running and not state.restarting
        state.limits_pending = runs and resources != Resources()
        await self._registry.reconfigure(container, replace(before, host_config=host))
        # It was made at the creation, with the limits of that time.
        container.spec = None
        warnings: list[str] = []
        if state.limits_pending:
            try:
                warnings = await self._apply(container, resources)
            except Unavailable as error:
                # Whether it has them or not, it gets them when the supervisor is back.
                raise Unavailable(f"Cannot update container {container.id}: {error}") from error
            except DaemonError as error:
                await self._take_back(container, before)
                raise InternalError(f"Cannot update container {container.id}: {error}") from error
            state.limits_pending = False
            self._registry.save_later(container)
        self._events.publish("container", "update", container.id, container.attributes())
        return UpdateResponse(warnings=warnings or None)

    async def _apply(self, container: Container, resources: Resources) -> list[str]:
        """Tell the runtime; a container that has ended meanwhile gets its limits at its next start."""
        try:
            reply = await self._runtime.call(Runtime.update, UpdateRequest(id=container.id, resources=resources), "set limits")
        except Conflict:
            return []
        return list(reply.warnings)

    async def _take_back(self, container: Container, before: Config) -> None:
        container.state.limits_pending = False
        await self._registry.reconfigure(container, before)
        container.spec = None


def _validate(changes: Changes) -> None:
    """Check what needs nothing but the request.

    Raises:
        InvalidParameter: something can't be, or not after the creation.
    """
    for field, name in _FIXED.items():
        value = getattr(changes, field)
        if value not in (None, UNSET, 0, -1, "", [], False):
            raise InvalidParameter(f"{name} can't be changed after a container's creation")
    alone = replace(HostConfig(), **{name: getattr(changes, name) for name in (*_NUMBERS, *_DEVICE_LISTS)})
    if not changes.memory:
        # The memory that goes with it is the container's.
        alone = replace(alone, memory_swap=0)
    validate_resources(alone)
    if changes.restart_policy is not None:
        validate_policy(changes.restart_policy)


def merged(host: HostConfig, changes: Changes) -> HostConfig:
    """A container's host configuration with what the request changes.

    Raises:
        Conflict: the request contradicts what stays.
    """
    _conflicts(host, changes)
    values: dict[str, object] = {name: value for name in _NUMBERS if (value := getattr(changes, name))}
    for name in _DEVICE_LISTS:
        if wanted := getattr(changes, name):
            paths = {device.path for device in wanted}
            values[name] = [*(device for device in getattr(host, name) or () if device.path not in paths), *wanted]
    if changes.pids_limit is not None:
        values["pids_limit"] = changes.pids_limit if changes.pids_limit > 0 else 0
    policy = changes.restart_policy
    if policy is not None and policy.name:
        if host.auto_remove and policy.name != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        values["restart_policy"] = policy
    return replace(host, **values)


def _conflicts(host: HostConfig, changes: Changes) -> None:
    """Raise Conflict, with Docker's words, where a change doesn't go with what the container has."""
    if changes.nano_cpus > 0 and host.cpu_period > 0:
        raise Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
    if changes.nano_cpus > 0 and host.cpu_quota > 0:
        raise Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
    if changes.cpu_period > 0 and host.nano_cpus > 0:
        raise Conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
    if changes.cpu_quota > 0 and host.nano_cpus > 0:
        raise Conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
    if changes.memory and changes.memory > host.memory_swap and not changes.memory_swap:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )


def _changed(host: HostConfig, changes: Changes) -> Resources:
    """What the runtime is told: the limits that change, with those that only make sense beside them.

    Raises:
        InvalidParameter: a limit names something that isn't a block device.
    """
    names = {name for name in _NUMBERS if getattr(changes, name)}
    for together in ({"memory", "memory_swap"}, {"nano_cpus", "cpu_period", "cpu_quota"}):
        if names & together:
            names |= together
    values: dict[str, object] = {name: getattr(host, name) for name in names}
    values |= {name: getattr(changes, name) for name in _DEVICE_LISTS}
    if changes.pids_limit is not None:
        values["pids_limit"] = host.pids_limit or -1
    return build_resources(replace(HostConfig(), **values), ())


def _limits(host: HostConfig) -> HostConfig:
    """A configuration's limits alone."""
    values = {name: getattr(host, name) for name in (*_NUMBERS, *_DEVICE_LISTS)}
    pids = host.pids_limit
    return replace(HostConfig(), **values, pids_limit=None if pids is None else pids or -1)
