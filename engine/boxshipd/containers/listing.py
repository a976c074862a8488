"""``ps``: one row for each container the filters select. Source: moby daemon/list.go, container/view.go."""

from __future__ import annotations

import asyncio
import contextlib
import time

from boxship.types.containers import ContainerSummary, SummaryHostConfig, SummaryNetworkSettings
from msgspec import UNSET

from boxshipd.containers.model import Container
from boxshipd.containers.networking import view as network_view
from boxshipd.containers.registry import Registry
from boxshipd.containers.status_text import status_text
from boxshipd.directory_size import size_of
from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.health.view import HEALTHS, word
from boxshipd.images.service import Images
from boxshipd.networks.service import Networks

FILTERS = frozenset(
    {"ancestor", "before", "exited", "expose", "health", "id", "isolation", "is-task", "label", "label!", "name", "network"}
    | {"publish", "since", "status", "volume"}
)
"""The filter names of ``GET /containers/json``."""
_LAST_PORT = 65535
_STATES = frozenset({"created", "running", "paused", "restarting", "removing", "exited", "dead"})


class Listing:
    """Answers ``ps`` from memory."""

    def __init__(self, registry: Registry, images: Images, networks: Networks) -> None:
        self._registry = registry
        self._images = images
        self._networks = networks

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
            return [self._row(container, now, None) for container in chosen]
        sizes = [await self.sizes(container) for container in chosen]
        return [self._row(container, now, pair) for container, pair in zip(chosen, sizes, strict=True)]

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
                raise InvalidParameter(f"invalid filter 'status={state}'")
        codes = _exit_codes(filters)
        before = [self._registry.find(ref).config.created for ref in filters.get("before")]
        since = [self._registry.find(ref).config.created for ref in filters.get("since")]
        for value in filters.get("health"):
            if value not in HEALTHS:
                raise InvalidParameter(f"unrecognised filter value for health: {value}")
        if filters.boolean("is-task", False):
            return []
        exposed = parse_ports(filters, "expose")
        published = parse_ports(filters, "publish")
        networks = self._wanted_networks(filters)
        ancestors = await self._ancestors(filters)
        every = every or bool(wanted_states)
        return [
            container
            for container in containers
            if (every or container.state.running)
            and _matches(container, filters)
            and (
                not (exposed or published)
                or not exposed.isdisjoint(container.config.config.exposed_ports or ())
                or not published.isdisjoint(network_view.published(container))
            )
            and (networks is None or not networks.isdisjoint(self._networks_of(container)))
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

    def _wanted_networks(self, filters: Filters) -> set[str] | None:
        """The networks of the filter, by name and by id."""
        if "network" not in filters:
            return None
        wanted: set[str] = set()
        for ref in filters.get("network"):
            wanted.add(ref)
            with contextlib.suppress(NotFound, InvalidParameter):
                wanted.add(self._networks.find(ref).name)
        return wanted

    def _networks_of(self, container: Container) -> set[str]:
        return set(network_view.endpoints(container, self._networks))

    def _row(self, container: Container, now: int, sizes: tuple[int, int] | None) -> ContainerSummary:
        record, state = container.config, container.state
        return ContainerSummary(
            id=record.id,
            names=[f"/{container.name}"],
            image=record.config.image,
            image_id=record.image_id,
            command=" ".join([record.path, *(f"'{arg}'" if " " in arg else arg for arg in record.args)]),
            created=record.created // 1_000_000_000,
            ports=network_view.ports(container),
            labels=record.config.labels or {},
            state=state.status,
            status=status_text(state, now),
            host_config=SummaryHostConfig(
                network_mode=record.host_config.network_mode, annotations=record.host_config.annotations or UNSET
            ),
            network_settings=SummaryNetworkSettings(networks=network_view.endpoints(container, self._networks)),
            mounts=list(record.mounts),
            size_rw=sizes[0] if sizes else UNSET,
            size_root_fs=sizes[1] if sizes else UNSET,
        )


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
        and filters.exact("health", word(container.state.health))
        and filters.labels("label", config.labels)
        and filters.not_labels("label!", config.labels)
        and filters.exact("isolation", host.isolation)
        and _mounted(container, filters)
    )


def parse_ports(filters: Filters, name: str) -> frozenset[str]:
    """The ports that the filter ``name`` means, each as ``number/protocol``: ``80``, ``80/udp``, ``8000-8080/tcp``.

    Raises:
        InvalidParameter: a value is neither a port nor a range of ports.
    """
    found: set[str] = set()
    for text in filters.get(name):
        if ":" in text:
            raise InvalidParameter(f"filter for '{name}' should not contain ':': {text}")
        numbers, _, protocol = text.partition("/")
        first, dash, last = numbers.partition("-")
        span = range(_port(first, name, text), _port(last if dash else first, name, text) + 1)
        if not span:
            raise InvalidParameter(f"error while looking up for {name} {text}: invalid range specified for port: {numbers}")
        if protocol not in {"", "tcp", "udp", "sctp"}:
            raise InvalidParameter(f"error while looking up for {name} {text}: invalid proto: {protocol}")
        found.update(f"{number}/{protocol or 'tcp'}" for number in span)
    return frozenset(found)


def _port(text: str, name: str, value: str) -> int:
    if not text:
        raise InvalidParameter(f"error while looking up for {name} {value}: empty string specified for ports")
    if not text.isascii() or not text.isdigit():
        raise InvalidParameter(f'error while looking up for {name} {value}: parsing "{text}": invalid syntax')
    if int(text) > _LAST_PORT:
        raise InvalidParameter(f'error while looking up for {name} {value}: parsing "{text}": value out of range')
    return int(text)


def _mounted(container: Container, filters: Filters) -> bool:
    if "volume" not in filters:
        return True
    wanted = set(filters.get("volume"))
    return any(m.destination in wanted or (m.name or m.source) in wanted for m in container.config.mounts)
