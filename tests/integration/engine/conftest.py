"""Fixtures around an engine without HTTP; see ``support.engine``."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.engine import Engine
from support.leaks import leaks


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path of its own; nothing of what was below it may be left in the kernel."""
    path = Path(tempfile.mkdtemp(prefix="boxship-test-", dir="/tmp"))
    yield path
    try:
        assert not leaks(path.name)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def engine(home: Path) -> AsyncIterator[Engine]:
    """An engine, or the last of the lives that followed it, shut down with everything in the end."""
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
