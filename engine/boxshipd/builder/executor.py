"""What carries out one kind of operation, and what it is given for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from boxrun.container.spec import Resources

from boxshipd.builder.graph import Operation, Vertex
from boxshipd.builder.progress import Reporter
from boxshipd.builder.results import Result
from boxshipd.builder.session import Session
from boxshipd.builder.trees.archive import ArchiveTree

Op_contra = TypeVar("Op_contra", bound=Operation, contravariant=True)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a build's commands run under, none of which makes them other commands for the cache.

    Attributes:
        session: the client's side.
        resources: limits for commands.
        entitlements: what commands may be allowed beyond the usual: ``network.host``, ``security.insecure``.
        registry_auth: the request's ``X-Registry-Config``: accounts by registry.
        contexts: by name, the contexts that have been read from already, with everything that is in them. A client sends one
            once: who needs it as well makes a tree of its own of this one.
    """

    session: Session
    resources: Resources
    entitlements: frozenset[str] = frozenset()
    registry_auth: str = ""
    contexts: dict[str, ArchiveTree] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """One vertex to be carried out.

    Attributes:
        vertex: the vertex.
        inputs: the results that it names, in its order.
        around: what commands run under.
        report: where its output and progress go.
    """

    vertex: Vertex
    inputs: Sequence[Result]
    around: Surroundings
    report: Reporter


class Executor(Protocol[Op_contra]):
    """Carries out operations of one kind."""

    async def key(self, op: Op_contra, work: Work) -> str:
        """What names the outcome: a digest over the operation and whatever of its inputs it depends on; empty where it is never
        cached.

        A source's is only asked for where the outcome can be known without it (an image's digest, a commit).
        """

    async def run(self, op: Op_contra, work: Work) -> list[Result]:
        """Carry it out; its outputs. Cancelled, it ends everything it has begun and leaves nothing behind."""
