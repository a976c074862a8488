"""A supervisor on the host of a small internet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.leaks import leaks, network_leaks
from support.networks import Lab
from support.runtime import SupervisorProcess, eventually
from support.topology import Topology, topology


@pytest.fixture
def net() -> Iterator[Topology]:
    """The internet."""
    with topology() as made:
        yield made


@pytest.fixture
async def lab(net: Topology, tmp_path: Path) -> AsyncIterator[Lab]:
    """A supervisor in its host namespace, which must leave nothing."""
    supervisor = SupervisorProcess(tmp_path, netns=net.host)
    await supervisor.start()
    lab = Lab(net, supervisor)
    before = lab.kernel_state(initial=True)
    try:
        yield lab
    finally:
        await supervisor.end()
    await eventually(lambda: not leaks(supervisor.name), f"leaks: {leaks(supervisor.name)}")
    await eventually(lambda: not network_leaks(net.host), f"leaks: {network_leaks(net.host)}")
    await eventually(
        lambda: lab.kernel_state() == before, f"left in the host's namespace: {lab.kernel_state()}, before {before}"
    )
