"""A registry, and a client of our own whose patience is short."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from boxshipd.registry.client import RegistryClient
from boxshipd.registry.settings import ClientSettings
from boxshipd.registry.timing import Timing
from support.registry import Authority, Registry

QUICK = Timing(connect=5, stall=0.5, first_delay=0.01, longest_delay=0.05, patience=5, attempts=4)


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """A registry without any protection."""
    with Registry() as registry:
        yield registry


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that nobody trusts yet."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[RegistryClient]:
    """A registry client that looks for certificates and hosts.toml below the test's directory."""
    client = RegistryClient(ClientSettings(certificates=(str(tmp_path / "certs.d"),), timing=QUICK))
    yield client
    await client.close()
