"""What an exec runs: the container's own program with the exec's settings in place of its own.

Source: moby daemon/exec.go and daemon/exec_linux.go.
"""

from __future__ import annotations

from collections.abc import Sequence

from boxrun.container.defaults import ALL_CAPABILITIES
from boxrun.container.spec import Process, Seccomp
from msgspec import structs

from boxshipd.containers.model import Container
from boxshipd.containers.settings import Settings
from boxshipd.containers.spec.builder import environment, program_of
from boxshipd.execs.model import ExecConfig


def program_of_exec(
    config: ExecConfig, container: Container, settings: Settings, console_size: tuple[int, int], linked: Sequence[str]
) -> tuple[Process, Seccomp]:
    """The program and its filter.

    Args:
        config: the exec.
        container: the container it runs in.
        settings: the daemon's.
        console_size: height and width of its terminal, 0 for the kernel's default.
        linked: the variables that the container's links set.

    Raises:
        InvalidParameter, NotImplementedHere: the container's own configuration isn't valid any more.
    """
    own = container.config.config
    process, seccomp = program_of(container, settings)
    changed = structs.replace(
        process,
        args=config.command,
        env=environment(own, (*linked, *config.env), tty=config.tty),
        cwd=config.working_dir or process.cwd,
        user=config.user or process.user,
        capabilities=ALL_CAPABILITIES if config.privileged else process.capabilities,
        terminal=config.tty,
        console_height=console_size[0],
        console_width=console_size[1],
    )
    return changed, seccomp
