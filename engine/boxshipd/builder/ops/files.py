"""Carries out ``Files``: COPY, ADD and WORKDIR, each step as one layer.

Files go from where they are (a context's archive, another stage's layers) straight into the new layer's archive, from which its
directory is written at the same time; the file system that they are copied into is looked into, but never mounted.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from threading import Lock

import msgspec
from msgspec.structs import replace

from boxshipd.builder.errors import SourceMissing
from boxshipd.builder.executor import Work
from boxshipd.builder.graph import Action, Copy, Files, MakeDirectory, MakeFile
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.ops.files_copy import Attributes, Placing, attributes
from boxshipd.builder.ops.files_mode import is_octal
from boxshipd.builder.ops.files_sources import Selection
from boxshipd.builder.ops.files_target import Target
from boxshipd.builder.ops.files_unpack import unpack
from boxshipd.builder.results import Entry, Result, Snapshot, Tree
from boxshipd.builder.trees.archive import ArchiveTree, is_archive
from boxshipd.builder.trees.digest import ContentDigest
from boxshipd.builder.trees.snapshot import SnapshotTree
from boxshipd.errors import InternalError, InvalidParameter
from boxshipd.files.pack import batched
from boxshipd.images.unpack.limits import DEFAULT_LIMITS, Limits
from boxshipd.images.workers import Cancellation, Workers

_REMEMBERED = 1024


class Selected:
    """What was selected of file systems, by their chains: those never change, so nothing of them need be read a second time.

    It may be shared by all builds.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._digests: OrderedDict[str, str] = OrderedDict()

    def get(self, key: str) -> str | None:
        """A digest that is remembered."""
        with self._lock:
            if key in self._digests:
                self._digests.move_to_end(key)
            return self._digests.get(key)

    def put(self, key: str, digest: str) -> None:
        """Remember a digest."""
        with self._lock:
            self._digests[key] = digest
            if len(self._digests) > _REMEMBERED:
                self._digests.popitem(last=False)


