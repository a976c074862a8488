"""Which OCI runtime makes a container: our own, or another one that the daemon's configuration names.

Source: moby daemon/runtime_unix.go, from which the messages are.
"""

from __future__ import annotations

import os
import shutil

from boxrun.container.spec import ForeignRuntime
from boxship.types.host import HostConfig

from boxshipd.config import OWN_RUNTIME, known_runtimes
from boxshipd.containers.settings import Settings
from boxshipd.errors import InternalError, InvalidParameter


def validate_runtime(host: HostConfig, settings: Settings) -> None:
    """Check the runtime that a container asks for.

    Raises:
        InvalidParameter: nobody knows it, or it can't do what else is asked for.
    """
    if not _is_foreign(host, settings):
        return
    name = host.runtime or settings.default_runtime
    if name not in known_runtimes(settings.runtimes):
        raise InvalidParameter(f"unknown or invalid runtime name: {name}")
    if host.init is True:
        raise InvalidParameter(f"--init is not available with --runtime {name}: only {OWN_RUNTIME} has an init")


def foreign_runtime(host: HostConfig, settings: Settings) -> ForeignRuntime | None:
    """The other runtime that is to make the container; None where it is our own.

    Raises:
        InvalidParameter: it isn't configured (any more).
        InternalError: its program isn't there.
    """
    validate_runtime(host, settings)
    if not _is_foreign(host, settings):
        return None
    name = host.runtime or settings.default_runtime
    runtime = known_runtimes(settings.runtimes)[name]
    path = runtime.path if "/" in runtime.path else shutil.which(runtime.path)
    if path is None:
        reason = f'exec: "{runtime.path}": executable file not found in $PATH'
        raise InternalError(f'failed to start the runtime "{name}": {reason}')
    return ForeignRuntime(path=os.path.abspath(path), args=runtime.runtime_args)


def _is_foreign(host: HostConfig, settings: Settings) -> bool:
    return (host.runtime or settings.default_runtime) != OWN_RUNTIME
