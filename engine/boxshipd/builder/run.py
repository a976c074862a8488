"""One build: its context, its Dockerfile, its plan, the plan carried out, and its outputs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boxship.types.build_request import BuildResult

from boxshipd.builder.cache.service import BuildCache
from boxshipd.builder.cache.transfer import CacheTransfer
from boxshipd.builder.dockerfile.ignore import ignore_files
from boxshipd.builder.executor import Surroundings
from boxshipd.builder.exporters.configuration import BuiltImage
from boxshipd.builder.exporters.service import Exporter
from boxshipd.builder.feed import Feed
from boxshipd.builder.graph import ContextSource, GitSource, HttpSource, Input
from boxshipd.builder.plan import Plan, PlanOptions, Resolver
from boxshipd.builder.planner.planning import plan
from boxshipd.builder.progress import Sink
from boxshipd.builder.provenance import Invocation, Provenance
from boxshipd.builder.remote import RemoteContext, remote_context
from boxshipd.builder.request import Checked
from boxshipd.builder.resolver import BuildResolver
from boxshipd.builder.results import Result, Snapshot
from boxshipd.builder.session import Session
from boxshipd.builder.solver.solver import Solver
from boxshipd.errors import InternalError, InvalidParameter
from boxshipd.images import platform
from boxshipd.images.reference import Reference
from boxshipd.images.service import Images, Publish
from boxshipd.scheduler.jobs import Scheduler

if TYPE_CHECKING:
    from boxshipd.images.distribution import Distribution

_DOCKERFILE = "Dockerfile"


@dataclass(frozen=True, slots=True)
class Parts:
    """What of the daemon builds need.

    Attributes:
        images: where images go.
        distribution: pushes them.
        scheduler: runs builds as jobs.
        cache: what is kept of builds.
        solver: carries plans out.
        resolver: makes what answers a plan's questions, for one build: its surroundings, whether registries are asked for
            images that are here, and who is told.
        publish: where events go.
    """

    images: Images
    distribution: Distribution
    scheduler: Scheduler
    cache: BuildCache
    solver: Solver
    resolver: Callable[[Surroundings, bool, Sink], BuildResolver]
    publish: Publish


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a build: what programs are told, and the names that the image got."""

    result: BuildResult
    names: tuple[Reference, ...] = ()


