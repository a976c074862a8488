"""Fixtures of an engine without HTTP; see ``support.engine``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.engine import Engine, engine_home, running_engine


@pytest.fixture
def home() -> Iterator[Path]:
    with engine_home() as path:
        yield path


@pytest.fixture
async def engine(home: Path) -> AsyncIterator[Engine]:
    async with running_engine(home) as engine:
        yield engine
