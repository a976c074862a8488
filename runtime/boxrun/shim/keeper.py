"""The shim's lasting process: the one that a container's life hangs on, with next to nothing in it.

Whatever Python executes leaves pages of its own in a process's memory, so all work is done in a worker
(``boxrun.shim.worker``): a child that makes the container and then serves it for as long as something happens. When nothing
has happened for a while the worker hands its descriptors and a note of its state over and ends ("parks"). The keeper waits
on them, and on the next event forks another worker from its own almost untouched image. So an idle container costs this
process alone, and what a burst of work took is given back after it.

The keeper is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): when the worker that made the container ends, the container's
process 1 becomes the keeper's child, and later workers ask here for its status. A worker dies with its keeper, and a keeper
ends with its worker unless that has parked; whichever dies, the container's connection to its supervisor ends.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, CMSG_SPACE, MSG_CMSG_CLOEXEC, SOCK_SEQPACKET, socketpair
from select import epoll
from time import sleep

from boxrun.container.cgroups import Cgroups
from boxrun.linux.process import PR_SET_CHILD_SUBREAPER, prctl
from boxrun.prober.prober import probe
from boxrun.shim.parking import PARKED, PROBE, REAP
from boxrun.shim.title import Title
from boxrun.shim.wire import MAX_FDS
from boxrun.shim.worker import work

_ANCILLARY = CMSG_SPACE(4 * MAX_FDS)
_RETRY_SECONDS = 1.0


def keep(control: int, cgroups: Cgroups, title: Title) -> None:
    """Be a shim for whoever is at the other end of ``control``; called right after the fork, returns when it is over.

    This stays one short function of calls into C: see above.
    """
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # As a worker passes them when it parks: four bytes each, of which the first are not for closing.
    descriptors = b"\0\0\0\0" + control.to_bytes(4, "little")
    parked = False
    while True:
        sock, workers = socketpair(AF_UNIX, SOCK_SEQPACKET)
        try:
            worker = os.fork()
        except OSError:
            # Out of memory or of process numbers: what woke us will still be there.
            sock.close()
            workers.close()
            sleep(_RETRY_SECONDS)
            continue
        if not worker:
            sock.close()
            work(workers, descriptors, cgroups, title)
        workers.close()
        # Only these: what the zygote has opened for all shims is still needed, and the first connection's end is to tell of
        # our own.
        for position in range(4 if parked else 8, len(descriptors), 4):
            os.close(int.from_bytes(descriptors[position : position + 4], "little"))
        while True:
            message, ancillary, _, _ = sock.recvmsg(64, _ANCILLARY, MSG_CMSG_CLOEXEC)
            if message[:1] != REAP:
                break
            sock.send(b"%d" % os.waitpid(int(message[1:]), 0)[1])
        sock.close()
        os.waitpid(worker, 0)
        if message == PROBE:
            probe(control, ancillary[0][2])
        parked = message == PARKED
        if not parked:
            return
        descriptors = ancillary[0][2]
        epoll.fromfd(int.from_bytes(descriptors[:4], "little")).poll(-1, 1)
