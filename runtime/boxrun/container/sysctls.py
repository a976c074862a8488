"""Kernel parameters that belong to a namespace of the container; all others are the host's and are refused.

They are written through a descriptor of the container's own procfs, never by path, so that nothing an image puts at /proc can
redirect a write. Source of the list: runc libcontainer/configs/validate, namespaces(7).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Final

from boxrun.errors import SetupError, StartError
from boxrun.linux.files import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

_IPC: Final = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
_RESOLVE: Final = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


def plan(sysctls: Mapping[str, str], own: Iterable[str]) -> list[tuple[str, str, bytes]]:
    """Return each parameter's name, its path below procfs and the bytes to write.

    Args:
        sysctls: names, with dots or slashes, and values.
        own: the kinds of namespaces that aren't the host's.

    Raises:
        SetupError: a parameter is the host's.
    """
    kinds = frozenset(own)
    planned = []
    for name, value in sysctls.items():
        path = _path(name)
        dotted = path.replace("/", ".")
        kind = _namespace(dotted)
        if kind is None or ".." in path.split("/"):
            raise SetupError("sysctls", 0, f'sysctl "{name}" is not in a separate kernel namespace')
        if kind not in kinds:
            raise SetupError("sysctls", 0, f'sysctl "{name}" not allowed in host {kind} namespace')
        planned.append((name, f"sys/{path}", value.encode()))
    return planned


def apply(proc_fd: int, planned: Iterable[tuple[str, str, bytes]]) -> None:
    """Write the parameters below the procfs ``proc_fd``.

    Raises:
        StartError: this kernel has no such parameter, or refuses the value.
    """
    for name, path, value in planned:
        try:
            fd = openat2(proc_fd, path, os.O_WRONLY, resolve=_RESOLVE)
            try:
                os.write(fd, value)
            finally:
                os.close(fd)
        except OSError as error:
            message = f'write sysctl "{name}": open /proc/{path}: {(error.strerror or "").lower()}'
            raise StartError("sysctls", error.errno or 0, message) from error


def _path(name: str) -> str:
    # As sysctl(8) has it: the first separator decides, and then the other character is part of a name (eth0.100).
    dot, slash = name.find("."), name.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        return name
    return name.translate({ord("."): "/", ord("/"): "."})


def _namespace(name: str) -> str | None:
    if name in _IPC or name.startswith("fs.mqueue."):
        return "ipc"
    if name.startswith("net."):
        return "net"
    if name == "kernel.domainname":
        return "uts"
    return None
