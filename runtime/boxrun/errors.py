"""The runtime's errors.

    BoxrunError
    ├── StartFault             a container couldn't be started; says at which step, with errno and Docker's exit code
    │   ├── SetupError         on the host's side, before the first process existed
    │   └── StartError         in the container's own process, up to execve
    ├── ShimError              a shim can't be reached, or answers what it must not
    ├── ZygoteError            the fork server can't be started or keeps dying
    └── RunDirectoryError      the run directory is another supervisor's, or can't be used

The bus has its own tree (``boxrun.bus.BusError``): at its border these become status codes.
"""

from __future__ import annotations


class BoxrunError(Exception):
    """The root of the runtime's errors; its text names the operation and the object."""


class StartFault(BoxrunError):  # noqa: N818 - a fault has the two errors below it
    """A container couldn't be started.

    Args:
        step: what was being done, in a word or two (``mount``, ``cgroup``, ``exec``).
        errno: the kernel's error number, 0 where it wasn't the kernel's.
        message: the text a user is shown.
        exit_code: 127 where the program was not found, 126 where it couldn't be run, 128 for everything else.
    """

    def __init__(self, step: str, errno: int, message: str, exit_code: int = 128) -> None:
        super().__init__(message)
        self.step = step
        self.errno = errno
        self.message = message
        self.exit_code = exit_code


class SetupError(StartFault):
    """The host's side of a start failed: a path, a device, a cgroup, a namespace to join."""


class StartError(StartFault):
    """The container's own process failed on its way to execve."""


class ShimError(BoxrunError):
    """A shim can't be reached, or answers what it must not."""


class ZygoteError(BoxrunError):
    """The fork server can't be started or keeps dying."""


class RunDirectoryError(BoxrunError):
    """The run directory is another supervisor's, or can't be used."""


class LogDriverError(BoxrunError):
    """A log driver can't reach the place it sends to; the text is the one Docker's driver has."""
