"""``inspect``: everything about one container. Source: moby daemon/inspect.go."""

from __future__ import annotations

from boxship.types.containers import ContainerInspect, ContainerState, DriverData
from msgspec import UNSET

from boxshipd.containers.model import Container
from boxshipd.containers.networking import view as network_view
from boxshipd.containers.registry import Registry
from boxshipd.health.view import shown
from boxshipd.networks.service import Networks
from boxshipd.times import rfc3339


def inspect(container: Container, registry: Registry, networks: Networks, sizes: tuple[int, int] | None) -> ContainerInspect:
    """The answer to ``ContainerInspect``.

    Args:
        container: what is looked at.
        registry: where the container whose network it shares is found.
        networks: all there are.
        sizes: bytes it has written, and those with its image's; None where they weren't asked for.
    """
    record, state = container.config, container.state
    files = _files_of(container, registry)
    log = record.log
    return ContainerInspect(
        id=record.id,
        created=rfc3339(record.created),
        path=record.path,
        args=record.args,
        state=ContainerState(
            status=state.status,
            running=state.running,
            paused=state.paused,
            restarting=state.restarting,
            oom_killed=state.oom_killed,
            dead=state.dead,
            pid=state.pid,
            exit_code=state.exit_code,
            error=state.error,
            started_at=rfc3339(state.started_at),
            finished_at=rfc3339(state.finished_at),
            log_dropped=state.log_dropped if state.log_dropped or not log.blocking or log.messages_limit else UNSET,
            health=UNSET if state.health is None else shown(state.health),
        ),
        image=record.image_id,
        resolv_conf_path=f"{files}/resolv.conf",
        hostname_path=f"{files}/hostname",
        hosts_path=f"{files}/hosts",
        log_path=log.path if log.driver == "json-file" else "",
        name=f"/{container.name}",
        restart_count=state.restart_count,
        driver="overlay2",
        platform=record.platform,
        mount_label="",
        process_label="",
        app_armor_profile="",
        exec_ids=list(container.execs) or None,
        host_config=record.host_config,
        graph_driver=DriverData(
            name="overlay2",
            data={
                "ID": record.id,
                "LowerDir": ":".join(record.layers),
                "UpperDir": f"{container.directory}/upper",
                "WorkDir": f"{container.directory}/work",
            },
        ),
        mounts=list(record.mounts),
        config=record.config,
        network_settings=network_view.settings(container, networks),
        size_rw=sizes[0] if sizes else UNSET,
        size_root_fs=sizes[1] if sizes else UNSET,
    )


def _files_of(container: Container, registry: Registry) -> str:
    """The directory its ``/etc/hosts`` and such come from: that of the container whose network it shares."""
    mode = container.config.host_config.network_mode
    donor = registry.get(mode.removeprefix("container:")) if mode.startswith("container:") else None
    return donor.directory if donor is not None else container.directory
