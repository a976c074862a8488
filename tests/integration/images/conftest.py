import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from boxshipd.images.service import Images, ImageUse
from boxshipd.images.unpack.limits import DEFAULT_LIMITS, Limits
from boxshipd.state.store import Store

if os.geteuid() != 0:
    collect_ignore_glob = ["test_*.py"]


class Engine:
    """Images below a data root, with what they publish and who uses them."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.events: list[tuple[str, str, str, dict[str, str]]] = []
        self.uses: dict[str, list[ImageUse]] = {}

    def publish(self, kind: str, action: str, actor: str, attributes: dict[str, str]) -> None:
        self.events.append((kind, action, actor, attributes))

    @asynccontextmanager
    async def open(self, limits: Limits = DEFAULT_LIMITS) -> AsyncIterator[Images]:
        store = Store.open(os.path.join(self.root, "state.db"))
        images = await Images.open(
            self.root, store, publish=self.publish, uses=lambda image: self.uses.get(image, ()), limits=limits
        )
        try:
            yield images
        finally:
            images.close()
            store.close()

    def left(self) -> list[str]:
        """The names of all blobs, snapshots and unfinished files."""
        found = []
        for directory in ("content/blobs/sha256", "content/blobs/sha512", "content/ingest", "snapshots"):
            found += [f"{directory}/{name}" for name in os.listdir(os.path.join(self.root, directory))]
        return found


@pytest.fixture
def engine(tmp_path) -> Engine:
    return Engine(str(tmp_path))


@pytest.fixture
async def images(engine: Engine) -> AsyncIterator[Images]:
    async with engine.open() as images:
        yield images
