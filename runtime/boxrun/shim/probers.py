"""Preparing a prober, in the worker that got the order; the keeper then is the prober."""

from __future__ import annotations

import os
from _socket import socket
from collections.abc import Sequence
from time import time_ns

from msgspec import MsgspecError

from boxrun.container.cgroups import Cgroups
from boxrun.errors import BoxrunError
from boxrun.prober.plan import prepare
from boxrun.prober.prober import refuse
from boxrun.prober.protocol import decode_check
from boxrun.shim.parking import pass_on
from boxrun.shim.protocol import Probe
from boxrun.shim.wire import encode, memfd, read_memfd


def prepare_prober(keeper: socket, control: socket, order: Probe, fds: Sequence[int], cgroups: Cgroups) -> None:
    """Have the keeper be the prober that is ordered on ``control``, or tell its supervisor why not.

    Args:
        keeper: the connection to the keeper.
        control: the connection to the supervisor.
        order: the order.
        fds: the memfd with the check, the listening socket, the container's process 1.
        cgroups: the machine's hierarchies.
    """
    try:
        payload, listener, pidfd = fds
        check = decode_check(read_memfd(payload))
        plan, opened = prepare(check, cgroups, pidfd, os.getppid(), max(0, time_ns() - check.started_at))
        pass_on(keeper, (memfd("boxrun-plan", encode(plan)), listener, pidfd, *opened))
    except (OSError, BoxrunError, ValueError, MsgspecError) as error:
        refuse(control, order.id, error)
