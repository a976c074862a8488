"""Running further programs in containers: each has a shim of its own, and goes on without its supervisor."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

from boxrun.bus import BusError, Code, Context
from boxrun.container.seccomp.compiler import compile_profile
from boxrun.container.spec import Log, Stdio
from boxrun.errors import BoxrunError, ShimError, StartFault, ZygoteError
from boxrun.shim.protocol import ExecPayload, Failed, Start, Started
from boxrun.shim.wire import close_all, encode, memfd
from boxrun.supervisor.container import Container
from boxrun.supervisor.contract import (
    Empty,
    ExecRef,
    ExecReleaseRequest,
    ExecReply,
    ExecRequest,
    ExecResizeRequest,
    ExecSignalRequest,
    ExecStatus,
    StartFailure,
)
from boxrun.supervisor.exec import Exec
from boxrun.supervisor.execdir import ExecDirectory, ExecRecord
from boxrun.supervisor.outcome import NeverGreetedError
from boxrun.supervisor.processes import process_end
from boxrun.supervisor.starts import ATTEMPTS, TRACING, as_client
from boxrun.supervisor.watchers import Watchers
from boxrun.supervisor.zygotes import ZygoteKeeper

START_SECONDS = 25.0
"""How long a shim may take to answer: less than its caller waits, so that nobody is left without an answer."""

CONCURRENT_STARTS = 4
"""Execs that are being started at a time. More only queue in the kernel, on locks that they share."""

END_SECONDS = 15.0
"""How long the last shims may take to end."""

GREETING_SECONDS = 5.0


class Execs:
    """Every exec of one run directory."""

    def __init__(
        self, run_directory: str, containers: Mapping[str, Container], watchers: Watchers, zygotes: ZygoteKeeper
    ) -> None:
        self._directory = ExecDirectory(run_directory)
        self._containers = containers
        self._watchers = watchers
        self._zygotes = zygotes
        self._execs: dict[str, Exec] = {}
        self._tasks: set[asyncio.Task[ExecReply]] = set()
        self._admission = asyncio.Semaphore(CONCURRENT_STARTS)

    async def recover(self) -> None:
        """Find what an earlier supervisor has left."""
        found = [self._new(record) for record in self._directory.records()]
        self._execs.update((exec_.record.id, exec_) for exec_ in found)
        for exec_ in found:
            exec_.recover()
        with suppress(TimeoutError):
            async with asyncio.timeout(GREETING_SECONDS):
                await asyncio.gather(*(exec_.greeted.wait() for exec_ in found if exec_.link is not None))

    def statuses(self) -> list[ExecStatus]:
        """Every exec, ended ones until they are released."""
        return [exec_.status for exec_ in self._execs.values()]

    async def start(self, request: ExecRequest, context: Context) -> ExecReply:
        """Run a program. Once under way the start goes on, whether its caller still waits or not."""
        if len(context.fds) != len(request.attachments):
            raise BusError(
                Code.INVALID_ARGUMENT, f"{len(request.attachments)} attachments came with {len(context.fds)} descriptors"
            )
        if request.exec_id in self._execs:
            raise BusError(Code.ALREADY_EXISTS, f"exec {request.exec_id} was started already")
        if not request.exec_id.isalnum():
            raise BusError(Code.INVALID_ARGUMENT, f"exec id {request.exec_id!r} is not made of letters and digits")
        self._running(request.id)
        record = ExecRecord(id=request.exec_id, container=request.id, run=time.time_ns())
        exec_ = self._execs[request.exec_id] = self._new(record)
        task = asyncio.get_running_loop().create_task(self._start(exec_, request, context.take_fds()))
        self._tasks.add(task)
        task.add_done_callback(self._started)
        return await asyncio.shield(task)

    def _started(self, task: asyncio.Task[ExecReply]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Where the caller has gone its failure is nobody's; the watchers know.
            task.exception()

    async def _start(self, exec_: Exec, request: ExecRequest, fds: Sequence[int]) -> ExecReply:
        try:
            if TRACING in request.process.capabilities:
                await self._running(request.id).expose()
            # Whoever freezes the container waits until this one is in, as it could neither go on nor be told from a failure.
            async with self._running(request.id).group_lock.entering(), self._admission:
                started = await self._attempt(exec_, request, fds)
            return ExecReply(pid=started.pid, started_at=started.started_at, warnings=started.warnings)
        except BaseException as error:
            if exec_.phase == "starting":
                exec_.abandon()
                self._execs.pop(request.exec_id, None)
            raise self._translated(error, request.id) from error
        finally:
            close_all(fds)

    def _translated(self, error: BaseException, container: str) -> BaseException:
        """What a caller is told."""
        if isinstance(error, ZygoteError):
            return BusError(Code.UNAVAILABLE, f"exec in container {container}: {error}")
        running = self._containers.get(container)
        if running is None or running.phase != "running":
            # Whatever went wrong then went wrong for that reason.
            return BusError(Code.FAILED_PRECONDITION, f"container {container} is not running")
        if isinstance(error, StartFault):
            detail = StartFailure(step=error.step, errno=error.errno, message=error.message, exit_code=error.exit_code)
            return BusError(Code.FAILED_PRECONDITION, error.message, detail=detail)
        if isinstance(error, (OSError, BoxrunError)):
            message = str(error)
            if isinstance(error, OSError):
                message = f"exec in container {container}: {error.strerror or error}"
            detail = StartFailure(step="exec", errno=getattr(error, "errno", 0) or 0, message=message, exit_code=128)
            return BusError(Code.FAILED_PRECONDITION, message, detail=detail)
        return error

    async def _attempt(self, exec_: Exec, request: ExecRequest, fds: Sequence[int]) -> Started:
        container = self._running(request.id)
        self._zygotes.settle_parent(container.record.cgroup.parent)
        program = compile_profile(request.seccomp, request.process.capabilities)
        payload = ExecPayload(
            process=request.process,
            seccomp=program,
            user_namespace=request.user_namespace,
            secluded=not (container.traceable or request.user_namespace or request.host_pids),
        )
        with ExitStack() as stack:
            payload_fd = memfd("boxrun-exec", encode(payload))
            stack.callback(os.close, payload_fd)
            pidfd = os.dup(container.pidfd)
            stack.callback(os.close, pidfd)
            self._directory.record(exec_.record)
            listener = stack.enter_context(self._directory.listen(request.exec_id))
            order = Start(
                id=request.exec_id,
                run=exec_.record.run,
                state_dir=self._directory.path,
                cgroup=container.record.cgroup,
                log=Log(driver="none"),
                stdio=Stdio(open_stdin=request.open_stdin, stdin_once=True),
                terminal=request.process.terminal,
                own_pid_namespace=not request.host_pids,
                joins=1,
                clients=tuple(as_client(attachment) for attachment in request.attachments),
                exec_of=request.id,
            )
            return await self._order(exec_, order, [payload_fd, listener.fileno(), pidfd, *fds])

    async def _order(self, exec_: Exec, order: Start, fds: Sequence[int]) -> Started:
        for attempt in range(1, ATTEMPTS + 1):
            sock = await (self._zygotes.exec_shim(order.exec_of) if attempt == 1 else self._zygotes.shim())
            exec_.outcome.expect()
            link = exec_.connect(sock)
            # Where it is broken, a spare has died; its connection's end says the same.
            with suppress(BrokenPipeError, ConnectionResetError):
                link.start(order, fds)
            try:
                async with asyncio.timeout(START_SECONDS):
                    outcome = await exec_.outcome.wait()
            except NeverGreetedError:
                if attempt == ATTEMPTS:
                    raise
                continue
            except TimeoutError as error:
                raise ShimError(f"the exec's shim did not answer within {START_SECONDS:.0f} s") from error
            if isinstance(outcome, Failed):
                raise StartFault(outcome.step, outcome.errno, outcome.message, outcome.exit_code)
            return outcome
        raise AssertionError("unreachable")

    def status(self, request: ExecRef) -> ExecStatus:
        """One exec, with everything that its shim has told so far: whoever has seen its streams end finds it ended here."""
        exec_ = self._known(request.exec_id)
        if exec_.link is not None:
            exec_.link.poll()
        return exec_.status

    async def resize(self, request: ExecResizeRequest) -> Empty:
        """Set a terminal's size."""
        exec_ = self._known(request.exec_id)
        try:
            if exec_.link is None or exec_.phase != "running":
                raise ShimError("it is not running")
            await exec_.link.resize(request.height, request.width)
        except ShimError as error:
            raise BusError(Code.FAILED_PRECONDITION, f"resize exec {request.exec_id}: {error}") from error
        return Empty()

    def signal(self, request: ExecSignalRequest) -> Empty:
        """Signal a program."""
        if not self._known(request.exec_id).signal(request.signal):
            raise BusError(Code.FAILED_PRECONDITION, f"exec {request.exec_id} is not running")
        return Empty()

    def release(self, request: ExecReleaseRequest) -> Empty:
        """Forget execs that have ended."""
        for exec_id in request.exec_ids:
            exec_ = self._execs.get(exec_id)
            if exec_ is not None and exec_.phase == "exited":
                del self._execs[exec_id]
                exec_.depart()
        return Empty()

    async def settle(self) -> None:
        """Wait until nothing is left of execs whose containers have been killed, and forget them."""
        shims = []
        for exec_ in self._execs.values():
            if exec_.link is not None and exec_.shim_pid:
                with suppress(ProcessLookupError):
                    shims.append(os.pidfd_open(exec_.shim_pid))
        await asyncio.gather(*(process_end(shim, END_SECONDS) for shim in shims))
        for exec_ in self._execs.values():
            exec_.forget()
        self._execs.clear()
        self._directory.clear()

    def close(self) -> None:
        """Let go of every shim."""
        for exec_ in self._execs.values():
            exec_.close()
        self._directory.close()

    def _new(self, record: ExecRecord) -> Exec:
        return Exec(record, self._directory, self._watchers, self._zygotes.recycle)

    def _known(self, exec_id: str) -> Exec:
        exec_ = self._execs.get(exec_id)
        if exec_ is None:
            raise BusError(Code.NOT_FOUND, f"no exec {exec_id}")
        return exec_

    def _running(self, container_id: str) -> Container:
        container = self._containers.get(container_id)
        if container is None:
            raise BusError(Code.NOT_FOUND, f"no container {container_id}")
        if container.phase != "running" or container.pidfd < 0:
            raise BusError(Code.FAILED_PRECONDITION, f"container {container_id} is not running")
        if container.paused:
            raise BusError(Code.FAILED_PRECONDITION, f"container {container_id} is paused")
        return container
