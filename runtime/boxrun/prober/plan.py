"""What a prober does to get into its container, worked out beforehand, in a process that ends with it.

Whatever Python executes leaves pages of its own in a process's memory, and a prober's is there for as long as its container.
So all looking up is done here, by a shim's worker (``boxrun.shim.worker``), and the prober itself makes system calls only.
"""

from __future__ import annotations

import os
from errno import ENOENT
from signal import SIG_IGN, SIGPIPE, SIGXFSZ, getsignal, valid_signals
from typing import Final

from msgspec import Struct
from msgspec.msgpack import Decoder

from boxrun.container import capabilities, devices, paths, rlimits, users
from boxrun.container.cgroups import Cgroups
from boxrun.container.cgroups.model import Group
from boxrun.container.exec import DEFAULT_PATH, environment
from boxrun.container.program import set_oom_score_adj
from boxrun.container.spec import Process
from boxrun.errors import SetupError
from boxrun.linux import files, namespaces
from boxrun.prober.protocol import Check, Health, Schedule

_HARMLESS: Final = frozenset({"core", "memlock", "msgqueue", "nice", "rtprio", "rttime", "sigpending", "stack", "locks"})
_LEAST_FILES: Final = 64
# Those that Python ignores and fork_exec puts back.
_RESTORED: Final = frozenset({SIGPIPE, SIGXFSZ})
_PTRACE: Final = "CAP_SYS_PTRACE"


class Plan(Struct, frozen=True, kw_only=True, array_like=True):
    """All that a prober knows. Between two processes of one version, so that nothing is optional.

    Args:
        id, run, started_at, schedule, health, attentive: as in ``Check``.
        age: how long the container has run, in ns.
        namespaces: to enter, as ``CLONE_NEW*`` flags.
        pid_namespace: whether every child enters the pid namespace by itself.
        own_user_namespace: the container's root isn't the host's.
        uid, gid, groups: who the program runs as.
        drop: capabilities to leave the bounding set; ``keep`` is the mask of those that stay.
        rlimits: as numbers for setrlimit(2).
        seccomp, no_new_privileges: of the program.
        ignored: signals that this process ignores and the program is not to.
        args, programs, env, cwd: what is executed: the first of ``programs`` that is there.
        process: the program itself, where every child is confined by itself; None where the prober is.
    """

    id: str
    run: int
    age: int
    schedule: Schedule
    health: Health
    attentive: bool
    namespaces: int
    pid_namespace: bool
    own_user_namespace: bool
    uid: int
    gid: int
    groups: tuple[int, ...]
    drop: tuple[int, ...]
    keep: int
    rlimits: tuple[tuple[int, tuple[int, int]], ...]
    seccomp: bytes
    no_new_privileges: bool
    ignored: tuple[int, ...]
    args: list[bytes]
    programs: list[bytes]
    env: list[bytes]
    cwd: str
    process: Process | None


decode_plan = Decoder(Plan).decode


def may_trace(settings: Process) -> bool:
    """Whether the container's programs have the right to look into every process that they see."""
    return _PTRACE in settings.capabilities


def may_confine(check: Check) -> bool:
    """Whether a prober can work under its container's own rights, limits and filter, and lend its memory to its children.

    A filter of the user's may refuse what it needs, some limits would end it, and where something in the container may trace
    whatever it sees, it must see nothing of ours. Then every probe is confined by itself.
    """
    return (
        not check.custom
        and not may_trace(check.process)
        and all(
            limit.name in _HARMLESS or (limit.name == "nofile" and not 0 <= limit.soft < _LEAST_FILES)
            for limit in check.process.rlimits
        )
    )


def refuse_the_host(container: str, flags: int) -> None:
    """Make sure that namespaces to enter are a container's, which always has a mount namespace of its own.

    Raises:
        SetupError: nobody would leave the host's.
    """
    if not flags & namespaces.CLONE_NEWNS:
        raise SetupError("namespaces", 0, f"container {container} has no mount namespace of its own to probe it in")


