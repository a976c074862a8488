"""Starting a container: everything between the bus call and the shim's answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import msgspec

from boxrun.bus import BusError, Code
from boxrun.container.cgroups import Cgroups
from boxrun.container.seccomp.compiler import compile_profile
from boxrun.container.spec import Namespace, Spec
from boxrun.errors import BoxrunError, ShimError, StartFault, ZygoteError
from boxrun.network.boxes import Box
from boxrun.network.contract import PlugReply, PlugRequest
from boxrun.network.service import NetworksService
from boxrun.oci.seccomp import oci_profile
from boxrun.shim import exits
from boxrun.shim.protocol import Client, Failed, Payload, RunRecord, Start, Started
from boxrun.shim.wire import encode, memfd
from boxrun.supervisor.container import Container
from boxrun.supervisor.contract import Attachment, StartFailure, StartReply, StartRequest
from boxrun.supervisor.gate import Gate
from boxrun.supervisor.outcome import NeverGreetedError
from boxrun.supervisor.rundir import RunDirectory
from boxrun.supervisor.watchers import Watchers
from boxrun.supervisor.zygotes import ZygoteKeeper

START_SECONDS = 70.0
"""How long a shim may take to answer; it gives up making the container a little earlier itself."""

CONCURRENT_STARTS = 4
"""Starts under way at a time. More only queue in the kernel, on locks that they share."""

TRACING = "CAP_SYS_PTRACE"

ATTEMPTS = 3
"""How often a start is tried whose zygote died before anything was made."""


class Starter:
    """Starts containers, a few at a time."""

    def __init__(
        self, run: RunDirectory, cgroups: Cgroups, watchers: Watchers, zygotes: ZygoteKeeper, networks: NetworksService
    ) -> None:
        self._run = run
        self._cgroups = cgroups
        self._watchers = watchers
        self._zygotes = zygotes
        self._networks = networks
        self._parents = run.cgroup_parents()
        self._admission = asyncio.Semaphore(CONCURRENT_STARTS)

    def admit(self, spec: Spec) -> Container:
        """The container of a start to come."""
        record = RunRecord(id=spec.id, run=time.time_ns(), state_dir=spec.state_dir, cgroup=spec.cgroup)
        container = Container(record, self._run, self._cgroups, self._watchers, self._zygotes.recycle)
        container.traceable = not _own_pids(spec) or TRACING in spec.process.capabilities
        return container

    async def start(
        self, container: Container, request: StartRequest, fds: Sequence[int], others: Mapping[str, Container]
    ) -> StartReply:
        """Start ``container``.

        Args:
            container: what ``admit`` returned.
            request: the caller's request.
            fds: the descriptors of its attachments, which stay the caller's.
            others: containers whose namespaces it may join.

        Raises:
            BusError: FAILED_PRECONDITION with a ``StartFailure``, with nothing left of the container; UNAVAILABLE: no zygote.
        """
        async with self._admission:
            try:
                if request.sandbox is None:
                    started, plugged = await self._start(container, request, fds, others), None
                elif request.spec.runtime is not None:
                    # Another runtime's program waits for nobody.
                    plugged = await self._networks.plug_in(request.sandbox)
                    started = await self._start(container, request, fds, others)
                else:
                    started, plugged = await self._start_and_plug(container, request, request.sandbox, fds, others)
            except StartFault as fault:
                raise _failure(fault.step, fault.errno, fault.message, fault.exit_code) from fault
            except ZygoteError as error:
                raise BusError(Code.UNAVAILABLE, f"start container {container.id}: {error}") from error
            except OSError as error:
                message = f"start container {container.id}: {error.strerror or error}"
                raise _failure("start", error.errno or 0, message, 128) from error
            except BoxrunError as error:
                raise _failure("start", 0, str(error), 128) from error
        return StartReply(pid=started.pid, started_at=started.started_at, warnings=started.warnings, sandbox=plugged)

    async def _start_and_plug(
        self,
        container: Container,
        request: StartRequest,
        sandbox: PlugRequest,
        fds: Sequence[int],
        others: Mapping[str, Container],
    ) -> tuple[Started, PlugReply]:
        """Start a container and plug it in meanwhile; its program waits for that.

        A container with a user namespace of its own, which has to own the sandbox, is plugged in once the two are there. Where
        no sandbox is ready, one is plugged in first.
        """
        plugging: list[asyncio.Task[PlugReply]] = []
        with Gate() as gate, ExitStack() as stack:

            def plug(box: Box | None, namespace: int) -> None:
                work = self._plug(gate, sandbox, box, namespace)
                plugging.append(asyncio.get_running_loop().create_task(work))

            network = -1
            if _own_user(request.spec):
                container.on_clone = lambda namespace: plug(None, namespace)
            elif (ready := self._networks.take(sandbox)) is not None:
                try:
                    network = os.dup(ready.namespace)
                except OSError:
                    ready.close()
                    raise
                stack.callback(os.close, network)
                plug(ready, -1)
            else:
                plug(None, -1)
                await plugging[0]
            try:
                started = await self._start(container, request, fds, others, gate=gate.reader, network=network)
            except asyncio.CancelledError:
                for task in plugging:
                    task.cancel()
                raise
            except Exception:
                for task in plugging:
                    await task  # what went wrong there is the reason
                raise
            finally:
                container.on_clone = None
            return started, await plugging[0]

    async def _plug(self, gate: Gate, sandbox: PlugRequest, box: Box | None, namespace: int) -> PlugReply:
        """Plug in what is given and open the gate; ``namespace`` is closed. Where that fails, the container gives up."""
        try:
            plugged = await self._networks.plug_in(sandbox, box, namespace)
            gate.open()
            return plugged
        finally:
            gate.shut()
            if namespace >= 0:
                os.close(namespace)

    async def _start(
        self,
        container: Container,
        request: StartRequest,
        fds: Sequence[int],
        others: Mapping[str, Container],
        *,
        gate: int = -1,
        network: int = -1,
    ) -> Started:
        """``gate`` is what the program is to wait at, ``network`` the sandbox that it is to be in; both stay the caller's."""
        spec = request.spec
        if spec.cgroup.parent not in self._parents:
            self._run.note_cgroup_parent(spec.cgroup.parent)
            self._parents.add(spec.cgroup.parent)
        self._zygotes.settle(spec.cgroup.parent, spec.resources.devices)
        seccomp = compile_profile if spec.runtime is None else oci_profile
        program = seccomp(spec.seccomp, spec.process.capabilities)
        with ExitStack() as stack:
            joins = _joins(spec.namespaces, others, stack)
            inside = request.sandbox is not None and _own_user(spec)
            if network >= 0:
                joins["net"] = network
            sandbox = not inside and (network >= 0 or self._join_sandbox(spec, joins, stack))
            await _admit_onlooker(spec.namespaces, others)
            payload = memfd("boxrun-spec", encode(Payload(spec=spec, seccomp=program, joins=tuple(joins))))
            stack.callback(os.close, payload)
            exits.remove(spec.state_dir)
            self._run.record(container.record)
            listener = stack.enter_context(self._run.listen(spec.id))
            start = _order(container.record, spec, len(joins), request.attachments, sandbox)
            start = msgspec.structs.replace(start, plugged_inside=inside, gated=gate >= 0)
            gates = [gate] if gate >= 0 else []
            return await self._attempt(container, start, [payload, listener.fileno(), *joins.values(), *gates, *fds])

    def _join_sandbox(self, spec: Spec, joins: dict[str, int], stack: ExitStack) -> bool:
        """Have the container's own network namespace be the sandbox that was plugged for it, if one was.

        Raises:
            StartFault: the container has a user namespace, which would have to own the sandbox, and that is there already.
        """
        own = any(n.kind == "net" and not n.container and not n.path for n in spec.namespaces)
        sandbox = self._networks.namespace_of(spec.id) if own else -1
        if sandbox < 0:
            return False
        if _own_user(spec):
            raise StartFault("network", 0, "a container with a user namespace of its own is plugged in by its start")
        joins["net"] = os.dup(sandbox)
        stack.callback(os.close, joins["net"])
        return True

    async def _attempt(self, container: Container, start: Start, fds: Sequence[int]) -> Started:
        for attempt in range(1, ATTEMPTS + 1):
            sock = await (self._zygotes.start_shim() if start.secluded and attempt == 1 else self._zygotes.shim())
            container.outcome.expect()
            link = container.connect(sock)
            try:
                link.start(start, fds)
            except (BrokenPipeError, ConnectionResetError):
                # A spare that has died; its connection's end says the same.
                pass
            try:
                async with asyncio.timeout(START_SECONDS):
                    outcome = await container.outcome.wait()
            except NeverGreetedError:
                if attempt == ATTEMPTS:
                    raise
                continue
            except TimeoutError as error:
                raise ShimError(f"the container's shim did not answer within {START_SECONDS:.0f} s") from error
            if isinstance(outcome, Failed):
                raise StartFault(outcome.step, outcome.errno, outcome.message, outcome.exit_code)
            return outcome
        raise AssertionError("unreachable")


