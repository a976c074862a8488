"""Stores and executors for file operations of builds."""

import pytest
from boxshipd.images.assembly import Stores
from boxshipd.images.catalogue import Catalogue
from boxshipd.images.content import ContentStore
from boxshipd.images.snapshots import SnapshotStore
from boxshipd.images.workers import Workers
from boxshipd.state.store import Store
from support.build_files import Bench


@pytest.fixture
async def bench(tmp_path):
    root = str(tmp_path)
    with Store.open(f"{root}/state.db") as store, Workers() as workers:
        content = ContentStore(f"{root}/content")
        catalogue = Catalogue(store, content)
        await catalogue.open()
        bench = Bench(Stores(content, SnapshotStore(f"{root}/snapshots"), catalogue), workers, root)
        yield bench
        bench.close()
