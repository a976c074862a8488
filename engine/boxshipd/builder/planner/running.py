"""``RUN``: a command in the file system so far, with what is mounted for it.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (dispatchRun, runCommandString).
"""

from __future__ import annotations

import re
from collections import ChainMap

from boxshipd.builder.dockerfile.instructions import Heredoc, Run
from boxshipd.builder.dockerfile.words import Words
from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.graph import Exec, Files, Input, MakeFile, Mount, Vertex
from boxshipd.builder.planner.inputs import Inputs
from boxshipd.builder.planner.mounting import Mounting, plan_mounts
from boxshipd.builder.planner.naming import upper_keyword
from boxshipd.builder.planner.turn import Turn

_LONE_HEREDOC = re.compile(r"\d*<<-?[^<]*")
_PIPES = "/dev/pipes"
_NETWORKS = ("default", "none", "host")
_SECURITY = ("sandbox", "insecure")


def plan_run(turn: Turn, instruction: Run) -> None:
    """``RUN``.

    Raises:
        DockerfileError: a mount, the network or the security mode isn't what it can be.
    """
    setting, state = turn.setting, turn.state
    root = state.settle(setting.graph, turn.settling())
    mounting = Mounting(Inputs(root))
    args, summary = _arguments(turn, instruction, mounting)
    plan_mounts(turn, instruction, mounting)
    operation = Exec(
        args=args,
        env=_environment(turn, mounting),
        proxy=setting.proxy,
        cwd=state.directory,
        user=state.draft.user,
        hostname=setting.options.hostname or setting.builder.hostname,
        scratch=root is None,
        mounts=tuple(mounting.mounts),
        network=_network(instruction.network, setting.options.network),
        security="insecure" if _one_of(_SECURITY, instruction.security, "security") == "insecure" else "sandbox",
        extra_hosts=setting.options.extra_hosts,
        shm_size=setting.options.shm_size,
        ulimits=setting.options.ulimits,
        cgroup_parent=setting.options.cgroup_parent,
    )
    name = turn.prefix() + _shown(turn, instruction.text + summary, mounting)
    output = turn.add(operation, mounting.inputs.all(), name, platform=state.platform)
    turn.commit(f"RUN {_with_arguments(turn, args)} # buildkit", output)


def _arguments(turn: Turn, instruction: Run, mounting: Mounting) -> tuple[tuple[str, ...], str]:
    """The command, and what its name says of a heredoc beyond the instruction's first line."""
    command, draft = instruction.command, turn.state.draft
    if not command.heredocs:
        return (draft.with_shell(" ".join(command.args)) if command.shell else command.args), ""
    if len(command.args) != 1 or not command.shell:
        raise DockerfileError(f"parsing produced an invalid run command: {' '.join(command.args)}")
    line, first = command.args[0], command.heredocs[0]
    if not _LONE_HEREDOC.fullmatch(line):
        return draft.with_shell(_reassembled(line, command.heredocs)), ""
    summary = f" ({_first_line(first.content)})"
    if first.content.startswith("#!"):
        mounting.add(_script(turn, first), Mount(target=_PIPES, readonly=True))
        return draft.with_shell(f"{_PIPES}/{first.name}"), summary
    return draft.with_shell(first.content), summary


def _reassembled(line: str, heredocs: tuple[Heredoc, ...]) -> str:
    """The text as the shell is to read it, with the documents after their line."""
    return line + "".join(f"\n{each.content}{each.name}" for each in heredocs)


def _script(turn: Turn, heredoc: Heredoc) -> Input:
    """A heredoc that says itself what runs it, as a file in a file system of its own."""
    action = MakeFile(path=f"/{heredoc.name}", data=heredoc.content.encode(), mode="0755", times=turn.setting.epoch)
    return turn.setting.graph.add(
        Vertex(op=Files(actions=(action,), scratch=True), name="[internal] preparing inline document", stage=turn.stage.key)
    )


def _first_line(document: str) -> str:
    lines = document.strip().replace("\r\n", "\n").split("\n")
    return lines[0] + "..." if len(lines) > 1 else lines[0]


def _environment(turn: Turn, mounting: Mounting) -> tuple[str, ...]:
    """The variables, and those that come of mounts unless they have a value already."""
    entries = turn.state.environment()
    added = [f"{name}={value}" for name, value in mounting.env.items() if name not in turn.state.env]
    if added:
        entries = tuple(sorted((*entries, *added)))
    turn.count_variables(entries)
    return entries


def _network(wanted: str, usual: str) -> str:
    return usual if _one_of(_NETWORKS, wanted, "network") == "default" else wanted


def _one_of(choices: tuple[str, ...], wanted: str, what: str) -> str:
    """What was wanted, or the first of the choices where nothing was."""
    if wanted and wanted not in choices:
        raise DockerfileError(f'unsupported {what} mode "{wanted}"')
    return wanted or choices[0]


def _shown(turn: Turn, text: str, mounting: Mounting) -> str:
    """The command with its variables expanded where they are known, and quoted as it was; a secret is not shown."""
    words = Words(escape=turn.setting.words.escape, keep_quotes=True, keep_unset=True)
    masked = dict.fromkeys((mount.env for mount in mounting.mounts if mount.env), "****")
    try:
        return upper_keyword(words.expand(text, ChainMap(masked, turn.state.env)).text)
    except DockerfileError:
        return upper_keyword(text)


def _with_arguments(turn: Turn, args: tuple[str, ...]) -> str:
    """The command with the ARGs that it could see: ``|1 VERSION=2 /bin/sh -c make``."""
    seen = [f"{name}={turn.state.env.get(name, '')}" for name in turn.state.arguments]
    return " ".join(([f"|{len(seen)}", *seen] if seen else []) + list(args))
