"""All instructions of a stage, one after the other.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (dispatchStages, dispatch).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from boxshipd.builder.dockerfile import instructions
from boxshipd.builder.plan import Line
from boxshipd.builder.planner import copying, metadata, running
from boxshipd.builder.planner.draft import DEFAULT_PATH
from boxshipd.builder.planner.naming import upper_keyword
from boxshipd.builder.planner.paths import absolute
from boxshipd.builder.planner.places import placed
from boxshipd.builder.planner.stages import Stage
from boxshipd.builder.planner.state import State
from boxshipd.builder.planner.turn import Setting, Turn

_PLANNERS: dict[type[instructions.Instruction], Callable[[Turn, Any], None]] = {
    instructions.Add: copying.plan_add,
    instructions.Arg: metadata.plan_arg,
    instructions.Cmd: metadata.plan_cmd,
    instructions.Copy: copying.plan_copy,
    instructions.Entrypoint: metadata.plan_entrypoint,
    instructions.Env: metadata.plan_env,
    instructions.Expose: metadata.plan_expose,
    instructions.HealthCheck: metadata.plan_health_check,
    instructions.Label: metadata.plan_label,
    instructions.Maintainer: metadata.plan_maintainer,
    instructions.OnBuild: metadata.plan_on_build,
    instructions.Run: running.plan_run,
    instructions.Shell: metadata.plan_shell,
    instructions.StopSignal: metadata.plan_stop_signal,
    instructions.User: metadata.plan_user,
    instructions.Volume: metadata.plan_volume,
    instructions.Workdir: metadata.plan_workdir,
}


def plan_stage(setting: Setting, stage: Stage) -> State:
    """Plan a stage, all that it comes from being planned.

    Raises:
        DockerfileError: one of its instructions can't be right.
    """
    state = stage.state
    if state is None:
        assert stage.base is not None
        assert stage.base.state is not None
        state = stage.state = stage.base.state.child()
    _settle_in(state)
    begins = state.output.vertex if stage.base is None and state.output is not None else ""
    setting.lines.append(Line(text=stage.text, vertex=begins))
    for command in stage.commands:
        turn = Turn(setting, stage, state, command)
        before = state.output
        with placed(setting.dockerfile, command.instruction.span):
            _PLANNERS[type(command.instruction)](turn, command.instruction)
        made = state.output.vertex if state.output is not None and state.output != before else ""
        setting.lines.append(Line(text=upper_keyword(command.instruction.text), vertex=made))
    stage.done = True
    return state


def _settle_in(state: State) -> None:
    """Take over what the base's configuration says for instructions: its variables, which come before its ARGs, and its
    directory.
    """
    draft = state.draft
    draft.env.setdefault("PATH", f"PATH={DEFAULT_PATH}")
    for name, entry in draft.env.items():
        state.set_variable(name, entry.partition("=")[2])
    if draft.working_dir:
        draft.working_dir = absolute(draft.working_dir, "/")
