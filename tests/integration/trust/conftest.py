from collections.abc import Iterator

import pytest
from support.plain_registry import DOCKER_REGISTRY, PlainRegistry, plain_registry

if DOCKER_REGISTRY is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="module")
def registry() -> Iterator[PlainRegistry]:
    with plain_registry() as registry:
        yield registry
