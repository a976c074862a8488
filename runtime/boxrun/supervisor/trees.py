"""Detached trees for the daemon, which looks into an image or a volume through them and mounts nothing itself."""

from __future__ import annotations

import os
from typing import Final

from boxrun.bus import BusError, Code, Context
from boxrun.container import trees
from boxrun.errors import SetupError
from boxrun.supervisor.contract import Empty, TreeRequest
from boxrun.supervisor.threads import opened

_KINDS: Final = frozenset({"bind", "overlay"})


async def send_tree(request: TreeRequest, context: Context) -> Empty:
    """Answer with the descriptor of the tree that was asked for: directories or an overlay, with their owners as they are.

    What needs a process of its own isn't done in this one, which has threads: id mappings (a fork, and file system ids that are
    a thread's own) and file systems, whose server may never answer. Containers have those from their shims.

    Raises:
        BusError: it can't be had, with the kernel's reason; INVALID_ARGUMENT: it is never shown.
    """
    mount = request.mount
    what = f"show {mount.source or ':'.join(mount.lower)}"
    if mount.kind not in _KINDS:
        raise BusError(Code.INVALID_ARGUMENT, f"{what}: a mount of the kind {mount.kind} is made for a container only")
    if mount.uid_mappings or mount.gid_mappings:
        raise BusError(Code.INVALID_ARGUMENT, f"{what}: id mappings are made for a container only")
    try:
        tree_fd = await opened(trees.detached, mount)
    except SetupError as error:
        raise BusError(Code.FAILED_PRECONDITION, f"{what}: {error}") from error
    except OSError as error:
        raise BusError(Code.INTERNAL, f"{what}: {error.filename}: {os.strerror(error.errno or 0)}") from error
    context.send_fds([tree_fd])
    return Empty()
