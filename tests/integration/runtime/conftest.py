"""A supervisor for each test module's tests, which must leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.leaks import leaks
from support.runtime import SupervisorProcess, eventually

collect_ignore_glob = [] if os.geteuid() == 0 else ["test_*.py"]


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[SupervisorProcess]:
    """A running supervisor; at the end it is shut down, and nothing of it may be left."""
    supervisor = SupervisorProcess(tmp_path)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.end()
    await eventually(lambda: not leaks(supervisor.name), f"nothing is left: {leaks(supervisor.name)}")
