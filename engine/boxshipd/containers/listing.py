"""``ps``: one row for each container the filters select. Source: moby daemon/list.go, container/view.go."""

from __future__ import annotations

import asyncio
import time

from boxship.types.containers import ContainerSummary, SummaryHostConfig, SummaryNetworkSettings
from boxship.types.networks import EndpointSettings
from msgspec import UNSET

from boxshipd.containers.directories import size_of
from boxshipd.containers.model import Container
from boxshipd.containers.registry import Registry
from boxshipd.containers.status_text import status_text
from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.images.service import Images

FILTERS = frozenset(
    {"ancestor", "before", "exited", "expose", "health", "id", "isolation", "is-task", "label", "name", "network", "publish"}
    | {"since", "status", "volume"}
)
"""The filter names of ``GET /containers/json``."""
_STATES = frozenset({"created", "running", "paused", "restarting", "removing", "exited", "dead"})


class Listing:
    """Answers ``ps`` from memory."""

    def __init__(self, registry: Registry, images: Images) -> None:
        self._registry = registry
        self._images = images

    async def rows(self, *, every: bool, limit: int, size: bool, filters: Filters) -> list[ContainerSummary]:
        """Rows, newest first.

        Args:
            every: those that don't run as well.
            limit: only so many, running or not; 0 for no limit.
            size: with the bytes each has written.
            filters: which ones.

        Raises:
            InvalidParameter: a filter is unknown or malformed.
            NotFound: a filter names a container there isn't.
        """
        chosen = await self._chosen(every or limit > 0, filters)
        if limit > 0:
            chosen = chosen[:limit]
        now = time.time_ns()
        if not size:
            return [_row(container, now, None) for container in chosen]
        sizes = [await self.sizes(container) for container in chosen]
        return [_row(container, now, pair) for container, pair in zip(chosen, sizes, strict=True)]

    async def sizes(self, container: Container) -> tuple[int, int]:
        """Bytes the container has written, and those with its image's."""
        written = await asyncio.to_thread(size_of, f"{container.directory}/upper")
        try:
            image = await self._images.resolve(container.config.image_id)
        except NotFound:
            return written, written
        return written, written + image.size

    async def _chosen(self, every: bool, filters: Filters) -> list[Container]:
        containers = list(self._registry)
        # Two created in the same tick keep the order they were recorded in.
        containers.sort(key=lambda container: container.config.created, reverse=True)
        if not filters:
            return containers if every else [c for c in containers if c.state.running]
        filters.validate(FILTERS)
        wanted_states = filters.get("status")
        for state in wanted_states:
            if state not in _STATES:
                raise InvalidParameter(f"unrecognised filter value for status: {state}")
        codes = _exit_codes(filters)
        before = [self._registry.find(ref).config.created for ref in filters.get("before")]
        since = [self._registry.find(ref).config.created for ref in filters.get("since")]
        if filters.boolean("is-task", False) or not filters.exact("health", "none"):
            return []
        ancestors = await self._ancestors(filters)
        every = every or bool(wanted_states)
        return [
            container
            for container in containers
            if (every or container.state.running)
            and _matches(container, filters)
            and (
                not codes
                or (container.state.finished_at and not container.state.running and container.state.exit_code in codes)
            )
            and all(container.config.created < moment for moment in before)
            and all(container.config.created > moment for moment in since)
            and (ancestors is None or any(_descends(container, layers, id_) for id_, layers in ancestors))
        ]

    async def _ancestors(self, filters: Filters) -> list[tuple[str, tuple[str, ...]]] | None:
        """The images the filter names; one there isn't selects nothing, as in Docker."""
        if "ancestor" not in filters:
            return None
        found = []
        for ref in filters.get("ancestor"):
            try:
                image = await self._images.resolve(ref)
            except NotFound:
                continue
            found.append((image.id, image.layers))
        return found


def _descends(container: Container, layers: tuple[str, ...], image_id: str) -> bool:
    own = container.config.layers
    return container.config.image_id == image_id or (bool(layers) and own[-len(layers) :] == layers)


def _exit_codes(filters: Filters) -> set[int]:
    codes = set()
    for value in filters.get("exited"):
        try:
            codes.add(int(value))
        except ValueError:
            raise InvalidParameter(f"invalid filter 'exited={value}'") from None
    return codes


def _matches(container: Container, filters: Filters) -> bool:
    """The filters that look at one container alone."""
    config, host = container.config.config, container.config.host_config
    return (
        filters.pattern("name", container.name, f"/{container.name}")
        and filters.pattern("id", container.id)
        and filters.exact("status", container.state.status)
        and filters.labels("label", config.labels)
        and _exposed(filters, config.exposed_ports or {})
        # No port of a container is published as long as there are no networks.
        and "publish" not in filters
        and filters.exact("network", "bridge" if host.network_mode == "default" else host.network_mode)
        and filters.exact("isolation", host.isolation)
        and _mounted(container, filters)
    )


def _exposed(filters: Filters, ports: dict[str, object]) -> bool:
    """``expose``: a port, a range of ports, each with a protocol or for tcp."""
    wanted = filters.get("expose")
    if not wanted:
        return True
    for text in wanted:
        numbers, _, protocol = text.partition("/")
        first, _, last = numbers.partition("-")
        try:
            span = range(int(first), int(last or first) + 1)
        except ValueError:
            raise InvalidParameter(f"invalid filter 'expose={text}'") from None
        if any(f"{number}/{protocol or 'tcp'}" in ports for number in span):
            return True
    return False


def _mounted(container: Container, filters: Filters) -> bool:
    if "volume" not in filters:
        return True
    mounts = container.config.mounts
    return any(filters.exact("volume", m.destination) or filters.exact("volume", m.source) for m in mounts)


def _row(container: Container, now: int, sizes: tuple[int, int] | None) -> ContainerSummary:
    record, state = container.config, container.state
    mode = record.host_config.network_mode
    return ContainerSummary(
        id=record.id,
        names=[f"/{container.name}"],
        image=record.config.image,
        image_id=record.image_id,
        command=" ".join([record.path, *(f"'{arg}'" if " " in arg else arg for arg in record.args)]),
        created=record.created // 1_000_000_000,
        ports=[],
        labels=record.config.labels or {},
        state=state.status,
        status=status_text(state, now),
        host_config=SummaryHostConfig(network_mode=mode, annotations=record.host_config.annotations or UNSET),
        network_settings=SummaryNetworkSettings(networks=endpoints(mode)),
        mounts=list(record.mounts),
        size_rw=sizes[0] if sizes else UNSET,
        size_root_fs=sizes[1] if sizes else UNSET,
    )


def endpoints(mode: str) -> dict[str, EndpointSettings]:
    """The endpoints of a network mode; only Docker's two that need no network of ours have one."""
    return {mode: EndpointSettings()} if mode in {"none", "host"} else {}
