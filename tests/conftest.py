"""Fixtures that every kind of test shares."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.daemon import Daemon
from support.daemons import stocked

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """A daemon that the tests of one process share, with the image ``busybox`` loaded."""
    with stocked(Daemon()) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def bridged() -> Iterator[Daemon]:
    """As ``daemon``, with a default bridge."""
    with stocked(Daemon(bridge=True)) as daemon:
        yield daemon


@pytest.fixture
def own_bridged(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """As ``own_daemon``, with a default bridge."""
    with stocked(Daemon(*getattr(request, "param", ()), bridge=True)) as daemon:
        yield daemon


@pytest.fixture
def own_daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon of the test's own, to be killed at will, with the image ``busybox`` loaded. Parametrised with its flags."""
    with stocked(Daemon(*getattr(request, "param", ()))) as daemon:
        yield daemon
