"""What builds need, put together of what the daemon has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from boxshipd.builder.cache.service import BuildCache
from boxshipd.builder.executor import Executor, Surroundings
from boxshipd.builder.graph import ContextSource, Diff, Exec, Files, GitSource, HttpSource, ImageSource, Merge, Operation
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.ops.context import ContextExecutor
from boxshipd.builder.ops.diff import DiffExecutor
from boxshipd.builder.ops.execution import Engine, ExecExecutor
from boxshipd.builder.ops.files import FilesExecutor, Selected
from boxshipd.builder.ops.git import GitExecutor
from boxshipd.builder.ops.http import HttpExecutor
from boxshipd.builder.ops.image import ImageExecutor
from boxshipd.builder.ops.merge import MergeExecutor
from boxshipd.builder.ops.scoped import Scoped
from boxshipd.builder.progress import Sink
from boxshipd.builder.resolver import BuildResolver
from boxshipd.builder.run import Parts
from boxshipd.builder.solver.solver import Solver
from boxshipd.containers.service import Containers
from boxshipd.images.service import Images, Publish
from boxshipd.images.workers import Workers
from boxshipd.networks.service import Networks
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.jobs import Scheduler

if TYPE_CHECKING:
    from boxshipd.images.distribution import Distribution


def assemble(
    *,
    scratch: str,
    images: Images,
    distribution: Distribution,
    containers: Containers,
    networks: Networks,
    runtime: RuntimeLink,
    scheduler: Scheduler,
    cache: BuildCache,
    workers: Workers,
    publish: Publish,
    proxies: Callable[[], Mapping[str, str]],
) -> Parts:
    """Put together what builds need.

    Args:
        scratch: a directory for what is kept while a build lasts.
        images: where base images come from and results go.
        distribution: pulls and pushes them.
        containers: runs commands.
        networks: those that commands may be on.
        runtime: shows layers as one tree.
        scheduler: runs builds and their steps as jobs.
        cache: what is kept of builds.
        workers: the threads for it.
        publish: where events go.
        proxies: the variables that name the daemon's proxies, for programs.
    """
    engine = Engine(transients=containers.transients, networks=networks, runtime=runtime, caches=cache.mounts, workers=workers)
    selected = Selected()
    makers: Mapping[type[Operation], Callable[[LayerSession], Executor[Any]]] = {
        ImageSource: lambda layers: ImageExecutor(images, distribution, layers),
        GitSource: lambda _: GitExecutor(cache.repositories, workers, proxies),
        HttpSource: lambda _: HttpExecutor(distribution, cache.downloads, workers, scratch),
        ContextSource: lambda _: ContextExecutor(workers, scratch, images.stores.limits),
        Exec: lambda layers: ExecExecutor(engine, layers, selected),
        Files: lambda layers: FilesExecutor(layers, workers, scratch, images.stores.limits, selected),
        Merge: lambda layers: MergeExecutor(layers, workers),
        Diff: lambda layers: DiffExecutor(layers, workers),
    }
    executors: dict[type[Operation], Executor[Any]] = {kind: Scoped(images.stores, make) for kind, make in makers.items()}

    def resolver(around: Surroundings, pull: bool, sink: Sink) -> BuildResolver:
        return BuildResolver(
            images=images,
            distribution=distribution,
            executors=executors,
            workers=workers,
            around=around,
            pull=pull,
            sink=sink,
        )

    return Parts(
        images=images,
        distribution=distribution,
        scheduler=scheduler,
        cache=cache,
        solver=Solver(executors, cache, scheduler, workers),
        resolver=resolver,
        publish=publish,
    )
