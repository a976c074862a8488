"""Progress of a build: vertices, their progress, their output.

Source: BuildKit api/services/control/control.proto, StatusResponse.
"""

from __future__ import annotations

from msgspec import Struct


class BuildVertex(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step, told again whenever something about it changes. Times are ns since the epoch, 0 for not yet."""

    digest: str
    inputs: tuple[str, ...] = ()
    name: str = ""
    stage: str = ""
    cached: bool = False
    started: int = 0
    completed: int = 0
    error: str = ""


class BuildStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a part of a step is: a layer that is pulled, a context that is read.

    ``current`` and ``total`` in bytes, 0 for unknown; times in ns since the epoch.
    """

    id: str
    vertex: str
    current: int = 0
    total: int = 0
    timestamp: int = 0
    started: int = 0
    completed: int = 0


class BuildLog(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a step printed: ``stream`` 1 is its output, 2 its errors."""

    vertex: str
    stream: int
    data: bytes
    timestamp: int = 0


class BuildWarning(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Advice about the Dockerfile. ``rule`` is the lint rule's name, ``line`` and ``last`` the lines concerned, from 1."""

    rule: str
    message: str
    detail: str = ""
    url: str = ""
    line: int = 0
    last: int = 0
    vertex: str = ""


class BuildProgress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has happened since the last one."""

    vertices: tuple[BuildVertex, ...] = ()
    statuses: tuple[BuildStatus, ...] = ()
    logs: tuple[BuildLog, ...] = ()
    warnings: tuple[BuildWarning, ...] = ()
