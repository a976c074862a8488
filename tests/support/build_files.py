"""File operations of builds, carried out as the daemon does, and what has come of them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from boxrun.container.spec import Resources
from boxshipd.builder.executor import Surroundings, Work
from boxshipd.builder.graph import Action, Copy, Files, Vertex
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.ops.files import FilesExecutor
from boxshipd.builder.progress import Reporter
from boxshipd.builder.results import Entry, Result, Snapshot
from boxshipd.builder.trees.archive import ArchiveTree
from boxshipd.builder.trees.paths import walk
from boxshipd.builder.trees.snapshot import SnapshotTree
from boxshipd.errors import NotFound
from boxshipd.images.assembly import Stores
from boxshipd.images.workers import Workers

from support.archives import member, tar


def link(name: str, target: str) -> tarfile.TarInfo:
    """A symbolic link."""
    return member(name, tarfile.SYMTYPE, linkname=target, mode=0o777)


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    """A hard link."""
    return member(name, tarfile.LNKTYPE, linkname=target)


def directory(name: str, **fields: object) -> tarfile.TarInfo:
    """A directory."""
    return member(name, tarfile.DIRTYPE, **fields)


def sparse_archive(place: Path, length: int) -> bytes:
    """An archive of a file ``sparse`` of nothing but ``middle`` in the middle of it, as GNU tar writes it."""
    source = place / "holes"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        file.seek(length // 2)
        file.write(b"middle")
        file.truncate(length)
    return subprocess.run(
        ["tar", "-C", source, "--sparse", "-cf", "-", "sparse"], check=True, stdout=subprocess.PIPE, timeout=60
    ).stdout


class NoSession:
    """A client that has nothing."""

    async def context(self, name: str):
        raise NotFound(f"no context {name}")

    async def secret(self, secret_id: str) -> bytes:
        raise NotFound(f"no secret {secret_id}")

    async def agent(self, agent_id: str) -> int:
        raise NotFound(f"no agent {agent_id}")

    async def receive(self, destination: str, chunks) -> None:
        raise NotFound(f"no destination {destination}")


def work(op, inputs: Sequence[Result], session=None, instruction: str = "COPY") -> Work:
    """One vertex of a build whose progress nobody looks at."""
    vertex = Vertex(op=op, instruction=instruction)
    return Work(vertex, inputs, Surroundings(session or NoSession(), Resources()), Reporter(vertex, lambda _: None))


@dataclass
class Bench:
    """Stores, and a build's executors on them."""

    stores: Stores
    workers: Workers
    scratch: str
    trees: list[ArchiveTree] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layers = LayerSession(self.stores)
        self.executor = FilesExecutor(self.layers, self.workers, self.scratch)

    def close(self) -> None:
        for tree in self.trees:
            tree.close()
        self.layers.release()

    def context(self, *entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> ArchiveTree:
        """A context of these members."""
        return self.read_context(tar(*entries))

    def read_context(self, archive: bytes) -> ArchiveTree:
        tree = ArchiveTree.read(io.BytesIO(archive), self.scratch)
        self.trees.append(tree)
        return tree

    def base(self, *entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], below: Snapshot | None = None) -> Snapshot:
        """A file system of these members, on another one."""
        return self.layers.from_archive(below or Snapshot(), iter([tar(*entries)]))

    async def run(self, *actions: Action, inputs: Sequence[Result], scratch: bool = False) -> Snapshot:
        op = Files(actions=actions, scratch=scratch)
        (made,) = await self.executor.run(op, work(op, inputs))
        assert isinstance(made, Snapshot)
        return made

    async def key(self, *actions: Action, inputs: Sequence[Result], scratch: bool = False) -> str:
        op = Files(actions=actions, scratch=scratch)
        return await self.executor.key(op, work(op, inputs))

    async def copy(self, source: Result, sources: str | Sequence[str], destination: str, *, onto: Snapshot, **more) -> Snapshot:
        """COPY onto a file system."""
        names = (sources,) if isinstance(sources, str) else tuple(sources)
        return await self.run(Copy(input=1, sources=names, destination=destination, **more), inputs=[onto, source])

    def tree(self, snapshot: Snapshot) -> SnapshotTree:
        return SnapshotTree(self.layers.directories(snapshot))

    def entries(self, snapshot: Snapshot) -> dict[str, Entry]:
        """Everything in a file system."""
        with closing(self.tree(snapshot)) as tree:
            return {entry.path.decode("utf-8", "surrogateescape"): entry for entry in walk(tree, b"")}

    def read(self, snapshot: Snapshot, path: str) -> bytes:
        with closing(self.tree(snapshot)) as tree:
            entry = tree.entry(path.encode())
            assert entry is not None, path
            with tree.open(entry) as file:
                return file.read()

    def layer(self, snapshot: Snapshot) -> list[str]:
        """The names in the topmost layer's archive."""
        with tarfile.open(self.stores.content.path(snapshot.layers[-1].blob)) as archive:
            return archive.getnames()


def described(entries: dict[str, Entry], tell: Callable[[Entry], object]) -> dict[str, object]:
    """Something about every entry."""
    return {path: tell(entry) for path, entry in entries.items()}
