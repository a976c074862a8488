"""Which namespaces are made, which joined, by whom and in which order.

Most new ones come with clone3. The exceptions: a cgroup namespace is left for a new one only after the process is in its
cgroup, since its root is the cgroup at that moment; a time namespace must get its offsets before anybody enters it. Joined
ones are entered by the child, but for those that only reach later children (pid, time), and but for all of them where the
container has a user namespace of its own, in which the child may no longer enter the host's. The caller's process enters
those around the clone, and returns. Source: namespaces(7).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from boxrun.container.spec import IDMapping, Spec
from boxrun.errors import SetupError
from boxrun.linux import namespaces

FLAGS: Final[dict[str, int]] = {
    "user": namespaces.CLONE_NEWUSER,
    "mnt": namespaces.CLONE_NEWNS,
    "pid": namespaces.CLONE_NEWPID,
    "net": namespaces.CLONE_NEWNET,
    "ipc": namespaces.CLONE_NEWIPC,
    "uts": namespaces.CLONE_NEWUTS,
    "cgroup": namespaces.CLONE_NEWCGROUP,
    "time": namespaces.CLONE_NEWTIME,
}
_AFTER_CLONE: Final = frozenset({"cgroup", "time"})
_ONLY_CHILDREN: Final = ("pid", "time")
_JOIN_ORDER: Final = ("ipc", "uts", "net", "cgroup")


class Namespaces(Struct, frozen=True):
    """The plan: flags for clone3, kinds that are new, descriptors the caller and the child enter, time offsets' lines."""

    clone_flags: int
    new: frozenset[str]
    own: frozenset[str]
    caller_joins: tuple[tuple[str, int], ...]
    child_joins: tuple[tuple[str, int], ...]
    offsets: bytes


def plan(spec: Spec, joins: Mapping[str, int]) -> Namespaces:
    """Work out what to do for ``spec``.

    Args:
        spec: the container.
        joins: an open namespace file for each kind that is joined.

    Raises:
        SetupError: a combination that can't be had.
    """
    kinds = {namespace.kind: namespace for namespace in spec.namespaces}
    joined = {kind for kind, namespace in kinds.items() if namespace.container or namespace.path or kind in joins}
    missing = joined - joins.keys()
    if missing:
        raise SetupError("namespaces", 0, f"no descriptor for the {sorted(missing)[0]} namespace to join")
    if "mnt" not in kinds or "mnt" in joined:
        raise SetupError("namespaces", 0, "a container needs a mount namespace of its own")
    if "user" in joined:
        raise SetupError("namespaces", 0, "joining a user namespace is not possible")
    new = frozenset(kinds.keys() - joined)
    if "user" in new and not (spec.uid_mappings and spec.gid_mappings):
        raise SetupError("namespaces", 0, "a user namespace needs uid and gid mappings")
    if spec.time_offsets and "time" not in new:
        raise SetupError("namespaces", 0, "time offsets need a new time namespace")
    if (spec.hostname or spec.domainname) and "uts" not in kinds:
        raise SetupError("namespaces", 0, "unable to set hostname without a private UTS namespace")
    flags = 0
    for kind in new - _AFTER_CLONE:
        flags |= FLAGS[kind]
    by_caller = _ONLY_CHILDREN if "user" not in new else (*_ONLY_CHILDREN, *_JOIN_ORDER)
    return Namespaces(
        clone_flags=flags,
        new=new,
        own=frozenset(kinds),
        caller_joins=tuple((kind, joins[kind]) for kind in by_caller if kind in joined),
        child_joins=tuple((kind, joins[kind]) for kind in _JOIN_ORDER if kind in joined and kind not in by_caller),
        offsets=_offset_lines(spec.time_offsets),
    )


@contextmanager
def around_clone(planned: Namespaces) -> Iterator[None]:
    """Be in the namespaces that a child can only inherit, and return to one's own afterwards."""
    if not planned.caller_joins and "time" not in planned.new:
        yield
        return
    entered = [kind for kind, _ in planned.caller_joins]
    if "time" in planned.new:
        entered.append("time")
    own = [(kind, os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)) for kind in entered]
    try:
        for kind, fd in planned.caller_joins:
            namespaces.setns(fd, FLAGS[kind])
        if "time" in planned.new:
            namespaces.unshare(namespaces.CLONE_NEWTIME)
            if planned.offsets:
                _write("/proc/self/timens_offsets", planned.offsets)
        yield
    finally:
        for kind, fd in own:
            try:
                namespaces.setns(fd, FLAGS[kind])
            except BaseException:  # noqa: BLE001 - what comes next is meant for the host, and would be done in a container
                os._exit(1)
            os.close(fd)


def return_home(home: int, kinds: int, root_fd: int) -> None:
    """Be in one's own namespaces again after another's mount namespace, with the root that there was; or end this process.

    Nothing of the host's may ever run where a container's files are.

    Args:
        home: a process that is there, or with one kind alone its namespace's file.
        kinds: the ``CLONE_NEW*`` flags of the namespaces that were entered.
        root_fd: the root directory.
    """
    try:
        namespaces.setns(home, kinds)
        os.fchdir(root_fd)
        os.chroot(".")
    except BaseException:  # noqa: BLE001 - whatever it was, one isn't home
        os._exit(1)


def enter(planned: Namespaces) -> None:
    """Enter the namespaces that the child itself joins."""
    for kind, fd in planned.child_joins:
        namespaces.setns(fd, FLAGS[kind])


def map_ids(pid: int, uids: Sequence[IDMapping], gids: Sequence[IDMapping]) -> None:
    """Write the id mappings of ``pid``'s new user namespace, from its parent. Source: user_namespaces(7)."""
    for name, mappings in (("uid_map", uids), ("gid_map", gids)):
        lines = "".join(f"{mapping.inside} {mapping.outside} {mapping.size}\n" for mapping in mappings)
        _write(f"/proc/{pid}/{name}", lines.encode())


def outside(mappings: Sequence[IDMapping], inside: int) -> int:
    """Return the host's number for the id ``inside``, that of the container's root where it isn't mapped."""
    for mapping in mappings:
        if mapping.inside <= inside < mapping.inside + mapping.size:
            return mapping.outside + inside - mapping.inside
    if inside == 0:
        raise SetupError("namespaces", 0, "the mappings of a user namespace must include id 0")
    return outside(mappings, 0)


def _offset_lines(offsets: Mapping[str, int]) -> bytes:
    lines = []
    for clock, nanoseconds in offsets.items():
        if clock not in ("monotonic", "boottime"):
            raise SetupError("namespaces", 0, f"no such clock in a time namespace: {clock}")
        seconds, rest = divmod(nanoseconds, 1_000_000_000)
        lines.append(f"{clock} {seconds} {rest}\n")
    return "".join(lines).encode()


def _write(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"write {path}") from error
    finally:
        os.close(fd)
