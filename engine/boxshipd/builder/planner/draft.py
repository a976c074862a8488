"""An image's configuration while instructions change it.

Source: BuildKit frontend/dockerfile/dockerfile2llb/image.go; docker-image-spec specs-go/v1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from boxship.types.containers import ContainerConfig, HealthConfig
from msgspec import UNSET

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(slots=True)
class Draft:
    """The fields of a configuration that images have; of a base's, others are left behind.

    ``env`` has whole entries, ``A=b``, by their names.
    """

    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    shell: tuple[str, ...] = ()
    exposed_ports: dict[str, Any] = field(default_factory=dict)
    volumes: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    on_build: list[str] = field(default_factory=list)
    healthcheck: HealthConfig | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    args_escaped: bool = False

    @classmethod
    def of(cls, config: ContainerConfig | None) -> Draft:
        """What a base image has."""
        if config is None:
            return cls()
        return cls(
            env={entry.partition("=")[0]: entry for entry in config.env or ()},
            user=config.user,
            working_dir=config.working_dir,
            cmd=_command(config.cmd),
            entrypoint=_command(config.entrypoint),
            shell=tuple(config.shell or ()),
            exposed_ports=dict(config.exposed_ports or {}),
            volumes=dict(config.volumes or {}),
            labels=dict(config.labels or {}),
            on_build=list(config.on_build or ()),
            healthcheck=config.healthcheck or None,
            stop_signal=config.stop_signal or "",
            stop_timeout=None if config.stop_timeout is UNSET else config.stop_timeout,
            args_escaped=bool(config.args_escaped),
        )

    def copy(self) -> Draft:
        """Another one, to be changed by itself. Triggers aren't inherited."""
        return replace(
            self,
            env=dict(self.env),
            exposed_ports=dict(self.exposed_ports),
            volumes=dict(self.volumes),
            labels=dict(self.labels),
            on_build=[],
        )

    def with_shell(self, line: str) -> tuple[str, ...]:
        """A line of shell script as a command."""
        return (*(self.shell or DEFAULT_SHELL), line)

    def config(self) -> ContainerConfig:
        """The configuration as it is stored."""
        return ContainerConfig(
            user=self.user,
            exposed_ports=self.exposed_ports or UNSET,
            env=list(self.env.values()),
            cmd=None if self.cmd is None else list(self.cmd),
            healthcheck=self.healthcheck or UNSET,
            args_escaped=self.args_escaped or UNSET,
            volumes=self.volumes or None,
            working_dir=self.working_dir,
            entrypoint=None if self.entrypoint is None else list(self.entrypoint),
            on_build=self.on_build or None,
            labels=self.labels or None,
            stop_signal=self.stop_signal or UNSET,
            stop_timeout=UNSET if self.stop_timeout is None else self.stop_timeout,
            shell=list(self.shell) or UNSET,
        )


def _command(command: list[str] | str | None) -> tuple[str, ...] | None:
    if command is None:
        return None
    return (command,) if isinstance(command, str) else tuple(command)
