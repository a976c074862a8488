"""What a front end makes of its text: the graph, the images that come of it, and what it asks for while it does so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from boxship.types.build import BuildWarning
from boxship.types.containers import ContainerConfig
from msgspec import Struct

from boxshipd.builder.graph import ContextSource, GitSource, Graph, HttpSource, Input
from boxshipd.images.model import History, ImageConfig, Platform
from boxshipd.images.record import Layer


class BaseImage(Struct, frozen=True, kw_only=True):
    """An image that a stage begins with.

    ``reference`` and ``layers`` are what ``ImageSource`` takes: its id, or its name with a digest; and its layers, if it is
    none of the daemon's.
    """

    reference: str
    platform: Platform
    config: ImageConfig
    layers: tuple[Layer, ...] = ()


class Resolver(Protocol):
    """Answers what a front end asks while it plans."""

    async def image(self, name: str, platform: Platform | None) -> BaseImage:
        """The image of a name as a Dockerfile has it, for a platform (None: the builder's own, or what there is).

        Raises:
            InvalidParameter: it can't be a name.
            NotFound: there is none, here or at its registry.
        """

    async def layout(self, name: str, platform: Platform | None) -> BaseImage:
        """The image of an OCI layout that the client supplies under a name, for a platform.

        Raises:
            InvalidParameter: it is no layout, or has no image.
            NotFound: the client doesn't have it, or it has none for that platform.
        """

    async def read(self, source: ContextSource | GitSource | HttpSource, path: str) -> bytes | None:
        """A file of a source, such as its ignore file; None where it has none."""


class PlanOptions(Struct, frozen=True, kw_only=True):
    """What a Dockerfile is planned with.

    Attributes:
        build_args: ``--build-arg``; None takes one away that would else be defined.
        labels: ``--label``.
        target: the stage wanted, by name or number; empty for the last.
        platforms: those to build for; none for the builder's own.
        build_platform: the builder's.
        no_cache: no step is taken from the cache.
        no_cache_stages: those stages' aren't.
        contexts: ``--build-context``: a name, and an image (``docker-image://``), a URL, a repository, or ``input:`` or
            ``oci-layout://`` with a name for a context that the client supplies: files, or an image.
        context: where COPY and ADD take from.
        ignore_file: the text of the ignore file that applies to the context.
        network: of commands, where the instruction says nothing.
        extra_hosts, shm_size, ulimits, cgroup_parent, hostname: of commands, as in ``graph.Exec``.
        epoch: SOURCE_DATE_EPOCH, seconds since the epoch: files that the build makes, and the image, are of that time; None for
            now.
        check: the Dockerfile is looked at only.
    """

    build_args: Mapping[str, str | None] = {}
    labels: Mapping[str, str] = {}
    target: str = ""
    platforms: tuple[Platform, ...] = ()
    build_platform: Platform
    no_cache: bool = False
    no_cache_stages: tuple[str, ...] = ()
    contexts: Mapping[str, str] = {}
    context: ContextSource | GitSource | HttpSource = ContextSource()
    ignore_file: str = ""
    network: str = "default"
    extra_hosts: tuple[str, ...] = ()
    shm_size: int = 0
    ulimits: tuple[str, ...] = ()
    cgroup_parent: str = ""
    hostname: str = ""
    epoch: int | None = None
    check: bool = False


class Step(Struct, frozen=True, kw_only=True):
    """One instruction, as the image's history has it.

    ``output`` is the file system after it, None where it changed the configuration only. ``instruction`` is the Dockerfile's
    text, as ``Vertex.instruction`` has it.
    """

    created_by: str
    comment: str = ""
    output: Input | None = None
    instruction: str = ""


class PlannedImage(Struct, frozen=True, kw_only=True):
    """An image to be.

    Attributes:
        platform: what it is for.
        output: its file system; None for an empty one.
        config: what containers get of it.
        author: MAINTAINER's.
        base: the image it began with, None for none; its layers are the first ones of ``output``.
        base_history: the base's history.
        steps: what was done since, in order.
        epoch: the time of the image and of the files that the build makes, seconds since the epoch; None for now. It is
            ``PlanOptions.epoch``, or what the Dockerfile says of SOURCE_DATE_EPOCH.
    """

    platform: Platform
    output: Input | None
    config: ContainerConfig
    author: str = ""
    base: BaseImage | None = None
    base_history: tuple[History, ...] = ()
    steps: tuple[Step, ...] = ()
    epoch: int | None = None


class Line(Struct, frozen=True, kw_only=True):
    """One instruction of a stage that is built, for output in the Dockerfile's order.

    ``text`` is the instruction on one line, ``vertex`` the digest of what carries it out; empty where it changes the
    configuration only, or takes up another stage.
    """

    text: str
    vertex: str = ""


class Plan(Struct, frozen=True, kw_only=True):
    """A Dockerfile, planned.

    ``images`` has one for each platform; with ``check`` it may be empty. ``lines`` are those of the first platform.
    """

    graph: Graph
    images: tuple[PlannedImage, ...]
    warnings: tuple[BuildWarning, ...] = ()
    lines: tuple[Line, ...] = ()
