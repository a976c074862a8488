import pytest
from support.trust import MemoryRepository


@pytest.fixture
def repository() -> MemoryRepository:
    return MemoryRepository()
