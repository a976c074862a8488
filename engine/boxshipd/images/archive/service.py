"""Images in archives, and into archives: ``load``, ``import`` and ``save`` as the API has them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from boxship.types.images import ProgressMessage

from boxshipd.errors import InvalidParameter
from boxshipd.images import lookup, platform, reference
from boxshipd.images.archive.import_ import Importer
from boxshipd.images.archive.load import Loaded, Loader
from boxshipd.images.archive.save import write_archive
from boxshipd.images.assembly import Assembly, Stores
from boxshipd.images.catalogue import Record
from boxshipd.images.progress import LayerProgress, line
from boxshipd.images.reference import Reference, with_tag
from boxshipd.images.workers import Cancellation, StreamSource, Workers

if TYPE_CHECKING:
    # Not loaded where there is no policy.
    from boxshipd.trust.verifier import Trust


class Archives:
    """Takes archives in and writes them. To be used on the event loop.

    Args:
        stores: where images are kept.
        workers: the threads for it.
        names: held while something is decided by the names there are, and then done to them.
        release: lets go of what an assembly has pinned.
        event: publishes an action on an image, with a name.
    """

    def __init__(
        self,
        stores: Stores,
        workers: Workers,
        names: asyncio.Lock,
        *,
        release: Callable[[Assembly], Awaitable[None]],
        event: Callable[[str, Record, str], None],
    ) -> None:
        self._stores = stores
        self._workers = workers
        self._names_lock = names
        self._release = release
        self._event = event

    async def load(
        self, chunks: AsyncIterator[bytes], quiet: bool = False, wanted: str = "", trust: Trust | None = None
    ) -> AsyncGenerator[ProgressMessage, None]:
        """Take in an archive of images.

        Args:
            chunks: the archive.
            quiet: say only which images were loaded.
            wanted: the platform to take where an image is there for several; all by default.
            trust: the signature policy, if there is one.

        Raises:
            Untrusted: the policy doesn't let archives in.
        """
        if trust is not None:
            trust.admit_loading()
        cancellation = Cancellation()
        source = StreamSource(chunks, cancellation)
        progress = LayerProgress(cancellation, "Loading layer", quiet=quiet)
        assembly = Assembly(self._stores, progress.update)
        try:
            work = asyncio.ensure_future(
                self._workers.run(lambda: Loader(self._stores, assembly, wanted, trust).load(source), cancellation)
            )
            # Left early, the work must have ended before what it needs is let go.
            async with contextlib.aclosing(progress.messages(work)) as messages:
                async for message in messages:
                    yield message
            fresh: set[str] = set()
            for loaded in work.result():
                for message in await self._loaded(loaded, fresh):
                    yield message
        finally:
            await self._release(assembly)

    async def import_(  # noqa: PLR0917 - a field of the request each
        self,
        chunks: AsyncIterator[bytes],
        repo: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        wanted: str = "",
        trust: Trust | None = None,
    ) -> AsyncGenerator[ProgressMessage, None]:
        """Make an image of one layer out of a root file system's archive.

        Args:
            chunks: the archive.
            repo: the image's name, if it gets one.
            tag: its tag, or a digest's place.
            message: a comment for its history.
            changes: Dockerfile instructions that change its configuration.
            wanted: the platform it is said to be for; this machine's by default.
            trust: the signature policy, if there is one.

        Raises:
            Untrusted: the policy doesn't let root file systems in.
        """
        if trust is not None:
            trust.admit_root_file_system()
        name = target(repo, tag)
        cancellation = Cancellation()
        source = StreamSource(chunks, cancellation)
        progress = LayerProgress(cancellation, "Importing", quiet=True)
        assembly = Assembly(self._stores, progress.update)
        importer = Importer(self._stores, assembly, platform.parse(wanted) if wanted else platform.host(), changes)
        try:
            work = asyncio.ensure_future(self._workers.run(lambda: importer.make(source, message), cancellation))
            async with contextlib.aclosing(progress.messages(work)) as messages:
                async for shown in messages:
                    yield shown
            record = await self._stores.catalogue.add(work.result(), [name] if name else [])
        finally:
            await self._release(assembly)
        if name:
            self._event("tag", record, name.familiar)
        self._event("import", record, record.id)
        yield ProgressMessage(status=record.id)

    async def get(self, names: Sequence[str], wanted: str = "") -> AsyncGenerator[bytes, None]:
        """Images as one archive, an OCI layout and a docker-archive at once; ``wanted`` is the platform they must have, if any.

        Raises:
            NotFound: one of them doesn't exist, or not for that platform.
        """
        selections = lookup.select(self._stores.catalogue, names, platform.parse(wanted) if wanted else None)
        async with contextlib.aclosing(self._workers.iterate(write_archive(self._stores.content, selections))) as chunks:
            async for chunk in chunks:
                yield chunk
        for selection in selections:
            self._event("save", selection.record, selection.record.id)

    async def _loaded(self, loaded: Loaded, fresh: set[str]) -> list[ProgressMessage]:
        """Record a loaded image; what there is to tell of it.

        Args:
            loaded: the image.
            fresh: names that images of the same archive have got already: this is another platform of theirs.
        """
        messages: list[ProgressMessage] = []
        new = [name for name in loaded.names if str(name) not in fresh]
        async with self._names_lock:
            for name in new:
                previous = self._stores.catalogue.named(name)
                if previous is not None and previous.id != loaded.record.id:
                    old = f"renaming the old one with ID {previous.id} to empty string"
                    messages.append(line(f"The image {name.familiar} already exists, {old}"))
            record = await self._stores.catalogue.add(loaded.record, loaded.names, loaded.index)
        messages.extend(line(f"Loaded image: {name.familiar}") for name in new)
        if not loaded.names:
            messages.append(line(f"Loaded image ID: {record.id}"))
        fresh.update(map(str, new))
        self._event("load", record, record.id)
        return messages


def target(repo: str, tag: str) -> Reference | None:
    """The name that a repository and a tag make; None without a repository.

    Raises:
        InvalidParameter: they don't make one.
    """
    if not repo:
        return None
    name = reference.parse(repo)
    if name.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    if tag:
        return with_tag(name, tag)
    return name.tagged()
