"""A shim's working process, from its fork to its end."""

from __future__ import annotations

import gc
import os
import signal
import sys
from _socket import socket
from contextlib import suppress
from struct import unpack
from typing import NoReturn

from msgspec import MsgspecError

from boxrun.container.cgroups import Cgroups
from boxrun.linux.process import PR_SET_PDEATHSIG, prctl
from boxrun.shim.caretaker import Caretaker
from boxrun.shim.protocol import (
    Start,
    decode_parked,
    decode_request,
    read_memfd,
    receive,
)
from boxrun.shim.title import Title


def work(keeper: socket, descriptors: bytes, cgroups: Cgroups, title: Title) -> NoReturn:
    """Be a worker; called right after the fork.

    Args:
        keeper: the connection to the keeper.
        descriptors: four bytes each. The first is closed already; then comes either the connection on which the order will
            come, or a memfd with the state of the worker before, and what that says.
        cgroups: the machine's hierarchies.
        title: where the command line is.
    """
    status = 1
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        gc.enable()
        fds = unpack(f"{len(descriptors) // 4}i", descriptors)
        caretaker = Caretaker(keeper, cgroups)
        if len(fds) == 2:
            if not _begin(caretaker, socket(fileno=fds[1]), title):
                os._exit(0)
        else:
            parked = decode_parked(read_memfd(fds[1]))
            os.close(fds[1])
            caretaker.resume(parked, fds[2:])
        caretaker.loop()
        status = 0
    except BaseException:  # noqa: BLE001 - nothing of the keeper's may run in its child
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _begin(caretaker: Caretaker, control: socket, title: Title) -> bool:
    """Have the container made that is ordered on ``control``; False where no order came."""
    order = _order(control)
    if order is None:
        return False
    start, fds = order
    if len(fds) != 2 + start.joins + len(start.clients):
        return False
    caretaker.begin(control, start, fds)
    keeper = os.getppid()
    title.set(keeper, b"boxrun-shim", start.id)
    _protect_from_oom(keeper)
    return True


def _order(sock: socket) -> tuple[Start, list[int]] | None:
    """The start message; None where its sender went away."""
    try:
        message = receive(sock)
        request = decode_request(message[0]) if message is not None else None
    except (OSError, ValueError, MsgspecError):
        return None
    return (request, message[1]) if message is not None and isinstance(request, Start) else None


def _protect_from_oom(keeper: int) -> None:
    """Let the kernel kill the container rather than its shim, where that is permitted (CAP_SYS_RESOURCE)."""
    for process in (keeper, os.getpid()):
        with suppress(OSError), open(f"/proc/{process}/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"-999")
