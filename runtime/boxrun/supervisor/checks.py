"""What this machine can't give a container to come, told at its creation rather than at its start."""

from __future__ import annotations

from typing import Final

from boxrun.container import capabilities, rlimits
from boxrun.container.cgroups import Cgroups
from boxrun.container.cgroups.errors import CgroupError
from boxrun.errors import SetupError
from boxrun.linux import process
from boxrun.supervisor.contract import CheckReply, CheckRequest
from boxrun.supervisor.rundir import RunDirectory

_SYS_RESOURCE: Final = 1 << capabilities.CAPABILITIES["CAP_SYS_RESOURCE"]


def check(request: CheckRequest, cgroups: Cgroups, run: RunDirectory) -> CheckReply:
    """Look at limits against kernel and privileges; only the cgroup parent is made, where it is missing."""
    try:
        parent = request.cgroup_parent
        if parent not in run.cgroup_parents():
            run.note_cgroup_parent(parent)
        warnings = cgroups.lacking(parent, request.resources)
        may_raise = bool(process.capget()[1] & _SYS_RESOURCE)
        warnings += rlimits.plan(request.rlimits, may_raise=may_raise)[1]
    except (CgroupError, SetupError) as error:
        return CheckReply(refusal=str(error))
    if request.oom_score_adj is not None and request.oom_score_adj < 0 and not may_raise:
        warnings.append(f"oom_score_adj {request.oom_score_adj} needs CAP_SYS_RESOURCE, the present one stays")
    return CheckReply(warnings=tuple(warnings))
