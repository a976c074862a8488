"""RUN: a command in a container of its own, whose changes become a layer.

The container has no record: it is started straight over the bus, on an overlay of the layers below, and what it has written
becomes a layer as it is. Source: BuildKit solver/llbsolver/ops/exec.go, executor/runcexecutor.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec
from boxrun.container.spec import Mount, Spec
from boxrun.supervisor.contract import ContainerStatus
from msgspec.structs import replace

from boxshipd.builder.errors import StepFailed
from boxshipd.builder.executor import Work
from boxshipd.builder.graph import Exec
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.ops.execution_container import container_of
from boxshipd.builder.ops.execution_mounts import Caches, Mounted, MountMaker
from boxshipd.builder.ops.execution_output import Output
from boxshipd.builder.ops.files import Selected
from boxshipd.builder.ops.layered import LayeredRoot
from boxshipd.builder.ops.mount_points import Target, make_mount_points
from boxshipd.builder.ops.selection import selection_digest
from boxshipd.builder.results import Result, Snapshot
from boxshipd.builder.trees.snapshot import SnapshotTree
from boxshipd.containers.directories import mount_points
from boxshipd.containers.model import Container
from boxshipd.containers.spec.mount_options import in_order
from boxshipd.containers.spec.remapping import mapped
from boxshipd.containers.transients import Places, Transients
from boxshipd.errors import Forbidden, InternalError, InvalidParameter
from boxshipd.images.workers import Cancellation, Workers
from boxshipd.networks.service import Networks
from boxshipd.runtime.errors import CommandFailed
from boxshipd.runtime.link import RuntimeLink

_FILE_TARGETS = frozenset({"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"})


@dataclass(frozen=True, slots=True)
class Engine:
    """What of the daemon commands need.

    Attributes:
        transients: runs them.
        networks: those that they may be on.
        runtime: shows layers as one tree.
        caches: directories of cache mounts.
        workers: threads.
    """

    transients: Transients
    networks: Networks
    runtime: RuntimeLink
    caches: Caches
    workers: Workers


class ExecExecutor:
    """Carries out ``Exec``.

    Args:
        engine: what of the daemon it needs.
        layers: where file systems are.
        selected: what is remembered of their parts from one build to the next.
    """

    def __init__(self, engine: Engine, layers: LayerSession, selected: Selected | None = None) -> None:
        self._engine = engine
        self._layers = layers
        self._selected = selected or Selected()

    async def key(self, op: Exec, work: Work) -> str:
        """See Executor. What a command is told of the machine it runs on, and who its client is, isn't part of it.

        Raises:
            Forbidden: it wants what the build isn't entitled to, which another build's being so doesn't change.
        """
        check_entitled(op, work.around.entitlements)
        hosts = tuple(entry.replace("=", ":", 1).partition(":")[0] for entry in op.extra_hosts)
        lasting = replace(op, proxy=(), extra_hosts=hosts, cgroup_parent="")
        inputs = [await self._content(position, op, given) for position, given in enumerate(work.inputs)]
        document = msgspec.json.encode([lasting, work.vertex.platform, inputs], order="deterministic")
        return f"sha256:{hashlib.sha256(b'exec' + document).hexdigest()}"

    async def _content(self, position: int, op: Exec, given: Result) -> str | list[str]:
        """What of an input counts: of a tree, and of a file system of which only parts are shown, those parts."""
        mounts = [mount for mount in op.mounts if mount.input == position]
        sources = sorted({mount.source for mount in mounts})
        if not isinstance(given, Snapshot):
            return await self._engine.workers.run(lambda: [selection_digest(given, source) for source in sources])
        root = position == 0 and not op.scratch
        if root or any(mount.kind != "bind" or not mount.readonly or not mount.source.strip("/") for mount in mounts):
            return given.chain
        return await self._engine.workers.run(lambda: [self._part(given, source) for source in sources])

    def _part(self, snapshot: Snapshot, source: str) -> str:
        """The digest of a part of a file system. Blocks: it is read, if that wasn't done before."""
        known = f"mount {snapshot.chain} {source}"
        digest = self._selected.get(known)
        if digest is None:
            tree = SnapshotTree(self._layers.directories(snapshot))
            try:
                digest = selection_digest(tree, source)
            finally:
                tree.close()
            self._selected.put(known, digest)
        return digest

    async def run(self, op: Exec, work: Work) -> list[Result]:
        """See Executor.

        Raises:
            StepFailed: the command failed, or couldn't be run.
            Forbidden: it wants what the build isn't entitled to.
            SourceMissing, NotFound: what is to be mounted isn't there.
        """
        check_entitled(op, work.around.entitlements)
        below = Snapshot() if op.scratch else work.inputs[0]
        if not isinstance(below, Snapshot):
            raise InvalidParameter("a command needs a file system to run in")
        container_id = secrets.token_hex(32)
        async with self._engine.transients.places(container_id) as places:
            async with AsyncExitStack() as stack:
                engine = self._engine
                maker = MountMaker(work, self._layers, engine.caches, engine.workers, engine.runtime, places, stack)
                mounted = await maker.make(op)
                container = container_of(
                    op,
                    container_id,
                    env=(*op.proxy, *op.env, *mounted.env),
                    directory=places.run,
                    networks=engine.networks,
                    settings=engine.transients.settings,
                )
                status = await self._execute(op, work, container, below, mounted, places)
            _check(op, status)
            return [await self._layer(below, places)]

    async def _execute(  # noqa: PLR0917 - what comes together here
        self, op: Exec, work: Work, container: Container, below: Snapshot, mounted: Mounted, places: Places
    ) -> ContainerStatus:
        """Run the command to its end, and until all that it has printed is told."""

        async def change(spec: Spec) -> Spec:
            return await self._engine.workers.run(lambda: self._spec(spec, work, container, below, mounted, places))

        with Output(work.report) as output:
            relaying = asyncio.create_task(output.relay())
            try:
                status = await self._engine.transients.run(container, change, output.theirs.fileno())
                output.handed_over()
                await relaying
            except CommandFailed as error:
                message = f"The command '{' '.join(op.args)}' couldn't be run: {error}"
                raise StepFailed(message, error.failure.exit_code) from error
            finally:
                relaying.cancel()
                await asyncio.wait([relaying])
        return status

    def _spec(  # noqa: PLR0917 - what comes together here
        self, spec: Spec, work: Work, container: Container, below: Snapshot, mounted: Mounted, places: Places
    ) -> Spec:
        """What is run: the container's spec with the step's root, mounts and limits. Blocks: paths are looked up."""
        data_root = self._engine.transients.settings.data_root
        layers = (*self._layers.directories(below), mount_points(data_root))
        own = {mount.target for mount in mounted.mounts}
        mounts = in_order(
            [
                *(mount for mount in spec.mounts if mount.target not in own),
                *mapped(mounted.mounts, container.config.remapping),
            ]
        )
        targets = [_target(mount, mounted) for mount in mounts]
        missing = f"{places.disk}/mount-points"
        with LayeredRoot(layers) as root:
            if make_mount_points(root, targets, missing):
                layers = (missing, *layers)
        return replace(
            spec,
            root=replace(spec.root, lower=layers, upper=places.upper, work=places.work, volatile=True),
            mounts=mounts,
            resources=replace(work.around.resources, devices=spec.resources.devices),
        )

    async def _layer(self, below: Snapshot, places: Places) -> Snapshot:
        """Make what the command has written a layer."""
        cancellation = Cancellation()

        def make() -> Snapshot:
            unpacking = self._layers.unpacking()
            try:
                os.rename(places.upper, unpacking.root)
            except OSError as error:
                unpacking.discard()
                raise InternalError(f"take over what a command has written: {error.strerror}") from error
            return self._layers.from_upper(below, unpacking, cancellation.check)

        return await self._engine.workers.run(make, cancellation)


