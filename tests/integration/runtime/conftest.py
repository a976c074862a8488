"""A supervisor for each test module's tests, which must leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.runtime import SupervisorProcess, running_supervisor

collect_ignore_glob = [] if os.geteuid() == 0 else ["test_*.py"]


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[SupervisorProcess]:
    async with running_supervisor(tmp_path) as supervisor:
        yield supervisor
