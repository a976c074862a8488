"""The interpreter that enters containers, out of reach for writing.

While a process of ours is inside a container and not yet its program, the container's root can open it through /proc/<pid>/exe
(CVE-2019-5736). So the zygote is executed from a read-only, detached clone of the interpreter's mount: nobody can open that for
writing, and it is mounted nowhere.
"""

from __future__ import annotations

import fcntl
import os
import sys
import sysconfig

from boxrun.linux import mounts

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed_interpreter() -> int:
    """A descriptor from which the running interpreter's program can be executed, but never written.

    Raises:
        OSError: it can neither be cloned (open_tree(2), mount_setattr(2), Linux 5.12) nor copied.
    """
    path = os.path.realpath(sys.executable)
    try:
        return _clone(path)
    except OSError:
        # A file system that refuses to be cloned, or a kernel that can't: a sealed copy in memory is as safe, and larger.
        return _copy(path)


def _clone(path: str) -> int:
    tree = mounts.open_tree(path)
    try:
        mounts.mount_setattr(tree, set_flags=mounts.MOUNT_ATTR_RDONLY)
    except OSError:
        os.close(tree)
        raise
    return tree


def _copy(path: str) -> int:
    fd = os.memfd_create("boxrun-interpreter", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(path, "rb") as source:
        while chunk := source.read(1 << 20):
            os.write(fd, chunk)
    os.fchmod(fd, 0o500)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def library_path() -> str:
    """Where the interpreter's shared library is, empty if it has none: from a clone, the loader's ``$ORIGIN`` leads nowhere."""
    return str(sysconfig.get_config_var("LIBDIR") or "") if sysconfig.get_config_var("Py_ENABLE_SHARED") else ""
