"""What is mounted for a command: other stages' files, contexts, caches, secrets, agents and empty file systems.

Source: BuildKit solver/llbsolver/mounts/mount.go, frontend/dockerfile/dockerfile2llb/convert_runmount.go.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple, Protocol

from boxrun.container.spec import Mount as RuntimeMount
from boxrun.supervisor.contract import Runtime, TreeRequest
from msgspec.structs import replace

from boxshipd.builder.errors import SourceMissing
from boxshipd.builder.executor import Work
from boxshipd.builder.graph import Exec, Mount
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.ops.execution_agents import agent_socket
from boxshipd.builder.ops.layered import LayeredRoot, Place
from boxshipd.builder.results import Snapshot, Tree
from boxshipd.containers.transients import Places
from boxshipd.errors import InternalError, InvalidParameter, NotFound
from boxshipd.images.workers import Workers
from boxshipd.runtime.link import RuntimeLink
from boxshipd.volumes.content import CopyError, fill

_SECRET_MODE = 0o400
_AGENT_MODE = 0o600
_CACHE_MODE = 0o755
_LARGEST_SECRET = 500 * 1024
"""As BuildKit has it (session/secrets/secretsprovider)."""


class Caches(Protocol):
    """Where directories of cache mounts come from; ``cache.mounts.CacheMounts`` has them."""

    def mount(
        self,
        mount_id: str,
        sharing: Literal["shared", "private", "locked"],
        *,
        base: str = "",
        fill: Callable[[str, Callable[[], None]], None] | None = None,
        mode: int = 0o755,
        uid: int = 0,
        gid: int = 0,
    ) -> AbstractAsyncContextManager[str]:
        """The directory of an id, for as long as the context lasts."""


@dataclass(slots=True)
class Mounted:
    """What came of a command's mounts.

    Attributes:
        mounts: for the runtime, in order.
        env: variables that they bring.
        targets: where each of ``mounts`` is to be, and whether that is a file.
    """

    mounts: list[RuntimeMount] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    files: set[str] = field(default_factory=set)


class Source(NamedTuple):
    """Where a mount's source leads, and what that is on the host; of a directory the topmost layer's first."""

    place: Place
    paths: tuple[str, ...]


class MountMaker:
    """Makes the mounts of one command.

    Args:
        work: the command.
        layers: where file systems are.
        caches: where caches are.
        workers: threads.
        runtime: shows layers as one tree.
        places: the command's own directories.
        stack: what undoes everything once the command has ended.
    """

    def __init__(  # noqa: PLR0917 - what comes together here
        self,
        work: Work,
        layers: LayerSession,
        caches: Caches,
        workers: Workers,
        runtime: RuntimeLink,
        places: Places,
        stack: AsyncExitStack,
    ) -> None:
        self._work = work
        self._layers = layers
        self._caches = caches
        self._workers = workers
        self._runtime = runtime
        self._places = places
        self._stack = stack
        self._made = Mounted()
        self._number = 0

    async def make(self, op: Exec) -> Mounted:
        """Make everything that ``op`` wants mounted.

        Raises:
            SourceMissing: a mount's source isn't there.
            NotFound: the client has no such secret or agent, and it is required.
        """
        directories = await self._cache_directories(op)
        for mount in op.mounts:
            target = posixpath.normpath(posixpath.join("/", op.cwd, mount.target)) if mount.target else ""
            match mount.kind:
                case "bind":
                    await self._bind(mount, target)
                case "cache":
                    self._add(await self._cached(mount, target, directories[_cache_key(mount)]))
                case "tmpfs":
                    size = (f"size={mount.size}",) if mount.size else ()
                    self._add(RuntimeMount(kind="tmpfs", target=target, options=("nosuid", "nodev", *size)))
                case "secret":
                    await self._secret(mount, target)
                case "ssh":
                    await self._agent(op, mount, target)
        return self._made

    def _add(self, mount: RuntimeMount, *, file: bool = False) -> None:
        self._made.mounts.append(mount)
        if file:
            self._made.files.add(mount.target)

    # Files of other stages, and contexts

    async def _bind(self, mount: Mount, target: str) -> None:
        if mount.input < 0:
            empty = self._scratch("empty")
            os.mkdir(empty, 0o755)
            self._add(RuntimeMount(kind="bind", source=empty, target=target, readonly=mount.readonly))
            return
        found = await self._source(mount)
        if found.place.directory:
            self._add(self._shown(found.paths, mount, target))
            return
        source = found.paths[0]
        if not mount.readonly:
            # What is written to it goes nowhere, as what is written to a directory.
            source = self._scratch("file")
            await self._workers.run(partial(_copy_file, found.paths[0], source))
        self._add(RuntimeMount(kind="bind", source=source, target=target, readonly=mount.readonly), file=True)

    def _shown(self, sources: tuple[str, ...], mount: Mount, target: str) -> RuntimeMount:
        if len(sources) == 1 and mount.readonly:
            return RuntimeMount(kind="bind", source=sources[0], target=target, readonly=True)
        shown = RuntimeMount(kind="overlay", target=target, lower=sources)
        if mount.readonly:
            return shown
        own = self._scratch("written")
        for name in ("", "/upper", "/work"):
            os.mkdir(own + name, 0o755)
        status = os.stat(sources[0])
        os.chown(f"{own}/upper", status.st_uid, status.st_gid)
        os.chmod(f"{own}/upper", status.st_mode & 0o7777)
        return replace(shown, upper=f"{own}/upper", work=f"{own}/work")

    async def _source(self, mount: Mount) -> Source:
        """Where a mount's source is on the host.

        Raises:
            SourceMissing: it isn't there.
        """
        given = self._work.inputs[mount.input]
        if isinstance(given, Snapshot):
            found = await self._workers.run(lambda: self._in_snapshot(given, mount.source))
        else:
            directory = await self._workers.run(lambda: self._stack_directory(given))
            found = await self._workers.run(lambda: _in_tree(given, directory, mount.source))
        if found.place.status is None:
            raise SourceMissing(f'mount {mount.target}: "{mount.source}" not found')
        return found

    def _in_snapshot(self, snapshot: Snapshot, source: str) -> Source:
        directories = self._layers.directories(snapshot)
        if len(directories) != 1:
            # Whiteouts are none in a directory that is shown alone, and without any layer there would be nothing to show.
            directories = (*directories, self._empty())
        with LayeredRoot(directories) as root:
            place = root.place(source)
            return Source(place, root.sources(place))

    def _stack_directory(self, tree: Tree) -> str:
        context = tree.directory()
        path = context.__enter__()
        self._stack.push_async_callback(self._leave, context.__exit__)
        return path

    async def _leave(self, leave: Callable[[None, None, None], object]) -> None:
        await self._workers.run(lambda: leave(None, None, None))

    def _empty(self) -> str:
        path = f"{self._places.disk}/empty"
        os.makedirs(path, 0o755, exist_ok=True)
        return path

    def _scratch(self, name: str) -> str:
        self._number += 1
        return f"{self._places.disk}/{name}-{self._number}"

    # Caches

    async def _cache_directories(self, op: Exec) -> dict[tuple[str, int, str], str]:
        """The caches' directories, taken in the order of their ids, so that no two commands wait for each other."""
        wanted = {_cache_key(mount): mount for mount in op.mounts if mount.kind == "cache"}
        found = {}
        for key in sorted(wanted):
            mount = wanted[key]
            fill_from, base = await self._base(mount)
            found[key] = await self._stack.enter_async_context(
                self._caches.mount(
                    mount.id or mount.target,
                    mount.sharing,
                    base=base,
                    fill=fill_from,
                    mode=_CACHE_MODE if mount.mode is None else mount.mode,
                    uid=mount.uid,
                    gid=mount.gid,
                )
            )
        return found

    async def _base(self, mount: Mount) -> tuple[Callable[[str, Callable[[], None]], None] | None, str]:
        """What a new cache is filled with, and a digest of it."""
        if mount.input < 0:
            return None, ""
        given = self._work.inputs[mount.input]
        digest = given.chain if isinstance(given, Snapshot) else given.digest
        if not digest:
            return None, ""
        found = await self._source(mount)
        if not found.place.directory:
            raise InvalidParameter(f'mount {mount.target}: "{mount.source}" is not a directory')
        tree = RuntimeMount(kind="overlay", target="/", lower=found.paths)
        what = f"fill the cache for {mount.target}"
        _, (root,) = await self._runtime.call_for_descriptors(Runtime.tree, TreeRequest(mount=tree), what)
        self._stack.callback(os.close, root)
        place = os.fsdecode(found.place.path)
        return partial(_fill, root), f"{digest} {place}" if place else digest

    async def _cached(self, mount: Mount, target: str, directory: str) -> RuntimeMount:
        if mount.input < 0 and mount.source.strip("/"):
            subpath = mount.source
            return RuntimeMount(kind="bind", source=directory, subpath=subpath, target=target, readonly=mount.readonly)
        return RuntimeMount(kind="bind", source=directory, target=target, readonly=mount.readonly)

    # What the client has

    async def _secret(self, mount: Mount, target: str) -> None:
        secret_id = mount.id or posixpath.basename(mount.target)
        try:
            data = await self._work.around.session.secret(secret_id)
        except NotFound as error:
            if mount.required:
                raise NotFound(f"secret {secret_id}: not found") from error
            return
        if len(data) > _LARGEST_SECRET:
            raise InvalidParameter(f"secret {secret_id} is larger than {_LARGEST_SECRET} bytes")
        if mount.env:
            if b"\0" in data:
                raise InvalidParameter(f"secret {secret_id} can't be a variable: it has a NUL byte")
            self._made.env.append(f"{mount.env}={os.fsdecode(data)}")
        if not target:
            return
        if not self._places.in_memory:
            raise InternalError(f"secret {secret_id}: neither the daemon's exec root nor /dev/shm is in memory")
        self._number += 1
        path = f"{self._places.run}/secret-{self._number}"
        mode = _SECRET_MODE if mount.mode is None else mount.mode
        await asyncio.to_thread(_write, path, data, mode, mount.uid, mount.gid)
        options = ("nosuid", "nodev", "noexec")
        self._add(RuntimeMount(kind="bind", source=path, target=target, options=options, readonly=True), file=True)

    async def _agent(self, op: Exec, mount: Mount, target: str) -> None:
        session = self._work.around.session
        agent_id = mount.id or "default"
        self._number += 1
        path = f"{self._places.run}/agent-{self._number}"
        mode = _AGENT_MODE if mount.mode is None else mount.mode
        try:
            await self._stack.enter_async_context(agent_socket(session, agent_id, path, mode, mount.uid, mount.gid))
        except NotFound as error:
            if mount.required:
                raise NotFound(f"no SSH agent {agent_id} was forwarded by the client") from error
            return
        self._add(RuntimeMount(kind="bind", source=path, target=target), file=True)
        if not any(variable.startswith("SSH_AUTH_SOCK=") for variable in (*op.env, *self._made.env)):
            self._made.env.append(f"SSH_AUTH_SOCK={target}")


