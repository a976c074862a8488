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
from boxrun.shim.execs import ExecCaretaker
from boxrun.shim.foreign import ForeignCaretaker
from boxrun.shim.holder import hold
from boxrun.shim.probers import prepare_prober
from boxrun.shim.protocol import Hold, Probe, Start, decode_parked, decode_request
from boxrun.shim.title import Title
from boxrun.shim.wire import read_memfd, receive


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
        if len(fds) == 2:
            begun = _begin(keeper, cgroups, socket(fileno=fds[1]), title)
            if begun is None:
                os._exit(0)
            caretaker = begun
            _protect_from_oom(os.getppid())
        else:
            parked = decode_parked(read_memfd(fds[1]))
            os.close(fds[1])
            caretaker = _caretaker(parked.start, keeper, cgroups)
            caretaker.resume(parked, fds[2:])
        caretaker.loop()
        while caretaker.spare is not None:
            begun = _begin(keeper, cgroups, caretaker.spare, title)
            if begun is None:
                break
            caretaker = begun
            caretaker.loop()
        status = 0
    except BaseException:  # noqa: BLE001 - nothing of the keeper's may run in its child
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _caretaker(start: Start, keeper: socket, cgroups: Cgroups) -> Caretaker:
    if start.exec_of:
        return ExecCaretaker(keeper, cgroups)
    return Caretaker(keeper, cgroups) if start.runtime is None else ForeignCaretaker(keeper, cgroups)


def _begin(keeper_end: socket, cgroups: Cgroups, control: socket, title: Title) -> Caretaker | None:
    """Do what is ordered on ``control``; what is to be looked after from then on, None where nothing is."""
    order = _order(control)
    if order is None:
        return None
    start, fds = order
    if isinstance(start, Hold):
        title.set(os.getppid(), b"boxrun-holder", start.id)
        if len(fds) == 1 + (start.below or bool(start.root.upper)):
            hold(control, start, fds)
        return None
    if isinstance(start, Probe):
        title.set(os.getppid(), b"boxrun-prober", start.id)
        prepare_prober(keeper_end, control, start, fds, cgroups)
        return None
    if len(fds) != 2 + start.joins + start.gated + len(start.clients):
        return None
    caretaker = _caretaker(start, keeper_end, cgroups)
    caretaker.begin(control, start, fds)
    title.set(os.getppid(), b"boxrun-exec" if start.exec_of else b"boxrun-shim", start.id)
    return caretaker


def _order(sock: socket) -> tuple[Start | Hold | Probe, list[int]] | None:
    """The first message; None where its sender went away."""
    try:
        message = receive(sock)
        request = decode_request(message[0]) if message is not None else None
    except (OSError, ValueError, MsgspecError):
        return None
    return (request, message[1]) if message is not None and isinstance(request, (Start, Hold, Probe)) else None


def _protect_from_oom(keeper: int) -> None:
    """Let the kernel kill the container rather than its shim, where that is permitted (CAP_SYS_RESOURCE)."""
    for process in (keeper, os.getpid()):
        with suppress(OSError), open(f"/proc/{process}/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"-999")
