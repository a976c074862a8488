"""An engine, and a build on it whose operations are carried out one by one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.building import Building
from support.engine import Engine
from support.leaks import leaks

if os.geteuid() != 0:
    collect_ignore_glob = ["test_*.py"]


@contextlib.contextmanager
def _home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="boxship-test-", dir="/tmp"))
    yield path
    try:
        assert not leaks(path.name)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path of its own; nothing of what was below it may be left in the kernel."""
    with _home() as path:
        yield path


@contextlib.asynccontextmanager
async def _engine(home: Path) -> AsyncIterator[Engine]:
    engine = Engine(home)
    await engine.open()
    try:
        yield engine
    finally:
        last = engine.lives[-1]
        try:
            await last.containers.shutdown_everything()
        finally:
            await last.close()
            with contextlib.suppress(OSError, ValueError):
                os.kill(last.supervisor_pid(), signal.SIGKILL)


@pytest.fixture
async def engine(home: Path) -> AsyncIterator[Engine]:
    async with _engine(home) as engine:
        yield engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_engine() -> AsyncIterator[Engine]:
    """An engine that a module's tests share, on the module's event loop."""
    with _home() as home:
        async with _engine(home) as engine:
            yield engine


@pytest.fixture
async def building(engine: Engine) -> AsyncIterator[Building]:
    """A build."""
    building = Building(engine)
    yield building
    building.close()