def _cache_key(mount: Mount) -> tuple[str, int, str]:
    return mount.id or mount.target, mount.input, mount.source if mount.input >= 0 else ""


def _in_tree(tree: Tree, directory: str, source: str) -> Source:
    path = tree.resolve(os.fsencode(source).strip(b"/"))
    host = os.path.join(directory, os.fsdecode(path)) if path else directory
    if path and tree.entry(path) is None:
        return Source(Place(path, None), ())
    # What a tree resolves is free of links, and nobody writes to its directory.
    return Source(Place(path, os.lstat(host)), (host,))


def _fill(root: int, path: str, check: Callable[[], None]) -> None:
    check()
    source = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        fill(source, path)
    except CopyError as error:
        raise InternalError(f"fill a cache: {error}") from error
    finally:
        os.close(source)


def _copy_file(source: str, destination: str) -> None:
    source_fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(source_fd)
        destination_fd = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchown(destination_fd, status.st_uid, status.st_gid)
            os.fchmod(destination_fd, status.st_mode & 0o7777)
            while os.copy_file_range(source_fd, destination_fd, 1 << 30):
                continue
        finally:
            os.close(destination_fd)
    finally:
        os.close(source_fd)


def _write(path: str, data: bytes, mode: int, uid: int, gid: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
    finally:
        os.close(fd)