def _target(mount: Mount, mounted: Mounted) -> Target:
    # A tmpfs takes over the permissions of what it lies on: on what wasn't there it is to have its own.
    mode = 0o1777 if mount.kind == "tmpfs" else 0o755
    return Target(mount.target, mount.target in mounted.files or mount.target in _FILE_TARGETS, mode)


def check_entitled(op: Exec, entitlements: frozenset[str]) -> None:
    """Refuse what a build isn't entitled to.

    Raises:
        Forbidden: it isn't.
    """
    needed = {"security.insecure"} if op.security == "insecure" else set()
    if op.network == "host":
        needed.add("network.host")
    for name in sorted(needed - entitlements):
        raise Forbidden(f"{name} is not allowed: the build isn't entitled to it (--allow {name})")


def _check(op: Exec, status: ContainerStatus) -> None:
    """Refuse the outcome of a command that failed.

    Raises:
        StepFailed: it did.
    """
    command = " ".join(op.args)
    if status.lost:
        raise StepFailed(f"The command '{command}' was lost: nobody has seen how it ended", status.exit_code)
    if status.exit_code:
        reason = " (killed: out of memory)" if status.oom_killed else ""
        raise StepFailed(f"The command '{command}' returned a non-zero code: {status.exit_code}{reason}", status.exit_code)
