"""Networks of a whole daemon, and the daemon on the host of a small internet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.busybox import busybox_archive
from support.site import API, API6, Site
from support.site import site as made_site


@pytest.fixture(scope="module")
def shared_site() -> Iterator[Site]:
    """A site that a module's tests share."""
    with made_site(busybox_archive(), "-H", f"tcp://0.0.0.0:{API}", "-H", f"tcp://[::]:{API6}", "--insecure-tcp") as made:
        yield made


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The same without anything on it."""
    yield shared_site
    shared_site.clear()
