"""Parking: what a worker that ends for now leaves to its keeper and to the next worker."""

from __future__ import annotations

import os
from _socket import SCM_RIGHTS, SOL_SOCKET, socket
from collections.abc import Sequence
from select import EPOLL_CLOEXEC, EPOLLIN, epoll
from struct import pack
from typing import NoReturn

from msgspec import structs

from boxrun.shim.protocol import Parked, Role
from boxrun.shim.wire import encode, memfd

PARKED = b"p"
"""To the keeper: this worker ends for now. Descriptors: an epoll to wait on, a memfd with ``Parked``, then its roles'."""

PROBE = b"h"
"""To the keeper: be a prober, with the descriptors that come along. The worker ends."""

REAP = b"r"
"""To the keeper: process 1 has ended, its number in decimal behind this; answered with its wait status."""


def hand_over(keeper: socket, parked: Parked, roles: Sequence[tuple[Role, int]]) -> NoReturn:
    """End this worker: the keeper waits on its descriptors, the next worker goes on with them and with the state.

    Args:
        keeper: the connection to the keeper.
        parked: the state; its ``roles`` are filled in here.
        roles: the descriptors and what they are.
    """
    bell = epoll(-1, EPOLL_CLOEXEC)
    for role, fd in roles:
        if role not in ("stdin", "slave", "log"):
            bell.register(fd, parked.oom_events if role == "oom" else EPOLLIN)
    state = memfd("boxrun-parked", encode(structs.replace(parked, roles=tuple(role for role, _ in roles))))
    fds = (bell.fileno(), state, *(fd for _, fd in roles))
    keeper.sendmsg([PARKED], [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))])
    os._exit(0)


def pass_on(keeper: socket, fds: Sequence[int]) -> None:
    """Have the keeper be a prober; this worker has nothing left to do."""
    keeper.sendmsg([PROBE], [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))])


def reap(keeper: socket, pid: int) -> int:
    """The wait status of process 1, which is the keeper's child."""
    keeper.send(REAP + b"%d" % pid)
    return int(keeper.recv(64))