class FilesExecutor:
    """Carries out ``Files``.

    Args:
        layers: where file systems are, and where new layers go.
        workers: threads.
        scratch: a directory of the daemon's for archives that are unpacked.
        limits: what an archive may take.
        selected: what is remembered from one build to the next.
    """

    def __init__(
        self,
        layers: LayerSession,
        workers: Workers,
        scratch: str,
        limits: Limits = DEFAULT_LIMITS,
        selected: Selected | None = None,
    ) -> None:
        self._layers = layers
        self._workers = workers
        self._scratch = scratch
        self._limits = limits
        self._selected = selected or Selected()

    async def key(self, op: Files, work: Work) -> str:
        """See Executor.

        Raises:
            SourceMissing: a source isn't there.
        """
        cancellation = Cancellation()
        return await self._workers.run(lambda: self._key(op, work, cancellation.check), cancellation)

    async def run(self, op: Files, work: Work) -> list[Result]:
        """See Executor. Where nothing has to be changed the result has no layer more than what it is based on.

        Raises:
            SourceMissing: a source isn't there.
            InvalidParameter: an action can't be carried out.
            InternalError: the disk refused.
        """
        cancellation = Cancellation()
        try:
            return [await self._workers.run(lambda: self._make(op, work, cancellation.check), cancellation)]
        except OSError as error:
            raise InternalError(f"write a layer: {os.strerror(error.errno or 0)}") from error

    def _key(self, op: Files, work: Work, check: Callable[[], None]) -> str:
        below = Snapshot() if op.scratch else self._below(work)
        checksum = hashlib.sha256(b"files")
        checksum.update(msgspec.json.encode([op, below.chain], order="deterministic"))
        for action in op.actions:
            if isinstance(action, Copy):
                checksum.update(self._content(action, work, check).encode())
        return f"sha256:{checksum.hexdigest()}"

    def _content(self, action: Copy, work: Work, check: Callable[[], None]) -> str:
        """The digest of what an action takes."""
        source = work.inputs[action.input]
        known = ""
        if isinstance(source, Snapshot):
            # Neither where it goes nor who gets it matters.
            told = replace(action, input=0, destination="", directory=False, owner="", times=None)
            known = msgspec.json.encode([source.chain, told], order="deterministic").decode()
            digest = self._selected.get(known)
            if digest is not None:
                return digest
        with ExitStack() as stack:
            digest = self._digest(action, self._tree(source, stack), work, check)
        if known:
            self._selected.put(known, digest)
        return digest

    def _digest(self, action: Copy, tree: Tree, work: Work, check: Callable[[], None]) -> str:
        selection = self._selection(action, tree, work, check)
        content = ContentDigest(owners=action.keep_owner, modes=not is_octal(action.mode))
        for place, pick in enumerate(selection.picks()):
            content.part(f"{place} {pick.entry.kind}")
            if pick.entry.kind != "directory":
                content.add(pick.name, pick.entry, tree)
                continue
            for path, entry, _ in selection.contents(pick):
                content.add(path, entry, tree)
        return content.digest

    def _make(self, op: Files, work: Work, check: Callable[[], None]) -> Snapshot:
        below = Snapshot() if op.scratch else self._below(work)
        with ExitStack() as stack:
            target = Target(self._tree(below, stack))
            now = time.time_ns()
            for action in op.actions:
                check()
                self._act(action, target, attributes(action, target, now), work, check, stack)
            if not target.changed:
                return below
            return self._layers.from_archive(below, batched(target.members()), check)

    def _act(  # noqa: PLR0917 - what an action needs
        self, action: Action, target: Target, given: Attributes, work: Work, check: Callable[[], None], stack: ExitStack
    ) -> None:
        if isinstance(action, MakeDirectory):
            path = target.resolve(action.path.encode("utf-8", "surrogateescape"))
            target.make_directories(path, action.mode, given.made_owner, given.made_time)
            return
        if isinstance(action, MakeFile):
            placing = Placing(target, action.path, directory=action.directory, given=given)
            if action.many:
                placing.demand_directory(_keyword(work))
            placing.put_new(placing.place(action.name.encode("utf-8", "surrogateescape")), action.data)
        else:
            tree = self._tree(work.inputs[action.input], stack)
            selection = self._selection(action, tree, work, check)
            placing = Placing(target, action.destination, directory=action.directory, given=given)
            picks = list(selection.picks())
            if action.many or (len(picks) > 1 and not action.parents):
                placing.demand_directory(_keyword(work))
            for pick in picks:
                archive = self._archive(pick.entry, tree, check, stack) if action.unpack else None
                if archive is None:
                    placing.copy(pick, selection, tree)
                else:
                    top = placing.destination()
                    placing.make_directories(top)
                    owner = given.owner if action.owner else None
                    unpack(archive, top, target, owner, check)

    def _archive(self, entry: Entry, tree: Tree, check: Callable[[], None], stack: ExitStack) -> Tree | None:
        """A file that is an archive, as a tree; None for anything else."""
        if entry.kind != "file":
            return None
        with tree.open(entry) as file:
            if not is_archive(file, self._limits):
                return None
            file.seek(0)
            archive = ArchiveTree.read(file, self._scratch, limits=self._limits, check=check)
        stack.callback(archive.close)
        return archive

    def _selection(self, action: Copy, tree: Tree, work: Work, check: Callable[[], None]) -> Selection:
        def missing(path: str) -> SourceMissing:
            keyword = _keyword(work)
            if isinstance(work.inputs[action.input], Snapshot):
                return SourceMissing(f"{keyword} failed: stat {path}: file does not exist")
            return SourceMissing(
                f"{keyword} failed: file not found in build context or excluded by .dockerignore: "
                f"stat {path}: file does not exist"
            )

        return Selection(action, tree, missing, check)

    def _tree(self, result: Result, stack: ExitStack) -> Tree:
        """An input as a tree; a file system is let go of when the stack ends."""
        if not isinstance(result, Snapshot):
            return result
        tree = SnapshotTree(self._layers.directories(result))
        stack.callback(tree.close)
        return tree

    @staticmethod
    def _below(work: Work) -> Snapshot:
        below = work.inputs[0]
        if not isinstance(below, Snapshot):
            raise InvalidParameter("files can only be copied into a file system")
        return below


def _keyword(work: Work) -> str:
    """The instruction's, for messages."""
    return (work.vertex.instruction.split() or ["COPY"])[0].upper()
