"""What a stage has come to: its files, its configuration, and what its instructions know.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (dispatchState).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from boxshipd.builder.graph import Copy, Files, Graph, Input, Vertex
from boxshipd.builder.plan import BaseImage, Step
from boxshipd.builder.planner.draft import Draft
from boxshipd.images.model import Platform

HISTORY_COMMENT = "buildkit.dockerfile.v0"


@dataclass(slots=True)
class State:
    """A stage after some of its instructions.

    Attributes:
        platform: what it is for.
        draft: the configuration.
        output: the file system, None for an empty one.
        tree: ``output`` is a tree of files, as a context is, and no file system yet.
        owned: the files of ``output`` have owners that mean something; a context's haven't.
        env: the variables that instructions see and commands get: the configuration's, and ARGs.
        arguments: the names of the ARGs, in order.
        author: MAINTAINER's.
        base: the image it began with.
        layers: how many ``output`` will have.
        steps: what was done since.
        workdir_set: a WORKDIR of this Dockerfile has been there.
        cmd_set: a CMD of this stage has been there.
    """

    platform: Platform
    draft: Draft
    output: Input | None = None
    tree: bool = False
    owned: bool = True
    env: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, None] = field(default_factory=dict)
    author: str = ""
    base: BaseImage | None = None
    layers: int = 0
    steps: list[Step] = field(default_factory=list)
    workdir_set: bool = False
    cmd_set: bool = False
    _entries: tuple[str, ...] | None = None

    def child(self) -> State:
        """What a stage begins with that comes FROM this one."""
        return State(
            platform=self.platform,
            draft=self.draft.copy(),
            output=self.output,
            tree=self.tree,
            owned=self.owned,
            env=dict(self.env),
            arguments=dict(self.arguments),
            author=self.author,
            base=self.base,
            layers=self.layers,
            steps=list(self.steps),
            workdir_set=self.workdir_set,
            _entries=self._entries,
        )

    def set_variable(self, name: str, value: str) -> None:
        """Set a variable for instructions and commands."""
        if self.env.get(name) != value:
            self.env[name] = value
            self._entries = None

    def environment(self) -> tuple[str, ...]:
        """The variables as commands get them, in the order of their names: so ENVs in another order make the same command."""
        if self._entries is None:
            self._entries = tuple(f"{name}={value}" for name, value in sorted(self.env.items()))
        return self._entries

    @property
    def directory(self) -> str:
        """Where commands run and relative paths begin."""
        return self.draft.working_dir or "/"

    def commit(self, created_by: str, *, instruction: str = "", output: Input | None = None) -> None:
        """Note what an instruction did, and the file system that came of it."""
        if output is not None:
            self.output = output
            self.layers += 1
        self.steps.append(Step(created_by=created_by, comment=HISTORY_COMMENT, output=output, instruction=instruction))

    def settle(self, graph: Graph, name: str) -> Input | None:
        """The file system; a tree of files is made one first.

        Args:
            graph: where that is added.
            name: how the step that does so is shown.
        """
        if self.tree and self.output is not None:
            copy = Copy(input=0, sources=("/",), destination="/", directory=True, keep_owner=self.owned)
            self.output = graph.add(Vertex(op=Files(actions=(copy,), scratch=True), inputs=(self.output,), name=name))
            self.tree = False
        return self.output
