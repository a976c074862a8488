"""Files: mounts as detached trees, and the roots of containers."""

from __future__ import annotations

from msgspec import Struct

from boxrun.container.spec import IDMapping, Mount, Root


class TreeRequest(Struct, frozen=True, kw_only=True):
    """What to show as a detached tree: a bind or an overlay, with owners as they are on the disk."""

    mount: Mount


class RootRequest(Struct, frozen=True, kw_only=True):
    """Open a container's root. ``root`` and ``mounts`` are what it is assembled from where the container doesn't run.

    ``below``: the root's own tree, with nothing of what is mounted on it.
    """

    id: str
    root: Root | None = None
    mounts: tuple[Mount, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    below: bool = False


class RootReply(Struct, frozen=True, kw_only=True):
    """A descriptor of the root comes along; beside it, unless the container is ``running``, the lease.

    A lease is a socket: the root stays assembled until every copy of it is closed, and the container can't be started before.
    """

    running: bool
