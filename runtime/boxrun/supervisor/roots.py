"""Containers' roots for those who copy files in and out: descriptors, never paths.

The root of a running container is its process 1's. That of another is assembled by a shim that only holds it
(``boxrun.shim.holder``), until the lease that goes with the descriptor ends.

Two overlays can't share an upper directory, so a start waits for holders. Those of this supervisor are known from their order
on, whether anybody still waits for their answer or not. Those of an earlier supervisor are known by a lock on the directory
above the upper directory: it goes to the holder with the order, and ends with whoever has it last.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress

from msgspec import MsgspecError
from msgspec.structs import replace

from boxrun.bus import BusError, Code, Context
from boxrun.container.spec import Root, Spec
from boxrun.errors import ZygoteError
from boxrun.linux.process import pidfd_send_signal
from boxrun.shim.protocol import Failed, Held, Hold, decode_report
from boxrun.shim.wire import REPORT_LIMIT, close_all, encode, receive, send
from boxrun.supervisor.container import Container
from boxrun.supervisor.contract import RootReply, RootRequest
from boxrun.supervisor.zygotes import ZygoteKeeper

ANSWER_SECONDS = 20.0
"""How long a shim may take to assemble a root."""

END_SECONDS = 20.0
"""How long a start waits for the holders of its container's root."""

_ATTEMPTS = 3
_POLL_SECONDS = 0.02
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LOCKABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Roots:
    """Opens roots.

    Args:
        containers: every container by its id.
        zygotes: where shims come from.
    """

    def __init__(self, containers: Mapping[str, Container], zygotes: ZygoteKeeper) -> None:
        self._containers = containers
        self._zygotes = zygotes
        self._holders: dict[str, set[asyncio.Event]] = {}

    async def open(self, request: RootRequest, context: Context) -> RootReply:
        """Answer ``Runtime.root``: the descriptors go with the reply.

        Raises:
            BusError: FAILED_PRECONDITION: the container is being started, or its root can't be had; UNAVAILABLE: no zygote.
        """
        container = self._containers.get(request.id)
        if container is not None and container.phase == "starting":
            raise BusError(Code.FAILED_PRECONDITION, f"container {request.id} is starting")
        if container is not None and container.phase == "running":
            root_fd = await self._below(container) if request.below else _of_process(container)
            context.send_fds((root_fd,))
            return RootReply(running=True)
        if request.root is None:
            raise BusError(Code.FAILED_PRECONDITION, f"container {request.id} is not running")
        over = self._entered(request.id)
        try:
            context.send_fds(await self._assembled(request, request.root, container))
        finally:
            over()
        return RootReply(running=False)

    async def _assembled(self, request: RootRequest, root: Root, container: Container | None) -> tuple[int, int]:
        if container is not None:
            await container.clean()
            self._check_rest(container, request.id)
        # The namespace is the holder's alone: what is mounted in it must never show up anywhere else.
        own = tuple(replace(mount, propagation="rprivate") for mount in request.mounts)
        order = Hold(
            id=request.id,
            root=replace(root, propagation="rprivate"),
            mounts=() if request.below else own,
            uid_mappings=request.uid_mappings,
            gid_mappings=request.gid_mappings,
        )
        with ExitStack() as stack:
            locks = [self._lock(request.id, root.upper, stack)] if root.upper else []
            fds = await self._hold(order, *locks)
        try:
            self._check_rest(container, request.id)
        except BaseException:
            close_all(fds)
            raise
        return fds

    def _check_rest(self, container: Container | None, container_id: str) -> None:
        """See that no start has begun meanwhile: it waits for us, so that it is better to let it go on."""
        if self._containers.get(container_id) not in (container, None):
            raise BusError(Code.FAILED_PRECONDITION, f"container {container_id} is starting")

    def _lock(self, container_id: str, upper: str, stack: ExitStack) -> int:
        """The lock that says whose the upper directory is, as a descriptor that ``stack`` closes."""
        try:
            lock = os.open(os.path.dirname(upper), _LOCKABLE)
        except OSError as error:
            text = f"open the root of container {container_id}: {error.filename}: {os.strerror(error.errno or 0).lower()}"
            raise BusError(Code.FAILED_PRECONDITION, text) from error
        stack.callback(os.close, lock)
        if not _flock(lock, fcntl.LOCK_SH):
            raise BusError(Code.FAILED_PRECONDITION, f"container {container_id} is starting")
        return lock

    async def _below(self, container: Container) -> int:
        pidfd = container.join_descriptor()
        if pidfd < 0:
            raise BusError(Code.FAILED_PRECONDITION, f"container {container.id} is not running")
        # One of our own: the container may end before a shim can be had.
        own = os.dup(pidfd)
        try:
            root_fd, lease = await self._hold(Hold(id=container.id, below=True), own)
        finally:
            os.close(own)
        os.close(lease)
        return root_fd

    async def released(self, spec: Spec) -> None:
        """Wait until nobody holds a container's root, as its start must.

        Raises:
            BusError: FAILED_PRECONDITION: somebody still does after a while.
        """
        try:
            async with asyncio.timeout(END_SECONDS):
                while holders := self._holders.get(spec.id):
                    await next(iter(holders)).wait()
                if spec.root.upper:
                    await _unlocked(spec.root)
        except TimeoutError:
            message = f"files are being copied into or out of container {spec.id}"
            raise BusError(Code.FAILED_PRECONDITION, message) from None

    async def _hold(self, order: Hold, *more: int) -> tuple[int, int]:
        """Have a shim hold a root; its descriptor and the lease. A shim that dies first is replaced."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                shim = await self._zygotes.shim()
            except ZygoteError as error:
                raise BusError(Code.UNAVAILABLE, f"open the root of container {order.id}: {error}") from error
            answer = await self._order(shim, order, more)
            if answer is not None:
                return answer
            if attempt == _ATTEMPTS:
                break
        raise BusError(Code.UNAVAILABLE, f"open the root of container {order.id}: the shims die")

    async def _order(self, shim: socket.socket, order: Hold, more: tuple[int, ...]) -> tuple[int, int] | None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as stack:
            stack.callback(ours.close)
            shim.setblocking(False)
            with theirs:
                try:
                    send(shim, encode(order), (theirs.fileno(), *more))
                except (BrokenPipeError, ConnectionResetError):
                    shim.close()
                    return None
                except BaseException:
                    shim.close()
                    raise
            # From now on it may mount, whoever waits for that: a start has to know of it until it has ended.
            holder = _Holder(shim, self._entered(order.id))
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await holder.answer
            except TimeoutError:
                text = f"open the root of container {order.id}: no answer within {ANSWER_SECONDS:.0f} s"
                raise BusError(Code.UNAVAILABLE, text) from None
            except BaseException:
                holder.refuse()
                raise
            if answer is None:
                return None
            report, fds = answer
            if isinstance(report, Failed) or len(fds) != 1:
                close_all(fds)
                text = report.message if isinstance(report, Failed) else "its holder sent no root"
                raise BusError(Code.FAILED_PRECONDITION, f"open the root of container {order.id}: {text}")
            stack.pop_all()
        return fds[0], ours.detach()

    def _entered(self, container_id: str) -> Callable[[], None]:
        """Note that a container's root is used until what is returned is called."""
        holders = self._holders.setdefault(container_id, set())
        ended = asyncio.Event()
        holders.add(ended)

        def over() -> None:
            ended.set()
            holders.discard(ended)
            if not holders and self._holders.get(container_id) is holders:
                del self._holders[container_id]

        return over


