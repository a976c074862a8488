"""What an instruction is planned with: its stage as it is by then, and what all stages share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from boxshipd.builder.dockerfile.instructions import Dockerfile
from boxshipd.builder.dockerfile.words import HEREDOC, Words
from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.graph import ContextSource, GitSource, Graph, HttpSource, Input, Operation, Vertex
from boxshipd.builder.plan import Line, PlanOptions
from boxshipd.builder.planner.advice import Advice
from boxshipd.builder.planner.builder_args import BuilderArgs
from boxshipd.builder.planner.naming import numbered, upper_keyword
from boxshipd.builder.planner.stages import Command, Stage
from boxshipd.builder.planner.state import State
from boxshipd.images.model import DOCUMENT_LIMIT, Platform

INTERNAL_CONTEXT = "[internal] load build context"
_HISTORY_LIMIT = DOCUMENT_LIMIT // 2
_MOST_LAYERS = 500
"""As images/assembly.py takes them; the kernel doesn't mount more either (OVL_MAX_STACK in fs/overlayfs/overlayfs.h)."""
_VARIABLES_LIMIT = 16 << 20
_NAME_LIMIT = 4096
"""Characters of a step's name; it is shown on one line, and variables could make it any length."""


@dataclass(slots=True)
class Setting:
    """What all stages of one platform share.

    Attributes:
        dockerfile: the Dockerfile, for errors to show.
        graph: what they are planned into.
        options: the request's.
        builder: what of the build arguments speaks to the builder.
        build_args: the request's, with the time of the build.
        globals: the variables before the first FROM.
        proxy: the proxies for commands.
        words: how the Dockerfile's words are read.
        advice: takes what could be better.
        context: what COPY and ADD take from.
        target: the platform built for.
        several: there are several, so that names say which.
        epoch: the time of files, seconds since the epoch; None for now.
        consumed: the build arguments that something asked for.
        history: characters of history so far.
        lines: the instructions that have been planned, in the Dockerfile's order.
        variables: characters of all commands' variables so far.
    """

    dockerfile: Dockerfile
    graph: Graph
    options: PlanOptions
    builder: BuilderArgs
    build_args: Mapping[str, str | None]
    globals: Mapping[str, str]
    proxy: tuple[str, ...]
    words: Words
    advice: Advice
    context: ContextSource | GitSource | HttpSource
    target: Platform
    several: bool
    epoch: int | None
    consumed: set[str]
    history: int = 0
    lines: list[Line] = field(default_factory=list)
    variables: int = 0

    def load_context(self) -> Input:
        """The build context."""
        return self.graph.add(Vertex(op=self.context, name=INTERNAL_CONTEXT))

    def platform_shown(self, stage: Stage) -> Platform | None:
        """The platform that names of a stage's steps have, if they have one."""
        return stage.state.platform if self.several and stage.state is not None else None


@dataclass(frozen=True, slots=True)
class Turn:
    """One instruction's."""

    setting: Setting
    stage: Stage
    state: State
    command: Command

    def expand(self, word: str) -> str:
        """A word with its variables expanded; those that aren't defined are noted.

        Raises:
            DockerfileError: it can't be right; it doesn't know the line.
        """
        found = self.setting.words.expand(word, self.state.env)
        self.undefined(found.undefined)
        return found.text

    def expand_document(self, text: str) -> str:
        """A heredoc's text with its variables expanded.

        Raises:
            DockerfileError: it can't be right; it doesn't know the line.
        """
        found = HEREDOC.expand(text, self.state.env)
        self.undefined(found.undefined)
        return found.text

    def split(self, text: str) -> list[str]:
        """Words with their variables expanded, which may be several words then.

        Raises:
            DockerfileError: they can't be right; it doesn't know the line.
        """
        words, _ = self.setting.words.split(text, self.state.env)
        return words

    def undefined(self, names: frozenset[str]) -> None:
        """Note variables that aren't defined."""
        if unknown := names - self.state.arguments.keys():
            self.setting.advice.undefined_variables(unknown, self.state.env, self.command.instruction.span)

    def shown(self) -> str:
        """The instruction as it is shown: its variables expanded, if they can be."""
        text = self.command.instruction.text
        try:
            return upper_keyword(self.setting.words.expand(text, self.state.env).text)
        except DockerfileError:
            return upper_keyword(text)

    def prefix(self) -> str:
        """What a step's name begins with; it takes the next number."""
        prefix = numbered(self.stage, self.setting.platform_shown(self.stage), self.state.env)
        return f"{prefix}ONBUILD " if prefix and self.command.on_build else prefix

    def settling(self) -> str:
        """What it is called when a context that the stage began with is made a file system."""
        return f"[internal] make a file system of {self.stage.image}"

    def add(self, op: Operation, inputs: tuple[Input, ...], name: str, *, platform: Platform | None = None) -> Input:
        """Add one step to the graph."""
        return self.setting.graph.add(
            Vertex(
                op=op,
                inputs=inputs,
                platform=platform,
                name=name[:_NAME_LIMIT],
                instruction=upper_keyword(self.command.instruction.text),
                stage=self.stage.key,
                ignore_cache=self.stage.ignore_cache,
            )
        )

    def count_variables(self, entries: tuple[str, ...]) -> None:
        """Count a command's variables: each command has them all, so a thousand of either would be a million.

        Raises:
            DockerfileError: all commands together have more than the daemon can be asked to keep.
        """
        self.setting.variables += sum(map(len, entries))
        if self.setting.variables > _VARIABLES_LIMIT:
            raise DockerfileError(f"the variables of all commands together have more than {_VARIABLES_LIMIT} characters")

    def commit(self, created_by: str, output: Input | None = None) -> None:
        """Note in the history what the instruction did.

        Raises:
            DockerfileError: there is so much of it, or of layers, that no engine would take the image.
        """
        if output is not None and self.state.layers >= _MOST_LAYERS:
            raise DockerfileError(f"max depth exceeded: an image can't have more than {_MOST_LAYERS} layers")
        self.setting.history += len(created_by)
        if self.setting.history > _HISTORY_LIMIT:
            raise DockerfileError(f"the image's history would have more than {_HISTORY_LIMIT} characters")
        self.state.commit(created_by, instruction=upper_keyword(self.command.instruction.text), output=output)