def prepare(check: Check, cgroups: Cgroups, pidfd: int, keeper: int, age: int) -> tuple[Plan, list[int]]:
    """Work everything out, and open what it takes; this process ends up in the container's mount namespace.

    Args:
        check: what is asked for.
        cgroups: the machine's hierarchies.
        pidfd: the container's process 1.
        keeper: the process that will be the prober.
        age: how long the container has run, in ns.

    Returns:
        The plan and descriptors: the null device, the keeper's name, the pid namespace where children enter it by themselves,
        the cgroups' files to join.

    Raises:
        OSError, CgroupError, StartFault: the container has ended, or doesn't know the user.
    """
    refuse_the_host(check.id, check.namespaces)
    settings, confined = check.process, may_confine(check)
    if settings.oom_score_adj is not None:
        set_oom_score_adj(str(keeper), settings.oom_score_adj)
    name = os.open(f"/proc/{keeper}/comm", os.O_WRONLY | os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    with cgroups.open(check.cgroup) as group:
        joins = _joins(group)
    outside = 0 if confined else check.namespaces & namespaces.CLONE_NEWPID
    if outside:
        joins.insert(0, _pid_namespace(pidfd))
    namespaces.setns(pidfd, namespaces.CLONE_NEWNS)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    identity = users.resolve(root, settings.user, settings.groups)
    env = environment(settings.env)
    if not env.get("HOME"):
        env["HOME"] = identity.home or "/"
    keep = capabilities.mask_of(settings.capabilities) & capabilities.inherited_bounding_set()
    plan = Plan(
        id=check.id,
        run=check.run,
        age=age,
        schedule=check.schedule,
        health=check.health,
        attentive=check.attentive,
        namespaces=check.namespaces & ~outside,
        pid_namespace=bool(outside),
        own_user_namespace=bool(check.namespaces & namespaces.CLONE_NEWUSER),
        uid=identity.uid,
        gid=identity.gid,
        groups=identity.groups,
        drop=capabilities.to_drop(keep),
        keep=keep,
        rlimits=tuple(rlimits.plan(settings.rlimits, may_raise=False)[0]),
        seccomp=check.seccomp,
        no_new_privileges=settings.no_new_privileges,
        ignored=tuple(int(number) for number in valid_signals() if getsignal(number) == SIG_IGN and number not in _RESTORED),
        args=[os.fsencode(arg) for arg in settings.args],
        programs=[os.fsencode(path) for path in _candidates(settings.args[0], env)],
        env=[os.fsencode(f"{name}={value}") for name, value in env.items()],
        cwd=settings.cwd,
        process=None if confined else settings,
    )
    return plan, [_null(root, null), name, *joins]


def _pid_namespace(pidfd: int) -> int:
    """A descriptor of the pid namespace of a process; the caller's children are in it from then on."""
    namespaces.setns(pidfd, namespaces.CLONE_NEWPID)
    return os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)


def _joins(group: Group) -> list[int]:
    """The files to which a process writes to be in the group, in every hierarchy that has it."""
    joins = [os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=group.fd)]
    for directory, prefix in set(group.places().values()):
        try:
            joins.append(os.open(f"{prefix}tasks", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory))
        except OSError as error:
            # It has no group there, or the hierarchy is cgroup2's.
            if error.errno != ENOENT:
                raise
    return joins


def _null(root: int, fallback: int) -> int:
    """A descriptor of the container's null device, or the host's where it has no real one."""
    try:
        fd = files.openat2(root, "/dev/null", os.O_RDWR, resolve=paths.RESOLVE)
    except OSError:
        return fallback
    return fd if devices.is_null(fd) else fallback


def _candidates(name: str, env: dict[str, str]) -> list[str]:
    """Where the program may be; like Go's LookPath, and unlike a shell, never the working directory."""
    if "/" in name:
        return [name]
    directories = env.get("PATH", DEFAULT_PATH).split(":")
    return [f"{directory}/{name}" for directory in directories if directory[:1] == "/"] or [f"/{name}"]
