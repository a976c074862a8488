"""An engine, and a build on it whose operations are carried out one by one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.building import Building
from support.engine import Engine, engine_home, running_engine

if os.geteuid() != 0:
    collect_ignore_glob = ["test_*.py"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_engine() -> AsyncIterator[Engine]:
    """An engine that a module's tests share, on the module's event loop."""
    with engine_home() as home:
        async with running_engine(home) as engine:
            yield engine


@pytest.fixture
async def building(engine: Engine) -> AsyncIterator[Building]:
    """A build."""
    building = Building(engine)
    yield building
    building.close()