def _failure(step: str, errno: int, message: str, exit_code: int) -> BusError:
    failure = StartFailure(step=step, errno=errno, message=message, exit_code=exit_code)
    return BusError(Code.FAILED_PRECONDITION, message, detail=failure)


def _order(record: RunRecord, spec: Spec, joins: int, attachments: Sequence[Attachment], sandbox: bool) -> Start:
    return Start(
        id=record.id,
        run=record.run,
        state_dir=record.state_dir,
        cgroup=record.cgroup,
        log=spec.log,
        stdio=spec.stdio,
        terminal=spec.process.terminal,
        own_pid_namespace=_own_pids(spec),
        joins=joins,
        sandbox=sandbox,
        runtime=spec.runtime,
        clients=tuple(as_client(attachment) for attachment in attachments),
    )


def _own_user(spec: Spec) -> bool:
    return any(namespace.kind == "user" for namespace in spec.namespaces)


def _own_pids(spec: Spec) -> bool:
    return any(namespace.kind == "pid" and not namespace.container and not namespace.path for namespace in spec.namespaces)


async def _admit_onlooker(namespaces: Sequence[Namespace], others: Mapping[str, Container]) -> None:
    """Before a container gets into another one's pid namespace: that one's execs can't count on not being traced any more."""
    for namespace in namespaces:
        if namespace.kind == "pid" and namespace.container:
            await others[namespace.container].expose()


def as_client(attachment: Attachment) -> Client:
    """An attachment in the shim's words."""
    return msgspec.convert(attachment, Client, from_attributes=True)


def _joins(namespaces: Sequence[Namespace], others: Mapping[str, Container], stack: ExitStack) -> dict[str, int]:
    """Descriptors of the namespaces to join, which ``stack`` closes."""
    joins: dict[str, int] = {}
    for namespace in namespaces:
        if namespace.path:
            joins[namespace.kind] = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        elif namespace.container:
            other = others.get(namespace.container)
            descriptor = -1 if other is None else other.join_descriptor()
            if descriptor < 0:
                message = f"cannot join the {namespace.kind} namespace of container {namespace.container}: it is not running"
                raise StartFault("join", 0, message)
            joins[namespace.kind] = os.dup(descriptor)
        else:
            continue
        stack.callback(os.close, joins[namespace.kind])
    return joins
