"""What can go wrong between daemon and supervisor; part of the tree in ``boxshipd.errors``."""

from __future__ import annotations

from boxrun.bus import BusError, Code
from boxrun.network.contract import NetworkFailure
from boxrun.supervisor.contract import StartFailure

from boxshipd.errors import Conflict, DaemonError, InternalError, InvalidParameter, Unavailable


class StartFailed(DaemonError):  # noqa: N818 - named as Docker's own errors are
    """The runtime could not start a container; ``failure`` says at which step, and which exit code Docker gives it."""

    def __init__(self, failure: StartFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class CommandFailed(StartFailed, InvalidParameter):
    """The container's program wasn't found (127) or can't be run (126): the configuration's fault."""


class SetupFailed(StartFailed, InternalError):  # noqa: N818
    """Something else failed on the way to the container's program."""


class NetworkFailed(InternalError):  # noqa: N818
    """The runtime could not do something about a network; ``failure`` says what kind of thing stood in the way."""

    def __init__(self, failure: NetworkFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class LinkLost(Unavailable):
    """The supervisor went away during a call, so that its outcome is unknown until the next listing."""


def translated(error: BusError, what: str) -> DaemonError:
    """A bus error as one of the daemon's."""
    failure = error.detail(StartFailure)
    if failure is not None:
        return CommandFailed(failure) if failure.exit_code in {126, 127} else SetupFailed(failure)
    network = error.detail(NetworkFailure)
    if network is not None:
        return NetworkFailed(network)
    text = f"{what}: {error.message}"
    if error.code in {Code.UNAVAILABLE, Code.CANCELLED, Code.DEADLINE_EXCEEDED}:
        return LinkLost(text)
    if error.code in {Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.ALREADY_EXISTS}:
        return Conflict(text)
    return InternalError(text)
