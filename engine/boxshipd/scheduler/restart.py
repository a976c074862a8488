"""Restart policies: whether a container that ended is started again, and when.

Source: moby daemon/container restartmanager, whose numbers and rules these are.
"""

from __future__ import annotations

from boxship.types.host import RestartPolicy

from boxshipd.errors import InvalidParameter

FIRST_DELAY = 0.1
"""Seconds before the first restart."""
LONGEST_DELAY = 60.0
"""Seconds that doubling stops at."""
STEADY_AFTER = 10.0
"""A container that lived this many seconds begins again with the first delay."""


class Backoff:
    """The growing delay between restarts of one container."""

    __slots__ = ("_delay",)

    def __init__(self) -> None:
        self._delay = 0.0

    def next(self, lived: float) -> float:
        """The delay in seconds before the coming restart of a container that lived ``lived`` seconds."""
        if lived >= STEADY_AFTER or not self._delay:
            self._delay = FIRST_DELAY
        else:
            self._delay = min(self._delay * 2, LONGEST_DELAY)
        return self._delay

    def reset(self) -> None:
        """Begin again with the first delay."""
        self._delay = 0.0


def wants_restart(policy: RestartPolicy | None, *, exit_code: int, restart_count: int, manually_stopped: bool) -> bool:
    """Whether a policy starts a container again that ended with ``exit_code``.

    Args:
        policy: the container's.
        exit_code: how it ended.
        restart_count: how many times the policy has already started it.
        manually_stopped: whether a client stopped or killed it since it was last started by one.
    """
    if policy is None:
        return False
    if policy.name == "always":
        return True
    if policy.name == "unless-stopped":
        return not manually_stopped
    if policy.name == "on-failure":
        return exit_code != 0 and (policy.maximum_retry_count == 0 or restart_count < policy.maximum_retry_count)
    return False


def validate_policy(policy: RestartPolicy) -> None:
    """Refuse a policy that can't be.

    Raises:
        InvalidParameter: with Docker's message.
    """
    if policy.name in {"always", "no", "unless-stopped"}:
        if policy.maximum_retry_count != 0:
            message = "invalid restart policy: maximum retry count can only be used with 'on-failure'"
            raise InvalidParameter(message + (" and cannot be negative" if policy.maximum_retry_count < 0 else ""))
    elif policy.name == "on-failure":
        if policy.maximum_retry_count < 0:
            raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    elif policy.name:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
