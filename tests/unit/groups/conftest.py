"""A container that is nothing but its record."""

from __future__ import annotations

import pytest
from boxrun.container.spec import Log
from boxship.types.containers import ContainerConfig
from boxship.types.host import HostConfig
from boxshipd.containers.model import Config, Container, State


@pytest.fixture
def container() -> Container:
    config = Config(
        id="ab" * 32,
        created=1,
        image_id="",
        layers=(),
        config=ContainerConfig(),
        host_config=HostConfig(),
        path="x",
        args=[],
        log=Log(),
    )
    return Container("box", config, State(), "/nowhere")
