"""What a big image costs the daemon that pulls or pushes it: time, not memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_root
from integration.images.test_image_memory import BOUND_MB, high_water, image, resident
from support.daemon import Daemon
from support.daemons import stop_and_check
from support.registry import Registry

pytestmark = needs_root


@pytest.fixture
def two() -> Iterator[tuple[Daemon, Daemon]]:
    daemons = Daemon(), Daemon()
    try:
        for daemon in daemons:
            daemon.start()
        yield daemons
    finally:
        for daemon in daemons:
            stop_and_check(daemon)


def begin(daemon: Daemon) -> float:
    """Have the kernel watch for the most memory from now on; what it is by now, in MB."""
    idle = resident(daemon.process.pid)
    Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")
    return idle


@pytest.mark.timeout(300)
def test_500_mb_from_one_daemon_to_another(two: tuple[Daemon, Daemon], registry: Registry, tmp_path: Path):
    """Out of one and into the other, with the same digests and within the bound."""
    one, other = two
    one.cli("docker", "load", "-i", str(image(tmp_path)), timeout=200)
    name = f"{registry.host}/big:1"
    one.cli("docker", "tag", "big:1", name)
    idle = begin(one)
    one.cli("docker", "push", name, timeout=200)
    pushed = high_water(one.process.pid) - idle
    idle = begin(other)
    other.cli("docker", "pull", name, timeout=200)
    pulled = high_water(other.process.pid) - idle
    print(f"{pushed:.0f} MB above idle while 500 MB were pushed, {pulled:.0f} MB while they were pulled")
    assert pushed < BOUND_MB
    assert pulled < BOUND_MB
    ours, theirs = one.get(f"/images/{name}/json"), other.get(f"/images/{name}/json")
    for what in ("Id", "RepoDigests", "RootFS", "Size"):
        assert ours[what] == theirs[what]
