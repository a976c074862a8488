"""``rm --link``: a container forgets one of its links.

Source: moby daemon/delete.go (rmLink).
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from boxshipd.containers.networking import name_files
from boxshipd.containers.networking.link_names import parse_link
from boxshipd.containers.networking.links import Links
from boxshipd.containers.registry import Registry
from boxshipd.errors import NotFound
from boxshipd.scheduler.jobs import Job, Scheduler

log = logging.getLogger(__name__)


class Unlinking:
    """Takes links away, on record and from /etc/hosts; variables of a program that runs can't be."""

    def __init__(self, registry: Registry, links: Links, scheduler: Scheduler) -> None:
        self._registry = registry
        self._links = links
        self._scheduler = scheduler

    async def unlink(self, ref: str) -> None:
        """Remove the link ``container/alias``.

        Raises:
            Conflict: it is a container's own name.
            NotFound: there is no such link.
        """
        container, alias = self._links.parse_name(ref)

        async def work(_: Job) -> None:
            if container.removed:
                raise NotFound(f"No such link: {ref}")
            gone = self._links.lines(container, alias)
            host = container.config.host_config
            left = [text for text in host.links or () if parse_link(text)[1] != alias]
            await self._registry.reconfigure(
                container, replace(container.config, host_config=replace(host, links=left or None))
            )
            if container.state.running:
                try:
                    name_files.change_hosts(container.directory, gone, ())
                except OSError as error:
                    log.warning("change /etc/hosts of container %s: %s", container.id, error)

        await self._scheduler.run("connect", container.id, work)
