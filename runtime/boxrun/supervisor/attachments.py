"""Attaching clients that are first shown what their container has written so far."""

from __future__ import annotations

from boxrun.bus import BusError, Code, Context
from boxrun.errors import ShimError
from boxrun.shim.wire import close_all
from boxrun.supervisor.container import Container
from boxrun.supervisor.contract import AttachReply, AttachRequest
from boxrun.supervisor.starts import as_client


async def attach_gated(container: Container, request: AttachRequest, context: Context) -> AttachReply:
    """Hand over a client's socket that gets nothing before the caller opens its gate.

    Raises:
        BusError: INVALID_ARGUMENT without its two descriptors, FAILED_PRECONDITION where the container has ended.
    """
    if len(context.fds) != 2:
        raise BusError(Code.INVALID_ARGUMENT, f"a gated attachment needs two descriptors, {len(context.fds)} came")
    fds = context.take_fds()
    try:
        if container.link is None:
            raise ShimError("its shim is gone")
        position = await container.link.attach_gated(as_client(request.attachment), fds[0], fds[1])
    except ShimError as error:
        raise BusError(Code.FAILED_PRECONDITION, f"attach to container {request.id}: {error}") from error
    finally:
        close_all(fds)
    return AttachReply(log=position)
