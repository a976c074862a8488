"""Volumes while a container runs: who may have them, and the events of their being mounted and unmounted."""

from __future__ import annotations

from collections.abc import Iterable

from boxshipd.containers.model import Container
from boxshipd.errors import Conflict
from boxshipd.events import Events
from boxshipd.volumes.model import DRIVER


def check_exclusive(container: Container, others: Iterable[Container]) -> None:
    """Refuse a start that would give a container another tmpfs than the one of the same name that is in use already.

    Raises:
        Conflict: a running container has the volume.
    """
    wanted = {attached.volume for attached in container.config.attached if attached.exclusive}
    for other in others if wanted else ():
        if other is container or not (other.state.running or other.state.starting):
            continue
        for attached in other.config.attached:
            if attached.exclusive and attached.volume in wanted:
                raise Conflict(
                    f"volume {attached.volume} is a file system in memory, which container {other.id} has mounted: "
                    "only one container at a time can use it"
                )


def publish_mounted(events: Events, container: Container) -> None:
    """Tell of each volume that it is mounted."""
    for attached in container.config.attached:
        if attached.volume:
            point = attached.point
            details = {
                "container": container.id,
                "destination": point.destination,
                "driver": DRIVER,
                "propagation": point.propagation,
                "read/write": "true" if point.rw else "false",
            }
            events.publish("volume", "mount", attached.volume, details)


def publish_unmounted(events: Events, container: Container) -> None:
    """Tell of each volume that it isn't mounted any more."""
    for attached in container.config.attached:
        if attached.volume:
            events.publish("volume", "unmount", attached.volume, {"container": container.id, "driver": DRIVER})
