"""Instructions that change the image's configuration, and no file but WORKDIR's directory.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (dispatchEnv and those after it), whose history texts these are.
"""

from __future__ import annotations

from boxship.types.containers import HealthConfig
from boxship.units import parse_duration
from msgspec import UNSET

from boxshipd.builder.dockerfile.instructions import (
    Arg,
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Label,
    Maintainer,
    OnBuild,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.graph import Files, MakeDirectory
from boxshipd.builder.planner.arguments import UNSET_IN_COMMANDS
from boxshipd.builder.planner.go_format import duration, plain_list, quoted_list
from boxshipd.builder.planner.paths import absolute
from boxshipd.builder.planner.ports import parse_exposed
from boxshipd.builder.planner.turn import Turn
from boxshipd.containers.signals import parse_signal

_LONGEST_VARIABLE = 128 * 1024
"""Bytes of one variable, with its name, that the kernel hands to a program (MAX_ARG_STRLEN in linux/binfmts.h)."""


def plan_env(turn: Turn, instruction: Env) -> None:
    """``ENV``: every value sees the variables as they were before the instruction."""
    pairs = [(turn.expand(pair.name), turn.expand(pair.value)) for pair in instruction.pairs]
    for name, value in pairs:
        _check_variable(name, value)
        turn.state.set_variable(name, value)
        turn.state.draft.env[name] = f"{name}={value}"
    turn.commit(" ".join(("ENV", *(f"{name}={value}" for name, value in pairs))))


def plan_label(turn: Turn, instruction: Label) -> None:
    """``LABEL``."""
    pairs = [(turn.expand(pair.name), turn.expand(pair.value)) for pair in instruction.pairs]
    turn.state.draft.labels.update(pairs)
    turn.commit(" ".join(("LABEL", *(f"{name}={value}" for name, value in pairs))))


def plan_arg(turn: Turn, instruction: Arg) -> None:
    """``ARG``: what ``--build-arg`` says comes before the default, and that before what is there ahead of the first FROM."""
    setting, state = turn.setting, turn.state
    shown = []
    for argument in instruction.arguments:
        name = argument.name
        setting.consumed.add(name)
        if name in setting.build_args:
            value = setting.build_args[name]
        elif argument.default is not None:
            value = turn.expand(argument.default)
        else:
            value = setting.globals.get(name)
        if value is not None and name not in UNSET_IN_COMMANDS:
            _check_variable(name, value)
            state.set_variable(name, value)
        state.arguments[name] = None
        shown.append(name if value is None else f"{name}={value}")
    turn.commit(f"ARG {' '.join(shown)}")


def plan_cmd(turn: Turn, instruction: Cmd) -> None:
    """``CMD``."""
    turn.state.draft.cmd = _command(turn, "CMD", instruction)
    turn.state.draft.args_escaped = True
    turn.state.cmd_set = True
    turn.commit(f"CMD {quoted_list(turn.state.draft.cmd)}")


def plan_entrypoint(turn: Turn, instruction: Entrypoint) -> None:
    """``ENTRYPOINT``: a CMD of the base goes, as it was for another program; one of this stage stays."""
    draft = turn.state.draft
    draft.entrypoint = _command(turn, "ENTRYPOINT", instruction)
    if not turn.state.cmd_set:
        draft.cmd = None
    turn.commit(f"ENTRYPOINT {quoted_list(draft.entrypoint)}")


def _command(turn: Turn, keyword: str, instruction: Cmd | Entrypoint) -> tuple[str, ...]:
    command = instruction.command
    if not command.shell:
        return command.args
    if not turn.state.draft.shell:
        turn.setting.advice.shell_form(keyword, instruction.span)
    return turn.state.draft.with_shell(" ".join(command.args))


def plan_expose(turn: Turn, instruction: Expose) -> None:
    """``EXPOSE``: ranges are written out."""
    ports: list[str] = []
    for word in [word for text in instruction.ports for word in turn.split(text)]:
        exposed = parse_exposed(word)
        turn.setting.advice.exposed(word, exposed, instruction.span)
        ports += exposed.ports
    turn.state.draft.exposed_ports.update((port, {}) for port in ports)
    turn.commit(f"EXPOSE {plain_list(ports)}")


def plan_volume(turn: Turn, instruction: Volume) -> None:
    """``VOLUME``."""
    paths = [turn.expand(path) for path in instruction.paths]
    if "" in paths:
        raise DockerfileError("VOLUME specified can not be an empty string")
    turn.state.draft.volumes.update((path, {}) for path in paths)
    turn.commit(f"VOLUME {plain_list(paths)}")


def plan_user(turn: Turn, instruction: User) -> None:
    """``USER``."""
    turn.state.draft.user = turn.expand(instruction.user)
    turn.commit(f"USER {turn.state.draft.user}")


def plan_workdir(turn: Turn, instruction: Workdir) -> None:
    """``WORKDIR``: a directory that isn't there is made, and belongs to USER."""
    path, state = turn.expand(instruction.path), turn.state
    if not state.workdir_set and not path.startswith("/"):
        turn.setting.advice.relative_workdir(path, instruction.span)
    state.workdir_set = True
    state.draft.working_dir = absolute(path, state.directory)
    created_by = f"WORKDIR {state.draft.working_dir}"
    if state.draft.working_dir == "/":
        turn.commit(created_by)
        return
    base = state.settle(turn.setting.graph, turn.settling())
    action = MakeDirectory(path=state.draft.working_dir, owner=state.draft.user, times=turn.setting.epoch)
    op = Files(actions=(action,), scratch=base is None)
    turn.commit(created_by, turn.add(op, () if base is None else (base,), turn.prefix() + turn.shown()))


def plan_stop_signal(turn: Turn, instruction: StopSignal) -> None:
    """``STOPSIGNAL``."""
    signal = turn.expand(instruction.signal)
    parse_signal(signal)
    turn.state.draft.stop_signal = signal
    turn.commit(f"STOPSIGNAL {signal}")


def plan_shell(turn: Turn, instruction: Shell) -> None:
    """``SHELL``."""
    turn.state.draft.shell = instruction.args
    turn.commit(f"SHELL {plain_list(instruction.args)}")


def plan_maintainer(turn: Turn, instruction: Maintainer) -> None:
    """``MAINTAINER``."""
    turn.state.author = instruction.name
    turn.commit(f"MAINTAINER {instruction.name}")


def plan_on_build(turn: Turn, instruction: OnBuild) -> None:
    """``ONBUILD``: kept for images that come FROM this one; the history has nothing of it."""
    turn.state.draft.on_build.append(instruction.trigger)


def plan_health_check(turn: Turn, instruction: HealthCheck) -> None:
    """``HEALTHCHECK``."""
    test = _health_test(instruction.command)
    times = [
        _interval(instruction.interval),
        _interval(instruction.timeout),
        _interval(instruction.start_period),
        _interval(instruction.start_interval),
    ]
    retries = int(instruction.retries or 0)
    interval, timeout, start_period, start_interval = times
    # What isn't given isn't said either, as in Docker's own images.
    turn.state.draft.healthcheck = HealthConfig(
        test=test,
        interval=interval or UNSET,
        timeout=timeout or UNSET,
        retries=retries or UNSET,
        start_period=start_period or UNSET,
        start_interval=start_interval or UNSET,
    )
    shown = [duration(time) for time in times]
    turn.commit(
        f"HEALTHCHECK {{Test:{plain_list(test)} Interval:{shown[0]} Timeout:{shown[1]} StartPeriod:{shown[2]} "
        f"StartInterval:{shown[3]} Retries:{retries}}}"
    )


def _health_test(command: Command | None) -> list[str]:
    if command is None:
        return ["NONE"]
    return ["CMD-SHELL" if command.shell else "CMD", *command.args]


def _interval(text: str) -> int:
    """A time, which the front end has seen to be one, in ns; 0 where nothing is said."""
    return parse_duration(text) if text else 0


def _check_variable(name: str, value: str) -> None:
    """A variable that no program could be started with is refused where it is made, and with it values that grow for ever."""
    if len(name) + len(value) + 2 > _LONGEST_VARIABLE:
        raise DockerfileError(f"{name[:100]}: a variable can't have more than {_LONGEST_VARIABLE} bytes")
    if "\0" in value:
        raise DockerfileError(f"{name}: a variable can't have a NUL character")
