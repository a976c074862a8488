"""Execs: further programs in running containers.

Source: Docker Engine API v1.51, definitions ExecConfig, ExecStartConfig, ExecInspectResponse and ProcessConfig.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field


class ExecCreateRequest(Struct, rename="pascal", frozen=True, omit_defaults=True):
    """The body of ``ContainerExec``. ``console_size`` is height and width in characters.

    ``docker_py_detach_keys`` is how docker-py spells ``DetachKeys``, which Docker takes as well.
    """

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: list[int] | None = None
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None
    docker_py_detach_keys: str = field(default="", name="detachKeys")


class ExecCreateResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``ContainerExec``."""

    id: str


class ExecStartRequest(Struct, rename="pascal", frozen=True, omit_defaults=True):
    """The body of ``ExecStart``. ``tty`` says how the stream is framed: raw instead of multiplexed."""

    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None


class ProcessConfig(Struct, rename="lower", frozen=True):
    """What an exec runs."""

    tty: bool
    entrypoint: str
    arguments: list[str]
    privileged: bool
    user: str | UnsetType = UNSET


class ExecInspect(Struct, rename="pascal", frozen=True):
    """The answer to ``ExecInspect``. ``exit_code`` is None while it hasn't ended; ``detach_keys`` are bytes in base64."""

    id: str = field(name="ID")
    running: bool
    exit_code: int | None
    process_config: ProcessConfig
    open_stdin: bool
    open_stderr: bool
    open_stdout: bool
    can_remove: bool
    container_id: str = field(name="ContainerID")
    detach_keys: str
    pid: int
