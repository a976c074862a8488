"""The container's mounts: prepared as detached trees on the host's side, attached by descriptor in the child.

Binds, tmpfs and devpts need nothing of the container and are made before the clone. proc, sysfs, mqueue and cgroup show the
namespaces of whoever opens them, so the child makes those. Every target is opened below the root first and then mounted on by
that descriptor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from errno import ENOENT, ENOTDIR
from typing import Final

from msgspec import Struct

from boxrun.container import cgroupfs, options, paths, trees
from boxrun.container.options import PROPAGATION, Options
from boxrun.container.spec import Mount
from boxrun.errors import SetupError, StartError
from boxrun.linux import mounts
from boxrun.linux.files import PROC_SUPER_MAGIC, filesystem_magic, openat2

#: Kinds that must be mounted on a real directory of the root, never through a link.
_ORDINARY: Final = frozenset({"proc", "sysfs", "cgroup", "mqueue", "devpts"})
#: Kinds whose contents come from somewhere; what they show may be a file.
_SOURCED: Final = frozenset({"bind", "overlay", "filesystem"})

# What may be mounted inside /proc: files that programs like lxcfs provide (runc, rootfs_linux.go, checkProcMount).
_PROC_FILES: Final = frozenset(
    f"/proc/{name}"
    for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "sys/kernel/ns_last_pid")
)
_PROC_ROOT_INODE: Final = 1


class Planned(Struct):
    """A mount on its way: the normalised target, the detached tree (-1 where the child makes it) and its parsed options.

    ``file``: the target must be a file. ``keep_mode``: take over the target's permissions.
    """

    mount: Mount
    target: str
    tree_fd: int
    parsed: Options
    file: bool = False
    keep_mode: bool = False


def plan(
    specified: Sequence[Mount],
    owner: tuple[int, int] | None = None,
    devpts_fd: int = -1,
    borrowed: dict[str, int] | None = None,
) -> list[Planned]:
    """Prepare every mount as far as the host's side can, in order; the caller closes the trees.

    Args:
        specified: the mounts.
        owner: uid and gid on the host of the container's root, where it has a user namespace.
        devpts_fd: a devpts instance that was made already, for the first mount of that kind.
        borrowed: trees that were made already, or come from other containers, by their mounts' targets; what is used is
            taken out.

    Raises:
        SetupError: a bind source is missing, an option is unknown to the kernel, a target is forbidden.
    """
    planned: list[Planned] = []
    try:
        for mount in specified:
            if mount.kind == "devpts" and devpts_fd >= 0:
                parsed = options.parse(mount.options, readonly=mount.readonly)
                planned.append(Planned(mount, paths.normalise(mount.target), devpts_fd, parsed))
                devpts_fd = -1
            elif mount.container or mount.kind == "filesystem":
                parsed = options.parse(mount.options, readonly=mount.readonly)
                tree_fd = (borrowed or {}).pop(mount.target, -1)
                if tree_fd < 0:
                    raise SetupError("mounts", 0, f"{mount.source} of container {mount.container} was not taken")
                planned.append(Planned(mount, paths.normalise(mount.target), tree_fd, parsed))
            else:
                planned.append(_plan(mount, owner))
    except BaseException:
        close(planned)
        raise
    finally:
        if devpts_fd >= 0:
            os.close(devpts_fd)
    return planned


def devpts(mount: Mount, owner: tuple[int, int] | None = None) -> int:
    """Return the detached devpts instance that ``mount`` asks for."""
    parsed = options.parse(mount.options, readonly=mount.readonly)
    tree_fd = mounts.new_mount("devpts", _owned(parsed, owner), parsed.set_flags)
    if owner is not None:
        os.chown("ptmx", *owner, dir_fd=tree_fd)
    return tree_fd


def close(planned: Sequence[Planned]) -> None:
    """Close the trees that are still open."""
    for item in planned:
        if item.tree_fd >= 0:
            os.close(item.tree_fd)
            item.tree_fd = -1


def attach(root_fd: int, planned: Sequence[Planned], hierarchies: cgroupfs.Membership | None) -> int:
    """Attach the mounts in order, in the container's namespaces, and return a descriptor of its procfs (-1 if it has none).

    Args:
        root_fd: the root, attached in this mount namespace.
        planned: what :func:`plan` returned.
        hierarchies: where this process's cgroups are, for mounts of kind ``cgroup``.

    Raises:
        StartError: a target can't be used, or the kernel refused.
    """
    proc_fd = -1
    for item in planned:
        try:
            target_fd = _target(root_fd, item)
        except OSError as error:
            raise _failure(item, "target", error) from error
        try:
            if item.mount.kind == "cgroup" and hierarchies is not None:
                cgroupfs.attach(target_fd, hierarchies, item.parsed)
                continue
            if item.tree_fd < 0:
                item.tree_fd = mounts.new_mount(item.mount.kind, item.parsed.data, item.parsed.set_flags)
            if item.mount.kind == "proc" and filesystem_magic(item.tree_fd) != PROC_SUPER_MAGIC:
                raise StartError("mounts", 0, f'mounted on "{item.target}" is not procfs')
            if item.keep_mode:
                os.chmod(".", stat.S_IMODE(os.fstat(target_fd).st_mode), dir_fd=item.tree_fd)
            mounts.move_mount(item.tree_fd, target_fd)
        except OSError as error:
            if item.file and stat.S_ISDIR(os.fstat(target_fd).st_mode):
                error.errno = ENOTDIR
            raise _failure(item, "mount", error) from error
        finally:
            os.close(target_fd)
        if item.mount.kind == "proc" and item.target == "/proc":
            proc_fd = item.tree_fd
    return proc_fd


def _plan(mount: Mount, owner: tuple[int, int] | None) -> Planned:
    target = paths.normalise(mount.target)
    if target == "/":
        raise SetupError("mounts", 0, f'invalid mount target "{mount.target}": it can\'t be the root directory')
    parsed = options.parse(mount.options, readonly=mount.readonly)
    planned = Planned(mount, target, -1, parsed)
    if mount.kind in _SOURCED or mount.kind == "tmpfs":
        _check_inside_proc(mount, target)
    try:
        if mount.kind in _SOURCED:
            planned.tree_fd = trees.detached(mount)
            planned.file = not stat.S_ISDIR(os.fstat(planned.tree_fd).st_mode)
            _check_proc_source(planned)
        elif mount.kind == "devpts":
            planned.tree_fd = devpts(mount, owner)
        elif mount.kind == "tmpfs":
            planned.tree_fd = mounts.new_mount(mount.kind, _owned(parsed, owner), parsed.set_flags, mount.source)
            planned.keep_mode = not parsed.has("mode") and target != "/dev"
            if mount.propagation not in ("rprivate", "private"):
                mounts.mount_setattr(planned.tree_fd, propagation=PROPAGATION[mount.propagation][0])
    except OSError as error:
        close([planned])
        if error.errno == ENOENT and mount.kind == "bind":
            raise SetupError("mounts", ENOENT, f"bind source path does not exist: {mount.source}") from error
        message = f'error preparing mount of "{mount.source or mount.kind}" to "{target}": {_words(error)}'
        raise SetupError("mounts", error.errno or 0, message) from error
    except BaseException:
        close([planned])
        raise
    return planned


def _owned(parsed: Options, owner: tuple[int, int] | None) -> Sequence[tuple[str, str | None]]:
    """Return the file system's options in the host's ids, as it is the host's side that makes it."""
    if owner is None:
        return parsed.data
    base = {"uid": owner[0], "gid": owner[1]}
    given: dict[str, str | None] = {key: value for key, value in parsed.data if key not in base}
    for key, first in base.items():
        inside = next((value for name, value in parsed.data if name == key), None)
        given[key] = str(first + int(inside)) if inside and inside.isdigit() else str(first)
    return tuple(given.items())


