"""From a Dockerfile's text to a graph and the images that come of it.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (toDispatchState), frontend/dockerfile/builder/build.go.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from boxship.types.build import BuildWarning
from msgspec.structs import replace

from boxshipd.builder.dockerfile.instructions import Dockerfile, Span
from boxshipd.builder.dockerfile.lint import Linter
from boxshipd.builder.dockerfile.parser import parse
from boxshipd.builder.dockerfile.words import Words
from boxshipd.builder.errors import ChecksFailed, DockerfileError
from boxshipd.builder.graph import ContextSource, GitSource, Graph, HttpSource
from boxshipd.builder.plan import Line, Plan, PlannedImage, PlanOptions, Resolver
from boxshipd.builder.planner import arguments
from boxshipd.builder.planner.advice import Advice
from boxshipd.builder.planner.bases import begin
from boxshipd.builder.planner.builder_args import KNOWN, BuilderArgs, builder_args, is_dockerfile
from boxshipd.builder.planner.ignored import Ignored
from boxshipd.builder.planner.places import placed
from boxshipd.builder.planner.stage_graph import add_triggers, build_stages
from boxshipd.builder.planner.stage_planning import plan_stage
from boxshipd.builder.planner.stages import Stage, Stages, check_circles, needed
from boxshipd.builder.planner.state import State
from boxshipd.builder.planner.turn import Setting
from boxshipd.images.model import Platform

_SECONDS = re.compile(r"-?[0-9]{1,18}")


@dataclass(slots=True)
class _Request:
    """What is asked for, whatever the platform, and what comes of all platforms together."""

    dockerfile: Dockerfile
    options: PlanOptions
    build_args: dict[str, str | None]
    builder: BuilderArgs
    linter: Linter
    graph: Graph = field(default_factory=Graph)
    consumed: set[str] = field(default_factory=set)


async def plan(dockerfile: bytes, options: PlanOptions, resolver: Resolver) -> Plan:
    """Plan a Dockerfile.

    Args:
        dockerfile: its text.
        options: what it is planned with.
        resolver: knows images, and files of contexts. Images are asked for all at once, and only those of stages that are
            needed for the target; ``check`` without a target needs all.

    Returns:
        The graph and an image for each platform; none with ``check``.

    Raises:
        DockerfileError: the Dockerfile can't be right; it knows its lines.
        ChecksFailed: there is advice, and ``# check=error=true`` makes errors of it.
        InvalidParameter: the target isn't there, or an option can't be right.
        NotFound: there is no image of a name; or whatever else the resolver raises.
    """
    build_args = arguments.build_arguments(options)
    builder = builder_args(build_args)
    linter = Linter(builder.check)
    # A Dockerfile may have so many lines that the event loop would be missed meanwhile.
    parsed = await asyncio.to_thread(parse, dockerfile, linter)
    request = _Request(parsed, options, build_args, builder, linter)
    platforms = options.platforms or (options.build_platform,)
    planned = [await _plan_platform(request, platform, resolver) for platform in platforms]
    warnings = (*linter.warnings, *_others(request))
    try:
        linter.conclude()
    except DockerfileError as error:
        raise ChecksFailed(error.message, warnings) from error
    return Plan(
        graph=request.graph,
        images=() if options.check else tuple(image for image, _ in planned),
        warnings=warnings,
        lines=tuple(planned[0][1]),
    )


def _setting(request: _Request, platform: Platform) -> Setting:
    """What the stages share for one platform."""
    dockerfile, options, build_args = request.dockerfile, request.options, request.build_args
    words = Words(escape=dockerfile.escape)
    predefined = arguments.overridden(
        arguments.platform_arguments(options.build_platform, platform, options.target or dockerfile.stages[-1].source.name),
        build_args,
    )
    ignored = _ignored(options)
    advice = Advice(request.linter, ignored)
    _check_defaults(dockerfile, predefined, words, advice)
    variables = _global_variables(dockerfile, predefined, build_args, words)
    request.consumed |= predefined.keys() | {argument.name for arg in dockerfile.arguments for argument in arg.arguments}
    return Setting(
        dockerfile=dockerfile,
        graph=request.graph,
        options=options,
        builder=request.builder,
        build_args=build_args,
        globals=variables,
        proxy=arguments.proxy_variables(build_args),
        words=words,
        advice=advice,
        context=_context(options, request.builder, ignored),
        target=platform,
        several=len(options.platforms) > 1 or request.builder.multi_platform,
        epoch=_epoch(build_args.get(arguments.EPOCH, variables.get(arguments.EPOCH))),
        consumed=request.consumed,
    )


def _ignored(options: PlanOptions) -> Ignored | None:
    """What is left out of the client's files; other contexts are taken whole, as BuildKit does."""
    if not options.ignore_file or not isinstance(options.context, ContextSource):
        return None
    return Ignored(options.ignore_file.encode("utf-8", "surrogateescape"))