class _Holder:
    """A shim that was ordered to hold a root: its one answer, and its end, which that of its connection tells.

    Args:
        shim: the connection.
        over: called at its end.

    Attributes:
        answer: what it says, with the descriptors that came along; None where it died first.
    """

    def __init__(self, shim: socket.socket, over: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._shim = shim
        self._over = over
        self.answer: asyncio.Future[tuple[Held | Failed, list[int]] | None] = self._loop.create_future()
        self._loop.add_reader(shim.fileno(), self._readable)

    def refuse(self) -> None:
        """Nobody wants the answer any more."""
        if not self.answer.done():
            self.answer.cancel()
        elif not self.answer.cancelled() and (answer := self.answer.result()) is not None:
            close_all(answer[1])

    def _readable(self) -> None:
        try:
            message = receive(self._shim, REPORT_LIMIT)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            message = None
        if message is None:
            self._end()
            return
        data, fds = message
        try:
            report = decode_report(data)
        except MsgspecError:
            report = None
        if isinstance(report, (Held, Failed)) and not self.answer.done():
            self.answer.set_result((report, fds))
        else:
            close_all(fds)

    def _end(self) -> None:
        self._loop.remove_reader(self._shim.fileno())
        self._shim.close()
        self._over()
        if not self.answer.done():
            self.answer.set_result(None)


async def _unlocked(root: Root) -> None:
    """Wait until no holder of an earlier supervisor's is left."""
    try:
        lock = os.open(os.path.dirname(root.upper), _LOCKABLE)
    except OSError:
        # The start itself says better what is wrong there.
        return
    try:
        while not _flock(lock, fcntl.LOCK_EX):  # noqa: ASYNC110 - they aren't ours: nobody would tell
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        os.close(lock)


def _flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _of_process(container: Container) -> int:
    """A descriptor of the root of a container's process 1.

    The number is looked up in /proc, so it is made sure of afterwards that it hasn't become somebody else's: it can't as long
    as the process that the pidfd refers to is there, and one that has ended but is still there has no root.
    """
    gone = BusError(Code.FAILED_PRECONDITION, f"container {container.id} is not running")
    if container.pidfd < 0:
        raise gone
    try:
        root_fd = os.open(f"/proc/{container.pid}/root", _DIRECTORY)
    except OSError as error:
        raise gone from error
    try:
        pidfd_send_signal(container.pidfd, 0)
    except OSError as error:
        with suppress(OSError):
            os.close(root_fd)
        raise gone from error
    return root_fd
