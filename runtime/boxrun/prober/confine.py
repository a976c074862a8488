"""Getting into the container for good, and being no more than one of its programs there: system calls and nothing else.

Into the container's pid namespace go only the children: the prober itself keeps its number in the host's, so that nothing in
the container sees it, signals it or traces it. Its memory is shared with a child for the moment between vfork(2) and execve(2).
That child can't be traced either, as the memory isn't dumpable. Where something has CAP_SYS_PTRACE, which overrides that, no
child of the prober is in that namespace until it has become by itself what the program is to be (``boxrun.prober.launch``).
Sources: setns(2), ptrace(2), vfork(2).
"""

from __future__ import annotations

import ctypes
import os
from _signal import SIG_DFL, signal  # type: ignore[import-not-found]
from collections.abc import Sequence
from resource import setrlimit
from typing import Final

from boxrun.container import capabilities
from boxrun.container.seccomp.load import load_program
from boxrun.linux import namespaces, process, syscalls
from boxrun.prober.plan import Plan, refuse_the_host

_NAME: Final = b"boxrun-prober"
_UMASK: Final = 0o022
_LAST: Final = ctypes.c_uint(0xFFFFFFFF)


def enter(plan: Plan, descriptors: Sequence[int]) -> tuple[int, int]:
    """Join the container's cgroup and namespaces, and have no descriptors but the first three and the null device.

    Args:
        plan: what was worked out.
        descriptors: three that are kept, the null device, the file of this process's name, the pid namespace where the plan
            says that children enter it by themselves, the cgroups' files.

    Returns:
        The null device's descriptor and the pid namespace's, -1 without one.

    Raises:
        OSError: it can't be done, as where the container has ended.
        BoxrunError: the plan would have it stay in the host's mount namespace.
    """
    refuse_the_host(plan.id, plan.namespaces)
    null = descriptors[3]
    pid_namespace = descriptors[5] if plan.pid_namespace else -1
    process.prctl(process.PR_SET_DUMPABLE, 0)
    os.write(descriptors[4], _NAME)
    for fd in descriptors[6 if plan.pid_namespace else 5 :]:
        os.write(fd, b"0")
    # A keeper is one. What probes leave behind in the host's pid namespace (--pid host) is for the host's init, which waits.
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 0)
    namespaces.setns(descriptors[2], plan.namespaces)
    if plan.own_user_namespace:
        process.set_ids(0, 0, ())
        process.prctl(process.PR_SET_DUMPABLE, 0)
    os.chdir("/")
    try:
        process.join_session_keyring(f"_ses.{plan.id}")
    except OSError:
        # A kernel without keyrings has none to keep apart; an outer container's filter may refuse them.
        pass
    # Children begin with the default actions; fork_exec puts back those that Python itself has changed.
    for signum in plan.ignored:
        signal(signum, SIG_DFL)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    _keep_only(sorted([*descriptors[:4], *([pid_namespace] if plan.pid_namespace else [])]))
    return null, pid_namespace


def _keep_only(descriptors: Sequence[int]) -> None:
    """Close everything from 3 on that isn't one of ``descriptors``, which ascend."""
    first = 3
    for fd in descriptors:
        if fd > first:
            syscalls.call("close_range", syscalls.CLOSE_RANGE, first, fd - 1, 0)
        first = fd + 1
    syscalls.call("close_range", syscalls.CLOSE_RANGE, first, _LAST, 0)


def confine(plan: Plan) -> None:
    """Be the container's user, with its limits, capabilities and filter, for good.

    The order is that of ``boxrun.container.program``.

    Raises:
        OSError, SeccompError: the kernel refused.
    """
    for number, values in plan.rlimits:
        setrlimit(number, values)
    process.drop_from_bounding_set(plan.drop)
    if plan.uid:
        capabilities.keep_across_setuid()
    process.set_ids(plan.uid, plan.gid, plan.groups)
    process.prctl(process.PR_SET_DUMPABLE, 0)
    os.umask(_UMASK)
    if plan.seccomp or plan.no_new_privileges:
        if plan.uid and not plan.no_new_privileges:
            capabilities.raise_for_seccomp()
        load_program(plan.seccomp, plan.no_new_privileges)
    capabilities.apply(plan.keep, effective=plan.uid == 0)
