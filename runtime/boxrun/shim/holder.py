"""Holding the root of a container that doesn't run, or looking below what is mounted on the root of one that does.

A worker that was ordered to hold makes no container. It assembles the container's root in a mount namespace of its own, as a
start would but without /proc, /dev and the like, sends a descriptor of it, and then is there for that: the mounts last as
long as the namespace does. Its life is the lease's, a socket whose other end travels with the descriptor: whoever has that
closes it or dies, and this process ends. Nothing of the container is ever executed.
"""

from __future__ import annotations

import os
from _socket import socket

from boxrun.container import mounts, namespaces, rootfs, trees
from boxrun.errors import StartFault
from boxrun.linux import mounts as kernel_mounts
from boxrun.linux import namespaces as kernel_namespaces
from boxrun.shim.complaints import complain
from boxrun.shim.protocol import Failed, Held, Hold
from boxrun.shim.wire import encode, send


def hold(control: socket, order: Hold, fds: list[int]) -> None:
    """Carry out ``order`` and return when the lease is over.

    Args:
        control: the connection to the supervisor, which is told of the outcome.
        order: what to hold.
        fds: the lease's end, and with ``order.below`` a descriptor of the container's process 1, else the upper directory's
            lock, which ends with this process.
    """
    lease = socket(fileno=fds[0])
    try:
        root_fd = _below(fds[1]) if order.below else _assembled(order)
    except StartFault as fault:
        _tell(control, order, Failed(step=fault.step, errno=fault.errno, message=fault.message, exit_code=128))
        return
    except OSError as error:
        message = f"{error.filename}: {(error.strerror or '').lower()}"
        _tell(control, order, Failed(step="rootfs", errno=error.errno or 0, message=message, exit_code=128))
        return
    if not _tell(control, order, Held(), root_fd) or order.below:
        return
    os.close(root_fd)
    while lease.recv(64):
        continue


def _tell(control: socket, order: Hold, outcome: Held | Failed, root_fd: int = -1) -> bool:
    try:
        send(control, encode(outcome), () if root_fd < 0 else (root_fd,))
    except OSError as error:
        complain(f"boxrun-holder {order.id}", f"tell of its root: {error}")
        return False
    return True


def _assembled(order: Hold) -> int:
    """The container's root with the mounts that don't depend on its running, in a new mount namespace."""
    os.umask(0)
    kernel_namespaces.unshare(kernel_namespaces.CLONE_NEWNS)
    owner = None
    if order.uid_mappings:
        owner = namespaces.outside(order.uid_mappings, 0), namespaces.outside(order.gid_mappings, 0)
    root_fd = rootfs.detached_overlay(order.root)
    planned = mounts.plan(order.mounts, owner, borrowed=trees.early(order.mounts))
    try:
        rootfs.attach(root_fd)
        mounts.attach(root_fd, planned, None)
    finally:
        mounts.close(planned)
    rootfs.finish(root_fd, order.root)
    return root_fd


def _below(pidfd: int) -> int:
    """A clone of the root mount alone of a running container: its own tree, with nothing mounted on it."""
    kernel_namespaces.setns(pidfd, kernel_namespaces.CLONE_NEWNS)
    return kernel_mounts.open_tree("/")
