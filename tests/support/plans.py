"""Planning Dockerfiles with images that are known by heart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boxship.types.containers import ContainerConfig
from boxshipd.builder.graph import ContextSource, Exec, Files, GitSource, HttpSource, Input, Operation, Vertex
from boxshipd.builder.plan import BaseImage, Plan, PlannedImage, PlanOptions
from boxshipd.builder.planner import plan
from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.images import reference
from boxshipd.images.model import History, ImageConfig, Platform, RootFS
from boxshipd.images.record import Layer

AMD64 = Platform("amd64", "linux")
ARM64 = Platform("arm64", "linux")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Images:
    """A resolver that knows a few images and files, and remembers what it was asked.

    Args:
        configs: the images' configurations, by name; every one of them has one layer.
        files: files of sources, by the source's name and the path.
    """

    def __init__(
        self, configs: Mapping[str, ContainerConfig] | None = None, files: Mapping[tuple[str, str], bytes] | None = None
    ) -> None:
        self._configs = {"debian": ContainerConfig(env=["PATH=/bin"], cmd=["bash"]), "busybox": ContainerConfig(cmd=["sh"])}
        self._configs |= configs or {}
        self._files = files or {}
        self.asked: list[tuple[str, Platform | None]] = []

    async def image(self, name: str, platform: Platform | None) -> BaseImage:
        self.asked.append((name, platform))
        named = reference.parse(name)
        config = self._configs.get(named.familiar_name)
        if config is None:
            raise NotFound(f"{name}: not found")
        found = platform or AMD64
        return BaseImage(
            reference=f"{named.name}@sha256:{'ab' * 32}",
            platform=found,
            config=ImageConfig(
                rootfs=RootFS([f"sha256:{'1' * 64}"]),
                architecture=found.architecture,
                os=found.os,
                config=config,
                history=[History(created_by=f"made {named.familiar_name}")],
            ),
        )

    async def layout(self, name: str, platform: Platform | None) -> BaseImage:
        found = await self.image("busybox", platform)
        layer = Layer(f"sha256:{'2' * 64}", f"sha256:{'1' * 64}", f"sha256:{'1' * 64}", 1)
        return BaseImage(reference=f"sha256:{name}", platform=found.platform, config=found.config, layers=(layer,))

    async def read(self, source: ContextSource | GitSource | HttpSource, path: str) -> bytes | None:
        if not isinstance(source, ContextSource):
            raise InvalidParameter("only the client's files are read here")
        return self._files.get((source.name, path))


class Planned:
    """A plan, easier to look at.

    Args:
        plan: the plan.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @property
    def image(self) -> PlannedImage:
        assert len(self.plan.images) == 1
        return self.plan.images[0]

    @property
    def history(self) -> list[str]:
        return [step.created_by for step in self.image.steps]

    @property
    def names(self) -> list[str]:
        return [vertex.name for vertex in self.plan.graph.vertices.values()]

    @property
    def rules(self) -> list[str]:
        return [warning.rule for warning in self.plan.warnings]

    def vertex(self, place: Input | None) -> Vertex:
        assert place is not None
        return self.plan.graph.vertices[place.vertex]

    def ops(self, kind: type[Any]) -> list[Any]:
        return [vertex.op for vertex in self.plan.graph.vertices.values() if isinstance(vertex.op, kind)]

    @property
    def exec(self) -> Exec:
        (found,) = self.ops(Exec)
        assert isinstance(found, Exec)
        return found

    @property
    def actions(self) -> list[Any]:
        return [action for op in self.ops(Files) for action in op.actions]

    def chain(self) -> list[Operation]:
        """The operations that the file system goes through, first one first."""
        found: list[Operation] = []
        place = self.image.output
        while place is not None:
            vertex = self.vertex(place)
            found.append(vertex.op)
            place = vertex.inputs[0] if vertex.inputs and not getattr(vertex.op, "scratch", False) else None
        return found[::-1]


async def planned(dockerfile: str, images: Images | None = None, **options: Any) -> Planned:
    """Plan a Dockerfile for linux/amd64, or for what ``options`` say."""
    options.setdefault("build_platform", AMD64)
    return Planned(await plan(dockerfile.encode(), PlanOptions(**options), images or Images()))
