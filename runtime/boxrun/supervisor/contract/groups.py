"""Running containers' limits, usage and processes."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from boxrun.container.spec import Resources
from boxrun.container.usage import Usage


class UpdateRequest(Struct, frozen=True, kw_only=True):
    """Change the limits that ``resources`` sets, leaving the others."""

    id: str
    resources: Resources


class UpdateReply(Struct, frozen=True, kw_only=True):
    """Limits that this kernel hasn't, in Docker's words."""

    warnings: tuple[str, ...] = ()


class UsageRequest(Struct, frozen=True, kw_only=True):
    """The containers whose usage is asked for."""

    ids: tuple[str, ...]


class UsageReply(Struct, frozen=True, kw_only=True):
    """The usage of those of the containers that run, and the machine's at the same moment.

    ``system_time`` is what all processors spent since the machine's start, idle or not, in ns; ``processors`` are online.
    """

    cgroup_version: Literal["1", "2"]
    system_time: int
    processors: int
    containers: tuple[Usage, ...] = ()


class ProcessList(Struct, frozen=True, kw_only=True):
    """A container's processes, in the host's numbers, in ascending order."""

    pids: tuple[int, ...]
