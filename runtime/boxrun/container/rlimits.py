"""Resource limits. A hard limit above the present one needs CAP_SYS_RESOURCE; without it the limit is clamped and said so."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import Final

from boxrun.container.spec import Rlimit
from boxrun.errors import SetupError

#: Docker's names and the kernel's numbers. Source: getrlimit(2).
RLIMITS: Final[dict[str, int]] = {
    name[7:].lower(): getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
} | {"locks": 10}

_INFINITY: Final = resource.RLIM_INFINITY


def plan(limits: Sequence[Rlimit], *, may_raise: bool) -> tuple[list[tuple[int, tuple[int, int]]], list[str]]:
    """Return the limits to set, as numbers for setrlimit(2), and warnings about those that were clamped.

    Args:
        limits: what is asked for.
        may_raise: whether the process holds CAP_SYS_RESOURCE.

    Raises:
        SetupError: a name is unknown, or a soft limit is above its hard one.
    """
    planned = []
    warnings = []
    for limit in limits:
        number = RLIMITS.get(limit.name)
        if number is None:
            raise SetupError("rlimits", 0, f"invalid ulimit type: {limit.name}")
        soft, hard = (_INFINITY if value < 0 else value for value in (limit.soft, limit.hard))
        if _above(soft, hard):
            message = f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            raise SetupError("rlimits", 0, message)
        if not may_raise:
            present = resource.getrlimit(number)[1]
            if _above(hard, present):
                warnings.append(
                    f"ulimit {limit.name}: hard limit {limit.hard} is above this machine's {present}, which is used instead"
                )
                hard = present
                soft = present if _above(soft, present) else soft
        planned.append((number, (soft, hard)))
    return planned, warnings


def apply(planned: Sequence[tuple[int, tuple[int, int]]]) -> None:
    """Set the limits on this process."""
    for number, values in planned:
        try:
            resource.setrlimit(number, values)
        except (OSError, ValueError) as error:
            name = next(name for name, value in RLIMITS.items() if value == number)
            raise OSError(
                getattr(error, "errno", None) or 1, str(error), f"set ulimit {name} to {values[0]}:{values[1]}"
            ) from error


def _above(first: int, second: int) -> bool:
    if second == _INFINITY:
        return False
    return first == _INFINITY or first > second