def _check_inside_proc(mount: Mount, target: str) -> None:
    if target == "/proc" and mount.kind == "tmpfs":
        raise SetupError(
            "mounts", 0, '"tmpfs" cannot be mounted on "/proc", which must be mounted on ordinary directory with procfs'
        )
    if target.startswith("/proc/") and target not in _PROC_FILES:
        raise SetupError("mounts", 0, f'"{mount.target}" cannot be mounted because it is inside /proc')


def _check_proc_source(planned: Planned) -> None:
    if planned.target == "/proc" and filesystem_magic(planned.tree_fd) != PROC_SUPER_MAGIC:
        message = (
            f'"{planned.mount.source}" cannot be mounted on "/proc", which must be mounted on ordinary directory with procfs'
        )
        raise SetupError("mounts", 0, message)


def _target(root_fd: int, item: Planned) -> int:
    """Open the mount's target, making it where it is missing and that is allowed."""
    mount = item.mount
    if mount.kind in _ORDINARY or item.target in ("/dev", "/proc", "/sys"):
        fd = _ordinary_directory(root_fd, item)
    elif item.file:
        fd = paths.make_file(root_fd, item.target) if mount.create_target else paths.open_path(root_fd, item.target)
    elif mount.create_target:
        # Only a directory that was there hands its mode on; a file system over a new one keeps its own (as runc has it).
        item.keep_mode = item.keep_mode and paths.exists(root_fd, item.target)
        fd = paths.make_directory(root_fd, item.target)
    else:
        fd = paths.open_path(root_fd, item.target)
    if (mount.kind in _SOURCED or mount.kind == "tmpfs") and filesystem_magic(fd) == PROC_SUPER_MAGIC:
        allowed = item.target in _PROC_FILES or (item.target == "/proc" and os.fstat(fd).st_ino == _PROC_ROOT_INODE)
        if not allowed:
            os.close(fd)
            raise StartError("mounts", 0, f'"{item.target}" cannot be mounted because it is inside /proc')
    return fd


def _ordinary_directory(root_fd: int, item: Planned) -> int:
    """Open a target that no part of the image may have made a link."""
    try:
        fd = openat2(root_fd, item.target, os.O_PATH | os.O_NOFOLLOW, resolve=paths.RESOLVE)
    except FileNotFoundError:
        fd = paths.make_directory(root_fd, item.target)
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise StartError("mounts", 0, f'filesystem "{item.mount.kind}" must be mounted on ordinary directory: {item.target}')
    return fd


def _failure(item: Planned, what: str, error: OSError) -> StartError:
    source = item.mount.source or item.mount.kind
    message = f'error mounting "{source}" to rootfs at "{item.target}": {what}: {_words(error)}'
    if error.errno == ENOTDIR:
        message += (
            ": Are you trying to mount a directory onto a file (or vice-versa)? "
            "Check if the specified host path exists and is the expected type"
        )
    return StartError("mounts", error.errno or 0, message)


def _words(error: OSError) -> str:
    return f"{error.filename}: {(error.strerror or '').lower()}"
