"""What ``RUN --mount`` asks for.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert_runmount.go, convert_secrets.go, convert_ssh.go; client/llb/exec.go
(the agents' default sockets).
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

from msgspec.structs import replace

from boxshipd.builder.dockerfile.instructions import Run
from boxshipd.builder.dockerfile.mounts import MountFlag, parse_mount
from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.graph import Input, Mount
from boxshipd.builder.planner.inputs import Inputs
from boxshipd.builder.planner.paths import absolute, clean
from boxshipd.builder.planner.stages import Stage
from boxshipd.builder.planner.turn import Turn

_SECRETS = "/run/secrets"
_AGENTS = "/run/buildkit/ssh_agent"
_AGENT_VARIABLE = "SSH_AUTH_SOCK"


@dataclass(slots=True)
class Mounting:
    """What a command needs: the vertex's inputs, its mounts, and variables that come of them."""

    inputs: Inputs
    mounts: list[Mount] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    def add(self, source: Input | None, mount: Mount) -> None:
        """Add a mount of an input, or of nothing."""
        self.mounts.append(mount if source is None else replace(mount, input=self.inputs.place(source)))


def plan_mounts(turn: Turn, instruction: Run, mounting: Mounting) -> None:
    """Add a command's mounts.

    Raises:
        DockerfileError: one can't be right, or takes files from a stage that comes later.
    """
    agents = 0
    for text, origin in zip(instruction.mounts, turn.command.origins, strict=True):
        wanted = parse_mount(text, turn.expand)
        if wanted.kind == "secret":
            mounting.add(None, _secret(wanted))
        elif wanted.kind == "ssh":
            agent = _agent(wanted, agents)
            agents += 1
            mounting.env.setdefault(_AGENT_VARIABLE, agent.target)
            mounting.add(None, agent)
        else:
            mounting.add(_source(turn, wanted, origin), _files(turn, wanted))


def _source(turn: Turn, wanted: MountFlag, origin: Stage | None) -> Input | None:
    """What is mounted: another stage's files, or, for a bind, the context."""
    if wanted.kind == "tmpfs":
        return None
    if origin is not None:
        if origin.state is None or not origin.done:
            raise DockerfileError(
                f'cannot mount from stage "{wanted.from_}" to "{wanted.target}", '
                "stage needs to be defined before current command"
            )
        return origin.state.output
    return turn.setting.load_context() if wanted.kind == "bind" else None


def _files(turn: Turn, wanted: MountFlag) -> Mount:
    target = absolute(wanted.target, turn.state.directory)
    if target == "/":
        raise DockerfileError(f'invalid mount target "{target}"')
    return Mount(
        target=target,
        kind=wanted.kind,
        source=clean(wanted.source).lstrip("/"),
        readonly=wanted.readonly,
        id=_cache_id(turn, wanted) if wanted.kind == "cache" else "",
        sharing=wanted.sharing or "shared",
        size=wanted.size,
        mode=wanted.mode,
        uid=wanted.uid or 0,
        gid=wanted.gid or 0,
    )


def _cache_id(turn: Turn, wanted: MountFlag) -> str:
    """A cache's name is its target, unless it has another."""
    name = wanted.id or posixpath.normpath(wanted.target)
    namespace = turn.setting.builder.cache_namespace
    return f"{namespace}/{name}" if namespace else name


def _secret(wanted: MountFlag) -> Mount:
    name = wanted.source or wanted.id or posixpath.basename(wanted.target)
    if not name:
        raise DockerfileError("one of source, target required")
    target = wanted.target
    if not target and wanted.env is None:
        target = f"{_SECRETS}/{posixpath.basename(name)}"
    return Mount(
        target=clean(target) if target else "",
        kind="secret",
        readonly=True,
        id=name,
        env=name if wanted.env == "" else wanted.env or "",
        required=wanted.required,
        mode=0o400 if wanted.mode is None else wanted.mode,
        uid=wanted.uid or 0,
        gid=wanted.gid or 0,
    )


def _agent(wanted: MountFlag, number: int) -> Mount:
    if wanted.source:
        raise DockerfileError("ssh does not support source")
    return Mount(
        target=clean(wanted.target or f"{_AGENTS}.{number}"),
        kind="ssh",
        id=wanted.id or "default",
        required=wanted.required,
        mode=0o600 if wanted.mode is None else wanted.mode,
        uid=wanted.uid or 0,
        gid=wanted.gid or 0,
    )
