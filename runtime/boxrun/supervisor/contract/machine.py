"""The machine: what it can do, what a container to come would get of it, and the end of the supervisor."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from boxrun.container.spec import Resources, Rlimit


class Features(Struct, frozen=True, kw_only=True):
    """What this machine can do, as the runtime found it."""

    version: str
    cgroup_version: Literal["1", "2"]
    cgroup_controllers: tuple[str, ...]
    seccomp: bool
    seccomp_error: str = ""
    apparmor: bool = False
    selinux: bool = False
    userns: bool = True
    timens: bool = True
    warnings: tuple[str, ...] = ()


class ShutdownRequest(Struct, frozen=True, kw_only=True):
    """End the supervisor and its zygote; refused while containers run unless ``kill``.

    ``cgroup_parents`` are to be removed beside those that this supervisor has used itself: an earlier one may have made them.
    """

    kill: bool = False
    cgroup_parents: tuple[str, ...] = ()


class CheckRequest(Struct, frozen=True, kw_only=True):
    """What a container to come asks of the machine."""

    cgroup_parent: str
    resources: Resources
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None


class CheckReply(Struct, frozen=True, kw_only=True):
    """What it won't get, in words for the user; ``refusal`` says why it can't be started at all."""

    warnings: tuple[str, ...] = ()
    refusal: str = ""
