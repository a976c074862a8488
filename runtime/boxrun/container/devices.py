"""The container's /dev: its nodes and links, made on a tmpfs that nobody else sees yet.

Numbers of the standard devices: Documentation/admin-guide/devices.txt.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from boxrun.container import paths
from boxrun.container.spec import Device
from boxrun.errors import SetupError

_CHARACTER: Final = stat.S_IFCHR | 0o666
_STANDARD: Final = (
    ("null", os.makedev(1, 3)),
    ("zero", os.makedev(1, 5)),
    ("full", os.makedev(1, 7)),
    ("random", os.makedev(1, 8)),
    ("urandom", os.makedev(1, 9)),
    ("tty", os.makedev(5, 0)),
)
_STANDARD_NAMES: Final = frozenset(name for name, _ in _STANDARD)
_LINKS: Final = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
    ("/proc/kcore", "core"),
)

NULL_DEVICE: Final = os.makedev(1, 3)


class Node(Struct, frozen=True):
    """A device node to make: where, of which type with which permissions, which device, whose."""

    target: str
    mode: int
    device: int
    uid: int
    gid: int


def inspect(devices: Sequence[Device]) -> list[Node]:
    """Return what to make for ``devices``, as their nodes on the host have it.

    Raises:
        SetupError: a source is missing or no device.
    """
    nodes = []
    for device in devices:
        if device.target[:5] == "/dev/" and device.target[5:] in _STANDARD_NAMES and device.source == device.target:
            continue
        if device.kind:
            nodes.append(_specified(device))
            continue
        try:
            found = os.stat(device.source)
        except OSError as error:
            reason = (error.strerror or "").lower()
            message = f'error gathering device information while adding custom device "{device.source}": {reason}'
            raise SetupError("devices", error.errno or 0, message) from error
        if not (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
            raise SetupError(
                "devices",
                0,
                f'error gathering device information while adding custom device "{device.source}": not a device node',
            )
        nodes.append(Node(device.target, found.st_mode, found.st_rdev, found.st_uid, found.st_gid))
    return nodes


def _specified(device: Device) -> Node:
    """What to make where the device's numbers are given; what isn't given is as on the host, or root's with mode 666."""
    try:
        found = os.stat(device.source)
        mode, uid, gid = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    except OSError:
        mode, uid, gid = 0o666, 0, 0
    mode = mode if device.mode < 0 else stat.S_IMODE(device.mode)
    kind = stat.S_IFBLK if device.kind == "b" else stat.S_IFCHR
    owner = (uid if device.uid < 0 else device.uid, gid if device.gid < 0 else device.gid)
    return Node(device.target, kind | mode, os.makedev(device.major, device.minor), *owner)


def populate(dev_fd: int, *, console: bool, owner: tuple[int, int] | None = None) -> None:
    """Fill the empty directory ``dev_fd`` with the standard nodes and links.

    Args:
        dev_fd: the directory, which only this process can reach.
        console: make an empty file for the console to be mounted on.
        owner: uid and gid of everything, where not root.
    """
    for name, device in _STANDARD:
        os.mknod(name, _CHARACTER, device, dir_fd=dev_fd)
        if owner is not None:
            os.chown(name, *owner, dir_fd=dev_fd)
    for target, name in _LINKS:
        os.symlink(target, name, dir_fd=dev_fd)
    if console:
        os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=dev_fd))


def make_node(parent_fd: int, name: str, node: Node, owner: tuple[int, int] | None = None) -> None:
    """Make ``node`` as ``name`` in ``parent_fd``, in place of what is there.

    Args:
        parent_fd: the directory.
        name: the node's name in it.
        node: what to make.
        owner: overrides the node's uid and gid.
    """
    try:
        os.mknod(name, node.mode, node.device, dir_fd=parent_fd)
    except FileExistsError:
        os.unlink(name, dir_fd=parent_fd)
        os.mknod(name, node.mode, node.device, dir_fd=parent_fd)
    uid, gid = owner if owner is not None else (node.uid, node.gid)
    if uid or gid:
        os.chown(name, uid, gid, dir_fd=parent_fd, follow_symlinks=False)
    # A device that only its group may open keeps that, whatever the umask is.
    os.chmod(name, stat.S_IMODE(node.mode), dir_fd=parent_fd)


def make_below(directory_fd: int, path: str, node: Node, owner: tuple[int, int] | None = None) -> None:
    """Make ``node`` at the relative ``path`` below ``directory_fd``, with the directories that lead there."""
    directory, name = os.path.split(path)
    parent_fd = paths.make_directory(directory_fd, f"/{directory}" if directory else "/")
    try:
        make_node(parent_fd, name, node, owner)
    finally:
        os.close(parent_fd)


def is_null(fd: int) -> bool:
    """Return whether ``fd`` is the null device itself, not something that only bears its name."""
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == NULL_DEVICE
