"""The stages of a Dockerfile and what each needs of others; images that COPY and mounts take from are stages without a name.

Nothing recurses: a Dockerfile may have a thousand stages, each upon the other.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (dispatchStates, allReachableStages), validations.go
(validateCircularDependency), whose messages these are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from boxshipd.builder.dockerfile.instructions import Instruction, Span
from boxshipd.builder.dockerfile.suggestions import did_you_mean
from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.planner.state import State
from boxshipd.errors import InvalidParameter
from boxshipd.images.model import Platform


@dataclass(slots=True, eq=False)
class Command:
    """An instruction of a stage.

    Attributes:
        instruction: the instruction.
        origins: the stages that it takes files from: COPY's one, or one for each mount, None where a mount needs none.
        on_build: it is a trigger of the image that the stage began with.
    """

    instruction: Instruction
    origins: tuple[Stage | None, ...] = ()
    on_build: bool = False


@dataclass(slots=True, eq=False)
class Stage:
    """A stage.

    Attributes:
        name: its name in lower case, empty where it has none.
        label: what messages call it.
        shown: what the names of its steps have of it; empty if it is the only one.
        key: its name or its number, empty for an image that is only copied from.
        image: what it comes from, variables expanded.
        span: the lines of the FROM, or of what takes files from an image.
        text: the FROM as it is written.
        base: the stage that it comes from, None for an image.
        platform: what FROM says of it.
        context: the ``--build-context`` that takes its place.
        commands: its instructions; triggers come before its own when they are known.
        needs: the stages that it takes files from, each with one instruction that does.
        state: what it has come to, None before anything is known.
        done: all its instructions have been planned.
        triggered: triggers have been looked for.
        total: how many of its steps have a number.
        count: how many of them have been numbered.
    """

    name: str
    label: str
    key: str
    image: str
    span: Span
    text: str = ""
    shown: str = ""
    base: Stage | None = None
    platform: Platform | None = None
    context: str | None = None
    commands: list[Command] = field(default_factory=list)
    needs: dict[Stage, Instruction] = field(default_factory=dict)
    state: State | None = None
    done: bool = False
    triggered: bool = False
    ignore_cache: bool = False
    total: int = 0
    count: int = 0

    @property
    def is_image(self) -> bool:
        """It is no stage of the Dockerfile, only an image or a context that is copied from."""
        return not self.key

    def upstream(self) -> Iterator[Stage]:
        """The stages that it can't do without."""
        if self.base is not None:
            yield self.base
        yield from self.needs


class Stages:
    """The stages, in order, by name and by number."""

    def __init__(self) -> None:
        self.listed: list[Stage] = []
        self.images: list[Stage] = []
        self._named: dict[str, Stage] = {}

    def add(self, stage: Stage) -> None:
        """Add the next one. It comes FROM an earlier one if that has the name it says."""
        if stage.context is None:
            stage.base = self._named.get(stage.image.lower())
        self.listed.append(stage)
        if stage.name:
            self._named[stage.name.lower()] = stage

    def named(self, name: str) -> Stage | None:
        """The stage of a name; of several the last."""
        return self._named.get(name.lower())

    def numbered(self, number: int) -> Stage:
        """The stage of a number, from 0.

        Raises:
            InvalidParameter: there is none.
        """
        if not 0 <= number < len(self.listed):
            raise InvalidParameter(f"invalid stage index {number}")
        return self.listed[number]

    def image(self, name: str, span: Span) -> Stage:
        """An image or a context that files are taken from."""
        stage = Stage(name="", label=name, key="", image=name, span=span)
        self.images.append(stage)
        return stage

    def target(self, wanted: str) -> Stage:
        """The stage to be built, by name or number.

        Raises:
            InvalidParameter: there is none such.
        """
        if not wanted:
            return self.listed[-1]
        if found := self.named(wanted):
            return found
        for number, stage in enumerate(self.listed):
            if wanted == str(number):
                return stage
        message = f'target stage "{wanted}" could not be found'
        raise InvalidParameter(did_you_mean(message, wanted, [stage.label for stage in self.listed]))

    def name_shown(self) -> None:
        """Say what steps are shown as: a stage that is alone needs no name."""
        alone = len(self.listed) + len(self.images) == 1
        for stage in self.listed:
            stage.shown = "" if alone else stage.label


def needed(targets: Iterable[Stage]) -> set[Stage]:
    """The stages that some can't do without, themselves included."""
    found: set[Stage] = set()
    waiting = list(targets)
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting.extend(stage.upstream())
    return found


def check_circles(stages: Iterable[Stage]) -> None:
    """Find stages that need themselves.

    Raises:
        DockerfileError: there is one.
    """
    finished: set[Stage] = set()
    for start in stages:
        path: dict[Stage, Iterator[Stage]] = {}
        stage: Stage | None = start
        while stage is not None:
            if stage not in finished and stage not in path:
                path[stage] = stage.upstream()
            stage = _next(path, finished)


def _next(path: dict[Stage, Iterator[Stage]], finished: set[Stage]) -> Stage | None:
    """The stage to go on to from the end of a path, which is shortened where there is nothing more to see; None at its end."""
    while path:
        last = next(reversed(path))
        following = next((each for each in path[last] if each not in finished), None)
        if following is None:
            finished.add(last)
            del path[last]
        elif following in path:
            span = last.needs[following].span if following in last.needs else last.span
            raise DockerfileError(f"circular dependency detected on stage: {following.label}", span.first, span.last)
        else:
            return following
    return None
