"""What the API asks of containers' files."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeVar

from boxrun.container import users
from boxrun.errors import StartError
from boxship.types.containers import Change, ContainerConfig, CreateRequest

from boxshipd.containers.create import merge
from boxshipd.containers.directories import mount_points
from boxshipd.containers.model import Container
from boxshipd.containers.pausing import Pausing
from boxshipd.containers.registry import Registry
from boxshipd.containers.settings import Settings
from boxshipd.errors import Conflict, DaemonError, InternalError, InvalidParameter, NotFound
from boxshipd.events import Events
from boxshipd.files import lookup
from boxshipd.files.changes import changes
from boxshipd.files.commit import Commit, CommitOptions
from boxshipd.files.extract import LIMITS, Extraction
from boxshipd.files.ids import Owners
from boxshipd.files.lookup import PathStat, Root
from boxshipd.files.pack import Packer, batched
from boxshipd.files.roots import Roots
from boxshipd.files.uses import Uses
from boxshipd.images.service import Images
from boxshipd.images.unpack.compression import Source, decompressed
from boxshipd.images.unpack.tar import TarReader
from boxshipd.images.unpack.tree import Tree
from boxshipd.images.workers import Cancellation, Cancelled, StreamSource, Workers
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.jobs import Job, Scheduler

log = logging.getLogger(__name__)

T = TypeVar("T")

_THREADS = 64
"""How many copies can be under way: each has a thread while its client sends."""


class Archive(NamedTuple):
    """A path's description and its content as an archive, in pieces."""

    stat: PathStat
    pieces: AsyncIterator[bytes]


