"""What tests with foreign clients share."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest
from support.daemon import DOCKER, Daemon


@pytest.fixture(autouse=True)
def a_client_to_be_compared_with(request: pytest.FixtureRequest) -> None:
    """Skip what is asked of Docker's command line where this machine's is too old to be compared with."""
    asked = getattr(request.node, "callspec", None)
    if asked is not None and "docker" in asked.params.values() and DOCKER is None:
        pytest.skip("Docker's command line is missing, or older than release 26")


@pytest.fixture(autouse=True)
def sockets_left_to_the_collector(request: pytest.FixtureRequest) -> Iterator[None]:
    """docker-py leaves the sockets of upgraded connections to the garbage collector: have it come now, and not complain."""
    yield
    if hasattr(request.module, "docker"):
        hook = sys.unraisablehook
        sys.unraisablehook = lambda failure: None if isinstance(failure.object, HTTPResponse) else hook(failure)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
        finally:
            sys.unraisablehook = hook


@pytest.fixture
def names(bridged: Daemon) -> Iterator[list[str]]:
    """Names of containers and networks (which begin with ``net``), gone afterwards."""
    made: list[str] = []
    yield made
    containers = [name for name in made if not name.startswith("net")]
    if containers:
        bridged.cli("docker", "rm", "-f", *containers, code=None)
    for name in made:
        if name.startswith("net"):
            bridged.cli("docker", "network", "rm", "-f", name)
