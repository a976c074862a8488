"""The container of a command: its configuration, as a client would have given it, so that the rest is as with any container."""

from __future__ import annotations

import time
from collections.abc import Iterable

from boxrun.container.spec import Log
from boxship.types.containers import ContainerConfig
from boxship.types.host import HostConfig, Ulimit
from boxship.types.networks import EndpointSettings, NetworkingConfig

from boxshipd.builder.graph import Exec
from boxshipd.containers.model import Config, Container, State
from boxshipd.containers.networking.config import canonical_mode
from boxshipd.containers.settings import Settings
from boxshipd.containers.spec.remapping import Remapping, check_remapped
from boxshipd.containers.spec.validation import validate_host_config
from boxshipd.errors import InvalidParameter
from boxshipd.networks.model import BRIDGE
from boxshipd.networks.service import Networks

HOSTNAME = "buildkitsandbox"
"""BuildKit's: always the same, so that what a command makes of it is."""


def container_of(
    op: Exec, container_id: str, *, env: Iterable[str], directory: str, networks: Networks, settings: Settings
) -> Container:
    """The container to run a command in; its root and its mounts are still to come.

    Args:
        op: the command.
        container_id: 64 hex digits.
        env: its variables.
        directory: for its files of /etc and the record of its end.
        networks: all there are.
        settings: the daemon's.

    Raises:
        InvalidParameter: there is no such network, or a limit or host can't be.
    """
    insecure = op.security == "insecure"
    mode = canonical_mode(op.network, networks)
    host = HostConfig(
        network_mode=mode,
        privileged=insecure,
        userns_mode="host" if insecure else "",
        extra_hosts=list(op.extra_hosts),
        shm_size=op.shm_size,
        ulimits=[parse_ulimit(text) for text in op.ulimits],
        cgroup_parent=op.cgroup_parent,
        init=False,
    )
    joins = mode.startswith("container:")
    config = ContainerConfig(
        hostname=op.hostname or ("" if joins else HOSTNAME),
        user=op.user,
        env=list(env),
        working_dir=op.cwd,
        cmd=list(op.args),
    )
    validate_host_config(config, host)
    remapping = check_remapped(host, Remapping(settings.uid_mappings, settings.gid_mappings))
    record = Config(
        id=container_id,
        created=time.time_ns(),
        image_id="",
        layers=(),
        config=config,
        host_config=host,
        path=op.args[0],
        args=list(op.args[1:]),
        log=Log(driver="none"),
        networking=_networking(mode, networks),
        uid_mappings=remapping.uids,
        gid_mappings=remapping.gids,
    )
    return Container(f"build-{container_id[:12]}", record, State(), directory)


def _networking(mode: str, networks: Networks) -> NetworkingConfig:
    if mode.startswith("container:"):
        return NetworkingConfig()
    name = BRIDGE if mode == BRIDGE else networks.find(mode).name
    return NetworkingConfig(endpoints_config={name: EndpointSettings()})


def parse_ulimit(text: str) -> Ulimit:
    """A limit as the API's ``/build`` has it: ``name=soft[:hard]``.

    Raises:
        InvalidParameter: it can't be one.
    """
    name, _, limits = text.partition("=")
    soft, colon, hard = limits.partition(":")
    try:
        return Ulimit(name=name, soft=int(soft), hard=int(hard if colon else soft))
    except ValueError:
        raise InvalidParameter(f"invalid ulimit argument: {text}") from None