def _context(options: PlanOptions, builder: BuilderArgs, ignored: Ignored | None) -> ContextSource | GitSource | HttpSource:
    """What COPY and ADD take from."""
    context = options.context
    if isinstance(context, ContextSource) and ignored is not None:
        return replace(context, exclude=ignored.patterns)
    if isinstance(context, GitSource) and builder.keep_git_dir:
        return replace(context, keep_git_dir=True)
    return context


def _global_variables(
    dockerfile: Dockerfile, predefined: Mapping[str, str], build_args: Mapping[str, str | None], words: Words
) -> dict[str, str]:
    """The variables that FROM sees: those that are always there, and the ARGs before it."""
    found = dict(predefined)
    for arg in dockerfile.arguments:
        with placed(dockerfile, arg.span):
            for argument in arg.arguments:
                if argument.name in build_args:
                    value = build_args[argument.name]
                else:
                    value = None if argument.default is None else words.expand(argument.default, found).text
                if value is not None:
                    found[argument.name] = value
    return found


def _check_defaults(dockerfile: Dockerfile, predefined: Mapping[str, str], words: Words, advice: Advice) -> None:
    """Look at whether every FROM is an image's name without any ``--build-arg``."""
    try:
        defaults = _global_variables(dockerfile, predefined, {}, words)
        expanded = [words.expand(stage.source.image, defaults).text for stage in dockerfile.stages]
    except DockerfileError:
        return  # Told when the real values are looked at, if they are wrong as well.
    for stage, text in zip(dockerfile.stages, expanded, strict=True):
        advice.default_base(stage.source.image, text, stage.source.span)


def _epoch(text: str | None) -> int | None:
    if not text:
        return None
    if not _SECONDS.fullmatch(text):
        raise DockerfileError(f"invalid SOURCE_DATE_EPOCH: {text}")
    return int(text)


async def _plan_platform(request: _Request, platform: Platform, resolver: Resolver) -> tuple[PlannedImage, list[Line]]:
    """All stages that the target needs, for one platform; and its instructions in the Dockerfile's order."""
    setting, stages, target = await asyncio.to_thread(_prepare, request, platform)
    everything = request.options.check and not request.options.target
    wanted = stages.listed if everything else [target]
    more = True
    while more:
        await begin(setting, _waiting(stages, wanted), resolver)
        more = await asyncio.to_thread(_add_triggers, setting, stages, wanted)
    return await asyncio.to_thread(_plan_stages, setting, stages, wanted, target), setting.lines


def _prepare(request: _Request, platform: Platform) -> tuple[Setting, Stages, Stage]:
    setting = _setting(request, platform)
    stages = build_stages(setting)
    _check_circles(setting, stages)
    return setting, stages, stages.target(request.options.target)


def _waiting(stages: Stages, wanted: list[Stage]) -> list[Stage]:
    """The stages and images that it has yet to be found out of what they begin with."""
    reached = needed(wanted)
    return [stage for stage in (*stages.listed, *stages.images) if stage in reached and not stage.base and not stage.state]


def _add_triggers(setting: Setting, stages: Stages, wanted: list[Stage]) -> bool:
    """Add the triggers of what is known by now; whether they take files from stages that weren't needed before."""
    reached = needed(wanted)
    fresh = [stage for stage in stages.listed if stage in reached and not stage.triggered and stage.context is None]
    found = [add_triggers(setting, stages, stage) for stage in fresh]
    if any(found):
        _check_circles(setting, stages)
    return any(found)


def _check_circles(setting: Setting, stages: Stages) -> None:
    with placed(setting.dockerfile, Span(0, 0)):
        check_circles(stages.listed)


def _plan_stages(setting: Setting, stages: Stages, wanted: list[Stage], target: Stage) -> PlannedImage:
    planned = needed(wanted)
    for stage in stages.listed:
        if stage in planned and not stage.done:
            plan_stage(setting, stage)
    assert target.state is not None
    return _image(setting, target.state)


def _image(setting: Setting, state: State) -> PlannedImage:
    """The image that a stage has come to."""
    state.draft.labels.update(setting.options.labels)
    return PlannedImage(
        platform=setting.target if setting.options.platforms else state.platform,
        output=state.settle(setting.graph, "[internal] make a file system of the context"),
        config=state.draft.config(),
        author=state.author,
        base=state.base,
        base_history=tuple((state.base.config.history or ()) if state.base else ()),
        steps=tuple(state.steps),
        epoch=setting.epoch,
    )


def _others(request: _Request) -> list[BuildWarning]:
    """What isn't about the rules of ``# check=``."""
    found: list[BuildWarning] = []
    syntax = request.dockerfile.directives.get("syntax", "")
    if syntax and not is_dockerfile(syntax):
        found.append(BuildWarning(rule="", message=f"# syntax={syntax} is another front end: this is read as a Dockerfile"))
    left = sorted(name for name in request.build_args.keys() - request.consumed - KNOWN if not arguments.is_proxy(name))
    if left:
        message = f"One or more build-args [{' '.join(left)}] were not consumed"
        found.append(BuildWarning(rule="", message=message))
    return found
