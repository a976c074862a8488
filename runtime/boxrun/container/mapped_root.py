"""The overlay of a root whose layers, and what is written, show the container's ids while the disk has others.

From Linux 6.15 on an overlay takes detached mounts by their descriptors. Before that its directories must be mounted somewhere:
then a process with a mount namespace of its own mounts the mapped clones over the directories themselves, makes the overlay,
hands it over and ends; the overlay keeps its layers.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, CMSG_SPACE, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket, socketpair
from collections.abc import Callable, Mapping
from errno import EINVAL
from struct import pack, unpack
from typing import Final, NoReturn

from boxrun.container import idmaps, namespaces
from boxrun.container.spec import Root
from boxrun.linux import mounts, process
from boxrun.linux.namespaces import CLONE_NEWNS

_ANCILLARY: Final = CMSG_SPACE(4)
Make = Callable[[Root], int]


def overlay(root: Root, make: Make) -> int:
    """Return a detached mount of the overlay ``root`` with its mappings.

    Args:
        root: the root.
        make: makes the overlay of a root without mappings.

    Raises:
        OSError: a directory is missing, or its file system or the kernel can't be had for it.
    """
    # The overlay wants upper and work on one mount.
    base, upper = os.path.split(root.upper)
    clones: dict[str, int] = {}
    try:
        for path in (*root.lower, *((base,) if root.upper else ())):
            if path not in clones:
                clones[path] = idmaps.mapped_clone(path, root.uid_mappings, root.gid_mappings)
        # What the overlay makes for itself is made as whoever mounts it, who has to be somebody that the mapping knows.
        owner = namespaces.outside(root.uid_mappings, 0), namespaces.outside(root.gid_mappings, 0)
        lower = tuple(_descriptor(clones[path]) for path in root.lower)
        if root.upper:
            own = _descriptor(clones[base])
            work = f"{own}/{os.path.basename(root.work)}"
            direct = Root(lower=lower, upper=f"{own}/{upper}", work=work, volatile=root.volatile)
        else:
            direct = Root(lower=lower, upper="", work="")
        try:
            process.set_file_system_ids(*owner)
            try:
                return make(direct)
            finally:
                process.set_file_system_ids(0, 0)
        except OSError as error:
            if error.errno != EINVAL:
                raise
        plain = Root(lower=root.lower, upper=root.upper, work=root.work, volatile=root.volatile)
        return _in_a_namespace(plain, clones, owner, make)
    finally:
        for fd in clones.values():
            os.close(fd)


def _descriptor(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _in_a_namespace(root: Root, clones: Mapping[str, int], owner: tuple[int, int], make: Make) -> int:
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    try:
        pid, pidfd = process.clone3(CLONE_NEWNS)
        if pid == 0:
            _serve(theirs, root, clones, owner, make)
        os.close(pidfd)
        theirs.close()
        message, ancillary, _, _ = ours.recvmsg(4096, _ANCILLARY, MSG_CMSG_CLOEXEC)
        os.waitpid(pid, 0)
    finally:
        ours.close()
        theirs.close()
    for level, kind, content in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            (fd,) = unpack("i", content[:4])
            return int(fd)
    number, _, what = message.decode(errors="replace").partition(" ")
    code = int(number or EINVAL)
    raise OSError(code, os.strerror(code), what or "mount the mapped root file system")


def _serve(sock: socket, root: Root, clones: Mapping[str, int], owner: tuple[int, int], make: Make) -> NoReturn:
    """Make the overlay in this process's own mount namespace, send it, and end."""
    try:
        mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_SLAVE)
        for path, tree_fd in clones.items():
            target_fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            mounts.move_mount(tree_fd, target_fd)
            os.close(target_fd)
        process.set_file_system_ids(*owner)
        fd = make(root)
        sock.sendmsg([b"made"], [(SOL_SOCKET, SCM_RIGHTS, pack("i", fd))])
    except OSError as error:
        sock.send(f"{error.errno or EINVAL} {error.filename}".encode())
    finally:
        os._exit(0)