class Files:
    """Copies files in and out of containers, compares and commits them. Belongs to one event loop."""

    def __init__(
        self,
        *,
        registry: Registry,
        images: Images,
        events: Events,
        runtime: RuntimeLink,
        scheduler: Scheduler,
        pausing: Pausing,
        settings: Callable[[], Settings],
    ) -> None:
        self._registry = registry
        self._images = images
        self._events = events
        self._scheduler = scheduler
        self._pausing = pausing
        self._settings = settings
        self._workers = Workers(_THREADS, "files")
        self.uses = Uses()
        self._roots = Roots(registry, runtime, scheduler, self.uses, settings)

    async def recover(self) -> None:
        """Let containers run again that a daemon stopped for a commit and didn't live to wake."""
        for container in self._registry:
            if container.state.committing:
                await self._wake(container)

    async def close(self) -> None:
        """End what is under way."""
        await self.uses.close()
        self._workers.close()

    async def describe(self, ref: str, path: str) -> PathStat:
        """What is at a path in a container.

        Raises:
            NotFound: no such container, or nothing is there.
        """
        container = self._registry.find(ref)
        path = lookup.absolute(path)
        async with self._roots.open(container, ref, f"look at {path} in container {ref}") as (root, _):
            return await self._workers.run(partial(_describe, root, path))

    @contextlib.asynccontextmanager
    async def archive(self, ref: str, path: str) -> AsyncGenerator[Archive, None]:
        """A file or directory of a container as an archive, inside the block.

        Raises:
            NotFound: no such container, or nothing is there.
        """
        container = self._registry.find(ref)
        path = lookup.absolute(path)
        async with self._roots.open(container, ref, f"copy {path} from container {ref}") as (root, owners):
            cancellation = Cancellation()
            # Filled on the thread: what it has opened is closed even if nobody is there any more to be given it.
            opened: list[int] = []
            try:
                found = await self._workers.run(partial(_open, root, path, opened))
                members = batched(_members(opened[0], found.name, Packer(owners, cancellation.check)))
                async with contextlib.aclosing(self._workers.iterate(members, cancellation)) as pieces:
                    self._publish("archive-path", container)
                    yield Archive(found, pieces)
            finally:
                for fd in opened:
                    os.close(fd)

    async def extract(
        self, ref: str, path: str, chunks: AsyncIterator[bytes], *, strict: bool = False, own: bool = False
    ) -> None:
        """Write an archive into a directory of a container.

        Args:
            ref: the container.
            path: the directory.
            chunks: the archive, compressed or not.
            strict: refuse to put a file in a directory's place, or the other way round.
            own: give everything to the user that the container runs as.

        Raises:
            NotFound: no such container or directory.
            Forbidden: it is read-only there.
            InvalidParameter: it isn't a directory, or the archive is wrong.
            InternalError: the disk refused.
        """
        container = self._registry.find(ref)
        path = lookup.absolute(path)
        what = f"copy to {path} in container {ref}"
        user = container.config.config.user if own else ""

        async def work(_: Job) -> None:
            async with self._roots.open(container, ref, what) as (root, owners):
                cancellation = Cancellation()
                source = StreamSource(chunks, cancellation)

                def write() -> None:
                    _extract(root, owners, path, source, user=user, strict=strict, check=cancellation.check)

                await self._run(write, cancellation, what)
            self._publish("extract-to-dir", container)

        await self._scheduler.run("copy", "", work)

    @contextlib.asynccontextmanager
    async def export(self, ref: str) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """A container's file system without its mounts, as an archive, inside the block.

        Raises:
            NotFound: no such container.
            Conflict: it is dead, or being removed.
        """
        container = self._registry.find(ref)
        _refuse_gone(container, "export")
        async with self._roots.open(container, ref, f"export container {ref}", below=True) as (root, owners):
            cancellation = Cancellation()
            fd = os.open(f"/proc/self/fd/{root.fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                packer = Packer(owners, cancellation.check)
                members = batched(packer.tree(fd, b"", itself=False, cross=False))
                async with contextlib.aclosing(self._workers.iterate(members, cancellation)) as pieces:
                    self._publish("export", container)
                    yield pieces
            finally:
                os.close(fd)

    async def changes(self, ref: str) -> list[Change]:
        """What a container has changed of its image's files.

        Raises:
            NotFound: no such container.
        """
        container = self._registry.find(ref)
        what = f"compare container {ref} with its image"
        async with self.uses.hold(container.id, what):
            cancellation = Cancellation()
            compare = partial(changes, f"{container.directory}/upper", self._layers(container), cancellation.check)
            return await self._run(compare, cancellation, what)

    async def commit(self, ref: str, options: CommitOptions) -> str:
        """Make an image of a container; its id.

        Raises:
            NotFound: no such container.
            Conflict: it is dead, or being removed.
            InvalidParameter: a change or the name can't be.
            InternalError: the disk refused.
        """
        container = self._registry.find(ref)
        _refuse_gone(container, "commit")
        # Not loaded where nothing is changed: it reads Dockerfiles.
        from boxshipd.images.changes import apply_changes

        config = apply_changes(_config(container, options.config), options.changes)
        self._images.check_name(options.repo, options.tag)
        return await self._scheduler.run("commit", "", lambda _: self._commit(container, ref, config, options))

    async def _commit(self, container: Container, ref: str, config: ContainerConfig, options: CommitOptions) -> str:
        what = f"commit container {ref}"
        async with self.uses.hold(container.id, what), self._paused(container, wanted=options.pause):
            parent = self._images.record_of(container.config.image_id)
            commit = Commit(container, parent, config, options, layers=self._layers(container))
            try:
                image, name = await self._images.commit(commit.make, options.repo, options.tag)
            except OSError as error:
                raise InternalError(f"{what}: {(error.strerror or str(error)).lower()}") from error
            told = {"comment": options.comment, "imageID": image, "imageRef": name}
            self._publish("commit", container, told)
            return image

    @contextlib.asynccontextmanager
    async def _paused(self, container: Container, *, wanted: bool) -> AsyncIterator[None]:
        """A container that stands still inside the block; one that doesn't run does anyway."""
        state = container.state
        if not wanted or not state.running or state.paused or state.restarting:
            yield
            return

        async def pause(_: Job) -> None:
            # On record first: a daemon that dies meanwhile leaves word for the next one.
            state.committing = True
            await self._registry.save(container)
            try:
                await self._pausing.pause_now(container)
            except BaseException:
                state.committing = False
                raise

        await self._scheduler.run("pause", container.id, pause)
        try:
            yield
        finally:
            await self._wake(container)

    async def _wake(self, container: Container) -> None:
        async def wake(_: Job) -> None:
            await self._pausing.unpause_now(container)
            container.state.committing = False
            await self._registry.save(container)

        try:
            await self._scheduler.run("unpause", container.id, wake)
        except DaemonError as error:
            log.error("container %s was paused for a commit and can't be woken: %s", container.id, error)

    async def _run(self, function: Callable[[], T], cancellation: Cancellation, what: str) -> T:
        """Run ``function`` on a thread; what the kernel refuses becomes an error that says what was being done."""
        try:
            return await self._workers.run(function, cancellation)
        except OSError as error:
            raise InternalError(f"{what}: {(error.strerror or str(error)).lower()}") from error
        except Cancelled:
            raise Conflict(f"{what} was ended") from None

    def _layers(self, container: Container) -> tuple[str, ...]:
        return (*container.config.layers, mount_points(self._settings().data_root))

    def _publish(self, action: str, container: Container, more: dict[str, str] | None = None) -> None:
        self._events.publish("container", action, container.id, container.attributes(more))


def _refuse_gone(container: Container, what: str) -> None:
    if container.state.dead:
        raise Conflict(f"You cannot {what} container {container.id} which is Dead")
    if container.state.removing:
        raise Conflict(f"You cannot {what} container {container.id} which is being removed")


def _config(container: Container, given: ContainerConfig | None) -> ContainerConfig:
    """The configuration a commit begins with: the request's, completed by the container's."""
    own = container.config.config
    if given is None:
        return own
    return merge(CreateRequest(**{name: getattr(given, name) for name in ContainerConfig.__struct_fields__}), own)


def _describe(root: Root, path: str) -> PathStat:
    fd = root.open(path)
    try:
        return root.describe(path, fd)
    finally:
        os.close(fd)


def _open(root: Root, path: str, opened: list[int]) -> PathStat:
    """A path's description. A descriptor of it goes into ``opened``: a readable one of a directory, else an ``O_PATH`` one."""
    fd = root.open(path)
    try:
        found = root.describe(path, fd)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            opened.append(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        else:
            opened.append(os.dup(fd))
        return found
    finally:
        os.close(fd)


def _members(fd: int, name: str, packer: Packer) -> Iterator[bytes]:
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        yield from packer.tree(fd, os.fsencode("" if name == "/" else name))
    else:
        yield from packer.member(fd, status, os.fsencode(name))


def _extract(
    root: Root, owners: Owners, path: str, source: Source, *, user: str, strict: bool, check: Callable[[], None]
) -> None:
    fd = root.open(path, follow=True)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise InvalidParameter("extraction point is not a directory")
        root.check_writable(fd)
    finally:
        os.close(fd)
    owner = None
    if user:
        try:
            identity = users.resolve(root.fd, user)
        except StartError as error:
            raise InvalidParameter(error.message) from error
        owner = identity.uid, identity.gid
    try:
        tree = Tree(path, anchor=root.fd)
    except OSError as error:
        raise NotFound(f"open {path}: {os.strerror(error.errno or 0).lower()}") from error
    with tree:
        _, plain = decompressed(source, LIMITS)
        with owners.making():
            Extraction(tree, path, owners, owner=owner, strict=strict, check=check).apply(TarReader(plain, LIMITS))
