"""What a running container's log has given up, which the runtime counts."""

from __future__ import annotations

import logging

from boxrun.supervisor.contract import ContainerRef, Runtime

from boxshipd.containers.model import Container
from boxshipd.errors import DaemonError
from boxshipd.runtime.link import RuntimeLink

logger = logging.getLogger(__name__)

TIMEOUT = 2.0
"""Seconds that an inspection waits for the count."""


async def refresh(container: Container, runtime: RuntimeLink) -> None:
    """Bring a container's count up to date, where it runs and its log may give anything up."""
    log = container.config.log
    if not container.state.running or (log.blocking and not log.options):
        return
    try:
        status = await runtime.call(
            Runtime.status, ContainerRef(id=container.id), f"ask for the status of container {container.id}", timeout=TIMEOUT
        )
    except DaemonError as error:
        # The last count that is known will do.
        logger.info("%s", error)
        return
    if container.state.running:
        container.state.log_dropped = status.log_dropped
