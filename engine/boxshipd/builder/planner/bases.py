"""What stages begin with: images, contexts that stand for them, and nothing.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (resolveReachableStages, resolveBaseImage), image.go
(emptyImage).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from msgspec import Struct

from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.graph import ImageSource, Input, Vertex
from boxshipd.builder.plan import BaseImage, Resolver
from boxshipd.builder.planner.draft import DEFAULT_PATH, Draft
from boxshipd.builder.planner.named_contexts import Files, find_context, load_context
from boxshipd.builder.planner.naming import numbered
from boxshipd.builder.planner.places import placed
from boxshipd.builder.planner.stages import Stage
from boxshipd.builder.planner.state import State
from boxshipd.builder.planner.turn import Setting
from boxshipd.errors import InvalidParameter
from boxshipd.images import reference
from boxshipd.images.model import Platform

SCRATCH = "scratch"
_T = TypeVar("_T")


class _Wanted(Struct, frozen=True):
    """What has to be asked for: two stages that want the same ask once. ``context`` is what stands for the image."""

    image: str
    platform: Platform | None
    context: str | None


async def begin(setting: Setting, stages: Collection[Stage], resolver: Resolver) -> None:
    """Find out what stages begin with; all that has to be asked for is asked for at once.

    Args:
        setting: what the stages share.
        stages: those that come from no other stage and have no state yet, in order.
        resolver: knows images and contexts.

    Raises:
        DockerfileError: a name can't be an image's, or a context can't be understood.
        NotFound: there is no such image.
    """
    wanted = {stage: _wanted(setting, stage) for stage in stages}
    lines = {each: stage for stage, each in reversed(wanted.items()) if each is not None}
    questions = [_ask(setting, each, stage, resolver) for each, stage in lines.items()]
    found = dict(zip(lines, await _together(questions), strict=True))
    for stage, each in wanted.items():
        stage.state = _state(setting, stage, None if each is None else found[each])
        stage.done = stage.is_image or stage.context is not None


def _wanted(setting: Setting, stage: Stage) -> _Wanted | None:
    """What to ask for; None for nothing."""
    if stage.context is None and stage.image == SCRATCH:
        return None
    # Where nobody named a platform, an image that is here is good enough, whatever it is for.
    platform = stage.platform or (setting.target if setting.options.platforms else None)
    context = stage.context
    if context is None:
        context = find_context(setting.options.contexts, stage.image, platform or setting.target)
    return _Wanted(stage.name if stage.context is not None else stage.image, platform, context)


async def _ask(setting: Setting, wanted: _Wanted, stage: Stage, resolver: Resolver) -> BaseImage | Files | None:
    with placed(setting.dockerfile, stage.span):
        try:
            if wanted.context is not None:
                return await load_context(wanted.image, wanted.context, wanted.platform, resolver)
            return await resolver.image(wanted.image, wanted.platform)
        except DockerfileError:
            raise
        except InvalidParameter as error:
            raise DockerfileError(f'failed to parse stage name "{wanted.image}": {error}') from error


async def _together(questions: list[Coroutine[Any, Any, _T]]) -> list[_T]:
    """All the answers; when one fails, nobody goes on asking."""
    tasks = [asyncio.ensure_future(each) for each in questions]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _state(setting: Setting, stage: Stage, found: BaseImage | Files | None) -> State:
    """What a stage begins with."""
    if isinstance(found, BaseImage):
        return _from_image(setting, stage, found)
    state = State(platform=stage.platform or setting.target, draft=Draft(working_dir="/"))
    state.draft.env["PATH"] = f"PATH={DEFAULT_PATH}"
    if found is not None:
        state.output = setting.graph.add(Vertex(op=found.source, name=found.name))
        state.tree, state.owned = True, False
    return state


def _from_image(setting: Setting, stage: Stage, image: BaseImage) -> State:
    setting.advice.base_platform(stage.image, stage.platform or setting.target, image.platform, stage.span)
    state = State(platform=image.platform, draft=Draft.of(image.config.config), base=image)
    state.draft.env.setdefault("PATH", f"PATH={DEFAULT_PATH}")
    state.author = image.config.author or ""
    state.layers = len(image.config.rootfs.diff_ids)
    if state.layers:
        state.output = _image_source(setting, stage, state, image)
    return state


def _image_source(setting: Setting, stage: Stage, state: State, image: BaseImage) -> Input:
    prefix = numbered(stage, state.platform if setting.several else None, {})
    name = _full_name(stage.image)
    return setting.graph.add(
        Vertex(
            op=ImageSource(reference=image.reference, platform=image.platform, layers=image.layers),
            name=f"{prefix}FROM {_with_digest(name, image.reference)}",
            instruction=stage.text,
            stage=stage.key,
            image=name,
        )
    )


def _full_name(written: str) -> str:
    """The image's name in full; what is none stays as it is."""
    try:
        return str(reference.parse(written).tagged())
    except InvalidParameter:
        return written


def _with_digest(name: str, found: str) -> str:
    _, at, digest = found.partition("@")
    return name if not at or "@" in name else f"{name}@{digest}"