class Run:
    """One build.

    Args:
        parts: what of the daemon it needs.
        checked: what is wanted.
        session: the client's side.
        accounts: its registry accounts, as ``X-Registry-Config`` has them.
        feed: who is told.
    """

    def __init__(self, parts: Parts, checked: Checked, session: Session, accounts: str, feed: Feed[Plan | Outcome]) -> None:
        self._parts = parts
        self._checked = checked
        self._request = checked.request
        self._session = session
        self._accounts = accounts
        self._feed = feed
        self._started = time.time()
        self._dockerfile_text = b""

    async def build(self) -> Outcome:
        """Do all of it.

        Raises:
            DaemonError: as ``Builder.build``.
        """
        async with remote_context(self._parts.distribution, self._request.remote, self._session) as context:
            around = Surroundings(
                session=context.session,
                resources=self._checked.resources,
                entitlements=self._checked.entitlements,
                registry_auth=self._accounts,
            )
            async with self._parts.resolver(around, self._request.pull, self._feed.progress) as resolver:
                planned = await self._plan(resolver, context)
                self._feed.tell(planned)
                if self._request.check:
                    return Outcome(BuildResult())
                return await self._carry_out(planned, around, context.source)

    async def _plan(self, resolver: Resolver, context: RemoteContext) -> Plan:
        text = context.dockerfile if context.dockerfile is not None else await self._dockerfile(resolver, context.source)
        self._dockerfile_text = text
        return await plan(text, await self._options(resolver, context), resolver)

    async def _dockerfile(self, resolver: Resolver, source: ContextSource | GitSource | HttpSource) -> bytes:
        """The Dockerfile's text.

        Raises:
            InvalidParameter: there is none, or none that can be.
        """
        if self._request.text is not None:
            text: bytes | None = self._request.text.encode()
        else:
            text = await resolver.read(source, self._name)
        if text is None:
            raise InvalidParameter(f"Cannot locate specified Dockerfile: {self._name}")
        if not text:
            raise InvalidParameter(f"the Dockerfile ({self._name}) cannot be empty")
        return text

    @property
    def _name(self) -> str:
        return self._request.dockerfile or _DOCKERFILE

    async def _options(self, resolver: Resolver, context: RemoteContext) -> PlanOptions:
        request, checked = self._request, self._checked
        return PlanOptions(
            build_args=request.build_args,
            labels=request.labels,
            target=request.target,
            platforms=checked.platforms,
            build_platform=platform.host(),
            no_cache=request.no_cache,
            no_cache_stages=request.no_cache_filter,
            contexts=request.contexts,
            context=context.source,
            ignore_file=await self._ignore_file(resolver, context),
            network=request.network or "default",
            extra_hosts=request.extra_hosts,
            shm_size=request.shm_size,
            ulimits=checked.ulimits,
            cgroup_parent=request.cgroup_parent,
            epoch=checked.epoch,
            check=request.check,
        )

    async def _ignore_file(self, resolver: Resolver, context: RemoteContext) -> str:
        """The ignore file that applies: the Dockerfile's own, or else the context's."""
        if context.dockerfile is not None:
            return ""
        if self._request.text is not None:
            return self._request.ignore
        for name in ignore_files(self._name):
            if (text := await resolver.read(context.source, name)) is not None:
                return text.decode("utf-8", "surrogateescape")
        return ""

    async def _carry_out(self, planned: Plan, around: Surroundings, context: ContextSource | GitSource | HttpSource) -> Outcome:
        wanted = list(
            dict.fromkeys(
                output
                for image in planned.images
                for output in (image.output, *(step.output for step in image.steps))
                if output is not None
            )
        )
        transfer = CacheTransfer(self._parts.images, self._parts.distribution, around, self._feed.progress)
        async with (
            transfer.taken(self._checked.cache_from) as imported,
            self._parts.solver.solve(planned.graph, wanted, around, self._feed.progress, imported) as results,
        ):
            found = dict(zip(wanted, results, strict=True))
            inline = any(place.kind == "inline" for place in self._checked.cache_to)
            solved = tuple(await results.solved(everything=False)) if inline else ()
            built = [
                BuiltImage(
                    image,
                    _file_system(found, image.output),
                    tuple(_file_system(found, step.output) if step.output is not None else None for step in image.steps),
                    solved,
                )
                for image in planned.images
            ]
            outcome = await self._export(built, around, self._provenance(planned, context))
            await transfer.give(self._checked.cache_to, results)
            return outcome

    def _provenance(self, planned: Plan, context: ContextSource | GitSource | HttpSource) -> Provenance | None:
        """What makes statements about the images, if there are to be any."""
        if self._checked.provenance is None:
            return None
        invocation = Invocation(
            id=secrets.token_hex(16),
            request=self._request,
            graph=planned.graph,
            dockerfile=self._dockerfile_text,
            context=context,
            started=self._started,
            finished=time.time(),
        )
        return Provenance(invocation, self._checked.provenance, self._parts.images.stores.catalogue)

    async def _export(self, built: Sequence[BuiltImage], around: Surroundings, provenance: Provenance | None) -> Outcome:
        """Make the outputs, one after the other."""
        exporter = Exporter(self._parts.images, self._parts.distribution, around, self._feed.progress, provenance)
        result = BuildResult()
        names: tuple[Reference, ...] = ()
        for number, output in enumerate(self._checked.outputs):
            made = await exporter.export(built, output, str(number))
            if made is not None and not result.id:
                result, names = made, output.names
        return Outcome(result, names)


def _file_system(found: Mapping[Input, Result], output: Input | None) -> Snapshot:
    """The file system that an output is; an empty one for none."""
    if output is None:
        return Snapshot()
    result = found[output]
    if not isinstance(result, Snapshot):
        raise InternalError(f"build vertex {output.vertex} makes files instead of a file system")
    return result
