"""What a watch tells, as it happens."""

from __future__ import annotations

from msgspec import Struct

from boxrun.supervisor.contract.containers import ContainerStatus
from boxrun.supervisor.contract.execs import ExecStatus


class WatchRequest(Struct, frozen=True):
    """Nothing is asked: a watch always begins with every container's status."""


class RuntimeEvent(Struct, frozen=True, kw_only=True):
    """Something happened. ``listed`` ends the initial listing, ``status`` being None there.

    Of containers, by ``status``: ``status`` (sent for each at the start of a watch), ``started``, ``exited``, ``oom`` and
    ``detached``. Of execs, by ``exec``: ``exec`` (for each at the start), ``exec_started``, ``exec_exited``, ``exec_detached``.
    A kind that a watcher doesn't know is to be ignored.
    """

    kind: str
    status: ContainerStatus | None = None
    exec: ExecStatus | None = None
