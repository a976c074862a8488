"""Doing a start's harmless parts beforehand, so that the fork server's children find everything warm.

CPython rewrites a function's code when it has run a few times, fills caches on the way and resolves the C library's symbols
on first use. What happened before the fork is shared; what happens after it costs each container a copy of the page. All
trees made here are detached and closed at once: the machine is only looked at.
"""

from __future__ import annotations

import os
from typing import Final

from boxrun.container import capabilities, cgroupfs, defaults, devices, masks, mounts, namespaces, options, paths, users
from boxrun.container.exec import environment
from boxrun.container.spec import Cgroup, Namespace, Process, Root, Spec
from boxrun.linux import mounts as kernel_mounts

# Enough for CPython to have specialised what it is going to.
_ROUNDS: Final = 12
_KINDS: Final = ("mnt", "pid", "net", "ipc", "uts", "cgroup")


def rehearse() -> None:
    """Go through a default container's start as far as nothing of the machine changes; needs what starting containers needs."""
    capabilities.prewarm(defaults.DEFAULT_CAPABILITIES)
    capabilities.prewarm(defaults.ALL_CAPABILITIES)
    spec = Spec(
        id="0" * 64,
        state_dir="/",
        process=Process(args=("true",), env=("PATH=/bin",)),
        root=Root(lower=("/",), upper="/", work="/"),
        cgroup=Cgroup(parent="/", name="none"),
        namespaces=tuple(Namespace(kind=kind) for kind in _KINDS),
        mounts=defaults.default_mounts(),
    )
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(_ROUNDS):
            _once(spec, root_fd)
    finally:
        os.close(root_fd)


def _once(spec: Spec, root_fd: int) -> None:
    namespaces.plan(spec, {})
    environment(spec.process.env)
    capabilities.mask_of(defaults.DEFAULT_CAPABILITIES)
    member = cgroupfs.membership()
    cgroupfs.aliases(member.hierarchies)
    for _, tree_fd in cgroupfs.collect(member):
        kernel_mounts.mount_setattr(tree_fd, set_flags=kernel_mounts.MOUNT_ATTR_RDONLY, propagation=kernel_mounts.MS_PRIVATE)
        os.close(tree_fd)
    planned = mounts.plan(spec.mounts)
    for item in planned:
        options.parse(item.mount.options, readonly=item.mount.readonly)
        if item.target == "/dev":
            devices.populate(item.tree_fd, console=True)
            os.close(paths.make_directory(item.tree_fd, "/made/below"))
        if item.mount.kind in ("proc", "sysfs", "mqueue"):
            os.close(kernel_mounts.new_mount(item.mount.kind, item.parsed.data, item.parsed.set_flags))
    mounts.close(planned)
    users.resolve(root_fd, "")
    for path in (*masks.expand(root_fd, defaults.MASKED_PATHS), *defaults.READONLY_PATHS):
        if paths.exists(root_fd, path):
            os.close(paths.open_path(root_fd, path))
    os.close(masks.null_cover())
