"""Sources of mounts as detached trees: binds, several directories shown as one, and file systems of their own.

A tree that :func:`detached` returns belongs to no mount namespace: nobody sees it but who holds the descriptor, and it goes
with the last of them. Sources: open_tree(2), fsmount(2), openat2(2).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EINVAL
from typing import Final

from boxrun.container import idmaps, options, paths, rootfs
from boxrun.container.options import PROPAGATION, Options
from boxrun.container.spec import Mount, Root
from boxrun.errors import SetupError
from boxrun.linux import mounts
from boxrun.linux.files import openat2

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def detached(mount: Mount) -> int:
    """Return the detached tree of a bind, an overlay or a file system.

    Raises:
        SetupError: its subpath isn't there, or this kernel can't give a part of an overlay.
        OSError: the kernel refused.
    """
    parsed = options.parse(mount.options, readonly=mount.readonly)
    if mount.kind == "overlay":
        return overlay(mount)
    if mount.kind == "filesystem":
        return filesystem(mount, parsed)
    return bind(mount, parsed)


def early(specified: Sequence[Mount]) -> dict[str, int]:
    """Make the file systems that must come of the host's network namespace, by their targets.

    Raises:
        SetupError: one can't be made; none stays open.
    """
    made: dict[str, int] = {}
    try:
        for mount in specified:
            if mount.kind == "filesystem":
                made[mount.target] = filesystem(mount, options.parse(mount.options, readonly=mount.readonly))
    except OSError as error:
        _close(made)
        reason = f"{error.filename}: {(error.strerror or '').lower()}"
        message = f'error mounting "{mount.source}" ({mount.filesystem}) to "{mount.target}": {reason}'
        raise SetupError("mounts", error.errno or 0, message) from error
    except BaseException:
        _close(made)
        raise
    return made


def _close(made: dict[str, int]) -> None:
    while made:
        os.close(made.popitem()[1])


def bind(mount: Mount, parsed: Options) -> int:
    """Return a detached clone of a bind's source with the mount's own attributes and propagation."""
    tree_fd = _clone(mount)
    if not mount.propagation.endswith("private"):
        _check_propagation(mount)
    try:
        if mount.uid_mappings:
            idmaps.apply(tree_fd, mount.uid_mappings, mount.gid_mappings)
        kind, recursive = PROPAGATION[mount.propagation]
        mounts.mount_setattr(tree_fd, propagation=kind, recursive=recursive)
        readonly = parsed.set_flags & mounts.MOUNT_ATTR_RDONLY
        if parsed.set_flags or parsed.clear_flags:
            mounts.mount_setattr(tree_fd, set_flags=parsed.set_flags, clear_flags=parsed.clear_flags)
        if readonly and mount.recursive and mount.recursive_readonly != "no":
            try:
                mounts.mount_setattr(tree_fd, set_flags=mounts.MOUNT_ATTR_RDONLY, recursive=True)
            except OSError as error:
                if mount.recursive_readonly == "required" or error.errno not in (EINVAL, 1):
                    raise
    except BaseException:
        os.close(tree_fd)
        raise
    return tree_fd


def overlay(mount: Mount) -> int:
    """Return a detached view of the directories ``lower``, or of what ``subpath`` names in it; read-only without ``upper``."""
    if len(mount.lower) > 1 or mount.upper:
        root = Root(
            lower=mount.lower,
            upper=mount.upper,
            work=mount.work,
            uid_mappings=mount.uid_mappings,
            gid_mappings=mount.gid_mappings,
            volatile=bool(mount.upper),
        )
        tree_fd = rootfs.detached_overlay(root)
    else:
        tree_fd = mounts.open_tree(mount.lower[0])
    try:
        if mount.uid_mappings and len(mount.lower) == 1 and not mount.upper:
            idmaps.apply(tree_fd, mount.uid_mappings, mount.gid_mappings)
        readonly = 0 if mount.upper else mounts.MOUNT_ATTR_RDONLY
        mounts.mount_setattr(tree_fd, set_flags=readonly, propagation=mounts.MS_PRIVATE)
    except BaseException:
        os.close(tree_fd)
        raise
    return _part(tree_fd, mount) if mount.subpath else tree_fd


def filesystem(mount: Mount, parsed: Options) -> int:
    """Return a detached mount of a file system of the type ``filesystem``, or of what ``subpath`` names in it."""
    tree_fd = mounts.new_mount(mount.filesystem, parsed.data, parsed.set_flags, source=mount.source)
    return _part(tree_fd, mount) if mount.subpath else tree_fd


def _part(tree_fd: int, mount: Mount) -> int:
    """Return the mount's subpath of a detached tree as a tree of its own, and let go of the former."""
    try:
        part_fd = _inside(tree_fd, mount)
        try:
            return mounts.open_tree("", dir_fd=part_fd)
        except OSError as error:
            if error.errno != EINVAL:
                raise
            # Before Linux 6.15 only what is mounted somewhere could be cloned.
            message = f'mount of "{mount.subpath}" in "{mount.source}" to "{mount.target}" needs Linux 6.15 or newer'
            raise SetupError("mounts", EINVAL, message) from error
        finally:
            os.close(part_fd)
    finally:
        os.close(tree_fd)


def _check_propagation(mount: Mount) -> None:
    """Refuse a propagation type that the source's own mount can't give. Source: proc_pid_mountinfo(5)."""
    fd = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
    try:
        # In bytes: no codec can be imported here any more.
        with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
            number = next(line.split()[1] for line in file if line.startswith(b"mnt_id:"))
    finally:
        os.close(fd)
    with open("/proc/self/mountinfo", "rb") as file:
        fields = next((line.split() for line in file if line.startswith(number + b" ")), [])
    given = {word.partition(b":")[0] for word in fields[6 : fields.index(b"-")]} if fields else set()
    if b"shared" in given or (b"master" in given and mount.propagation.endswith("slave")):
        return
    kind = "shared" if mount.propagation.endswith("shared") else "shared or slave"
    place = os.fsdecode(fields[4]) if fields else "?"
    raise SetupError("mounts", EINVAL, f"path {mount.source} is mounted on {place} but it is not a {kind} mount")


def _clone(mount: Mount) -> int:
    if not mount.subpath:
        return mounts.open_tree(mount.source, recursive=mount.recursive)
    source_fd = os.open(mount.source, _DIRECTORY)
    try:
        part_fd = _inside(source_fd, mount)
    finally:
        os.close(source_fd)
    try:
        return mounts.open_tree("", dir_fd=part_fd, recursive=mount.recursive)
    finally:
        os.close(part_fd)


def _inside(root_fd: int, mount: Mount) -> int:
    """Open a mount's subpath below its source, which no link in there leads out of."""
    try:
        return openat2(root_fd, mount.subpath, os.O_PATH, resolve=paths.RESOLVE)
    except OSError as error:
        message = f"cannot access path {mount.source}/{mount.subpath}: {(error.strerror or '').lower()}"
        raise SetupError("mounts", error.errno or 0, message) from error
