"""The fork server: a small, single-threaded process with everything imported that a shim needs. It only forks.

The supervisor executes it from a read-only, detached clone of the interpreter (see ``boxrun.supervisor.zygotes``) with a
seqpacket socket. A datagram with one descriptor asks for one shim, whose connection to the supervisor that descriptor is.
Nothing is answered: the shim speaks for itself, and a request that dies with the zygote shows as the end of that
connection. The zygote exits at its socket's end.
"""

from __future__ import annotations

import gc
import os
import sys

# The signal module's own functions work on enumerations, which costs a forked process 200 KB of memory.
from _signal import SIG_DFL, SIG_IGN, SIGCHLD, SIGHUP, SIGINT, SIGTERM  # type: ignore[import-not-found]
from _signal import signal as set_handler
from _socket import socket
from contextlib import suppress
from typing import NoReturn

from msgspec import MsgspecError

from boxrun.container.cgroups import Cgroups, detect
from boxrun.container.cgroups.errors import CgroupError
from boxrun.container.prepare import prewarm
from boxrun.linux.files import close_from
from boxrun.linux.process import PR_SET_DUMPABLE, prctl
from boxrun.shim.complaints import complain
from boxrun.shim.keeper import keep
from boxrun.shim.protocol import decode_settle
from boxrun.shim.title import Title
from boxrun.shim.wire import close_all, receive

END = b"end"
"""Instead of a settlement: end when the last shim has."""

_NAME = b"boxrun-zygote"
_SHIM_NAME = b"boxrun-shim"


def main(sock_fd: int) -> NoReturn:
    """Prepare everything that the shims share, then fork them until the supervisor's end of the socket ``sock_fd`` closes."""
    sock = socket(fileno=sock_fd)
    os.set_inheritable(sock_fd, False)
    os.closerange(3, sock_fd)
    close_from(sock_fd + 1)
    title = Title()
    title.set(os.getpid(), b"boxrun-zygote")
    name = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(name, _NAME)
    cgroups = detect()
    prewarm()
    prctl(PR_SET_DUMPABLE, 0)
    # Inherited by the shims but for SIGCHLD: nothing ends a zygote or a shim in passing.
    for signum in (SIGCHLD, SIGHUP, SIGINT, SIGTERM):
        set_handler(signum, SIG_IGN)
    seal_imports()
    gc.collect()
    gc.freeze()
    gc.disable()
    sock.send(b"ready")
    while True:
        try:
            message = receive(sock)
        except (OSError, ValueError):
            message = None
        if message is None:
            os._exit(0)
        data, fds = message
        if len(fds) != 1:
            close_all(fds)
            if data == END:
                _outlive_shims()
            _settle(cgroups, data)
            continue
        # A process can only be named by itself, and a shim's memory is too dear for it to do so: it inherits its name.
        os.write(name, _SHIM_NAME)
        _fork(sock, name, fds[0], cgroups, title)
        os.write(name, _NAME)
        os.close(fds[0])


def seal_imports() -> None:
    """Make any further import fail: after pivot_root it would run the container's code as root of the host."""
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.meta_path.clear()


def _settle(cgroups: Cgroups, data: bytes) -> None:
    """Do once what every container of a cgroup parent would otherwise do for itself. Failing costs no more than time."""
    try:
        settle = decode_settle(data)
        cgroups.settle(settle.parent)
        cgroups.preload(settle.devices)
    except (CgroupError, OSError, MsgspecError) as error:
        complain("boxrun-zygote", f"settle: {error}")


def _outlive_shims() -> NoReturn:
    """Wait for every child, so that none becomes a stranger's to reap."""
    with suppress(ChildProcessError):
        # With SIGCHLD ignored this returns when none is left. Source: wait(2), notes.
        os.waitpid(-1, 0)
    os._exit(0)


def _fork(sock: socket, name: int, control: int, cgroups: Cgroups, title: Title) -> None:
    try:
        pid = os.fork()
    except OSError as error:
        # The supervisor sees the connection end, and the reason is in the log.
        complain("boxrun-zygote", f"fork: {error}")
        return
    if pid:
        return
    try:
        sock.close()
        os.close(name)
        set_handler(SIGCHLD, SIG_DFL)
        keep(control, cgroups, title)
    except BaseException:  # noqa: BLE001 - nothing of the zygote's may run in its child
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)
