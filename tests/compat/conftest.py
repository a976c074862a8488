"""What tests with foreign clients share."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def sockets_left_to_the_collector(request: pytest.FixtureRequest) -> Iterator[None]:
    """docker-py leaves the sockets of upgraded connections to the garbage collector: have it come now, and not complain."""
    yield
    if hasattr(request.module, "docker"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
