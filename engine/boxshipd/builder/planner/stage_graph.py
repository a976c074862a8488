"""From the Dockerfile's stages to stages that know what they come from and what they need of each other.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (buildDispatchStates, toCommand, initOnBuildTriggers), whose
messages these are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec.structs import replace

from boxshipd.builder.dockerfile import instructions
from boxshipd.builder.dockerfile.instructions import Add, Copy, From, Instruction, OnBuild, Run, Workdir
from boxshipd.builder.dockerfile.mounts import mount_origin
from boxshipd.builder.dockerfile.parser import parse_trigger
from boxshipd.builder.dockerfile.suggestions import did_you_mean
from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.planner.bases import SCRATCH
from boxshipd.builder.planner.named_contexts import find_context
from boxshipd.builder.planner.naming import upper_keyword
from boxshipd.builder.planner.places import placed
from boxshipd.builder.planner.stages import Command, Stage, Stages
from boxshipd.builder.planner.turn import Setting
from boxshipd.errors import InvalidParameter
from boxshipd.images.model import Platform
from boxshipd.images.platform import parse

_NUMBERED = (Add, Copy, Run, Workdir)
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_NO_TRIGGERS = ("FROM", "MAINTAINER", "ONBUILD")


def build_stages(setting: Setting) -> Stages:
    """The stages of a Dockerfile.

    Raises:
        DockerfileError: a FROM comes to nothing, a platform can't be one, or an instruction takes files from a stage that
            isn't there.
    """
    stages, dockerfile = Stages(), setting.dockerfile
    declared = {argument.name for arg in dockerfile.arguments for argument in arg.arguments}
    for number, each in enumerate(dockerfile.stages):
        with placed(dockerfile, each.source.span):
            stages.add(_stage(setting, number, each, declared))
    for stage, source in zip(stages.listed, dockerfile.stages, strict=True):
        if stage.context is not None:
            continue
        if stage.base is None and stage.image != SCRATCH:
            stage.total += 1
        stage.total += sum(isinstance(instruction, _NUMBERED) for instruction in source.instructions)
        for instruction in source.instructions:
            with placed(dockerfile, instruction.span):
                stage.commands.append(_command(stages, stage, instruction))
    stages.name_shown()
    return stages


def add_triggers(setting: Setting, stages: Stages, stage: Stage) -> bool:
    """Put the triggers of what a stage comes from before its own instructions.

    Returns:
        Whether one takes files from somewhere, which may have to be looked for first.

    Raises:
        DockerfileError: a trigger can't be right.
    """
    stage.triggered = True
    triggers: list[str] = []
    if stage.base is not None:
        own = (command.instruction for command in stage.base.commands)
        triggers = [instruction.trigger for instruction in own if isinstance(instruction, OnBuild)]
    elif stage.state is not None and not stage.is_image:
        triggers, stage.state.draft.on_build = stage.state.draft.on_build, []
    with placed(setting.dockerfile, stage.span):
        commands = [_command(stages, stage, _trigger(stage, text), on_build=True) for text in triggers]
    stage.commands[:0] = commands
    stage.total += sum(isinstance(command.instruction, _NUMBERED) for command in commands)
    return any(command.origins for command in commands)


def _trigger(stage: Stage, text: str) -> Instruction:
    try:
        instruction = parse_trigger(text)
    except DockerfileError as error:
        # Its line is one of the trigger's, which is none of the Dockerfile's.
        raise DockerfileError(f"ONBUILD {text[:100]}: {error.message}") from error
    if instruction.keyword in _NO_TRIGGERS:
        raise DockerfileError(f"{instruction.keyword} isn't allowed as an ONBUILD trigger")
    return replace(instruction, span=stage.span)


def _stage(setting: Setting, number: int, written: instructions.Stage, declared: set[str]) -> Stage:
    source = written.source
    known = declared | setting.globals.keys()
    found = setting.words.expand(source.image, setting.globals)
    setting.advice.undefined_in_from(found.undefined, known, source.span)
    if not found.text:
        raise DockerfileError(f"base name ({source.image}) should not be blank")
    platform = _platform(setting, source, known) if source.platform else None
    context = find_context(setting.options.contexts, source.name, platform or setting.target) if source.name else None
    return Stage(
        name=source.name,
        label=source.name or f"stage-{number}",
        key=source.name or str(number),
        image=found.text,
        text=upper_keyword(source.text),
        span=source.span,
        platform=platform,
        context=context,
        ignore_cache=_ignores_cache(setting, source.name, number),
    )


def _ignores_cache(setting: Setting, name: str, number: int) -> bool:
    wanted = {each.lower() for each in setting.options.no_cache_stages}
    return setting.options.no_cache or str(number) in wanted or (bool(name) and name.lower() in wanted)


def _platform(setting: Setting, source: From, known: Iterable[str]) -> Platform:
    found = setting.words.expand(source.platform, setting.globals)
    target = setting.globals.get("TARGETPLATFORM", "")
    setting.advice.undefined_in_from(found.undefined, set(known), source.span)
    setting.advice.platform_flag(source.platform, found, target, source.name, source.span)
    unknown = min(found.undefined, default="")
    if not found.text:
        message = f"empty platform value from expression {source.platform}"
        raise DockerfileError(did_you_mean(message, unknown, setting.globals))
    try:
        return parse(found.text)
    except InvalidParameter as error:
        message = f"failed to parse platform {source.platform}: {error}"
        raise DockerfileError(did_you_mean(message, unknown, setting.globals)) from error


def _command(stages: Stages, stage: Stage, instruction: Instruction, *, on_build: bool = False) -> Command:
    """An instruction with the stages that it takes files from, of which the stage is told."""
    origins: tuple[Stage | None, ...] = ()
    if isinstance(instruction, Copy) and instruction.from_:
        origins = (_copy_origin(stages, instruction),)
    elif isinstance(instruction, Run):
        origins = tuple(_mount_origin(stages, instruction, text) for text in instruction.mounts)
    for origin in origins:
        if origin is not None:
            stage.needs.setdefault(origin, instruction)
    return Command(instruction, origins, on_build)


def _copy_origin(stages: Stages, instruction: Copy) -> Stage:
    name = instruction.from_
    if "$" in name:
        raise DockerfileError(
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a "
            "workaround"
        )
    if _NUMBER.fullmatch(name):
        return stages.numbered(int(name))
    return stages.named(name) or stages.image(name, instruction.span)


def _mount_origin(stages: Stages, instruction: Run, text: str) -> Stage | None:
    name = mount_origin(text)
    return (stages.named(name) or stages.image(name, instruction.span)) if name else None
