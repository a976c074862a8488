"""What the rest of the daemon asks of execs."""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections.abc import Callable, Sequence

from boxrun.shim.keys import parse_keys
from boxrun.supervisor.contract import (
    Attachment,
    ExecRef,
    ExecReleaseRequest,
    ExecRequest,
    ExecResizeRequest,
    ExecSignalRequest,
    ExecStatus,
    Runtime,
    RuntimeEvent,
)
from boxship.types.execs import ExecCreateRequest, ExecInspect, ProcessConfig
from msgspec import UNSET, structs

from boxshipd.containers.model import Container
from boxshipd.containers.registry import Registry
from boxshipd.containers.settings import Settings
from boxshipd.errors import Conflict, DaemonError, InternalError, InvalidParameter
from boxshipd.events import Events
from boxshipd.execs.model import Exec, ExecConfig
from boxshipd.execs.program import program_of_exec
from boxshipd.execs.registry import Execs as ExecRegistry
from boxshipd.execs.starting import ExecStart
from boxshipd.runtime.errors import LinkLost, StartFailed
from boxshipd.runtime.link import RuntimeLink

log = logging.getLogger(__name__)

LOST = 255
"""The exit code of an exec whose true one nobody knows."""

_NOT_STARTED = 126
_START_SECONDS = 30.0
_RESIZE_SECONDS = 10.0
_RELEASE_SECONDS = 0.05
_SIGKILL = 9


class ExecFailed(InvalidParameter):
    """The program of an exec couldn't be executed."""


class ExecError(InternalError):
    """Something else failed on the way to an exec's program."""


class Execs:
    """Every operation on execs. Open it before the containers, whose connection to the runtime it listens to.

    Args:
        containers: where containers are found.
        events: where to publish.
        runtime: the connection to the runtime.
        settings: the daemon's.
        linked: the variables that a container's links set.
    """

    def __init__(
        self,
        containers: Registry,
        events: Events,
        runtime: RuntimeLink,
        settings: Settings,
        *,
        linked: Callable[[Container], Sequence[str]],
    ) -> None:
        self._linked = linked
        self.settings = settings
        self._containers = containers
        self._events = events
        self._runtime = runtime
        self._registry = ExecRegistry(f"{settings.exec_root}/execs.journal", containers)
        self._listed: set[str] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._releasing: list[str] = []
        self._releaser: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Take in what an earlier daemon knew; what the runtime knows follows by its listing.

        Raises:
            OSError: the journal can't be read or written.
        """
        self._registry.load()
        self._runtime.observe(self._observe)

    async def close(self) -> None:
        """Finish what is under way; execs go on."""
        if self._starting:
            await asyncio.wait(self._starting)
        if self._releaser is not None:
            await self._releaser
        self._registry.close()

    def remove(self) -> None:
        """Forget everything: every container has ended for good."""
        self._registry.remove()

    def create(self, ref: str, request: ExecCreateRequest) -> str:
        """Create an exec; its id.

        Raises:
            NotFound: there is no such container.
            Conflict: it doesn't run, or is paused.
            InvalidParameter: the configuration can't be.
        """
        container = self._containers.find(ref)
        _require_running(container, ref)
        if not request.cmd:
            raise InvalidParameter("No exec command specified")
        for variable in request.env or ():
            if not variable.partition("=")[0]:
                raise InvalidParameter(f"invalid environment variable: {variable}")
        if any("\0" in text for text in (*request.cmd, *(request.env or ()), request.user, request.working_dir)):
            raise InvalidParameter("exec: arguments and variables can't have null bytes in them")
        keys = request.detach_keys or request.docker_py_detach_keys
        _check_keys(keys)
        config = ExecConfig(
            id=secrets.token_hex(32),
            container=container.id,
            command=tuple(request.cmd),
            tty=request.tty,
            attach_stdin=request.attach_stdin,
            attach_stdout=request.attach_stdout,
            attach_stderr=request.attach_stderr,
            detach_keys=keys,
            env=tuple(request.env or ()),
            user=request.user,
            working_dir=request.working_dir,
            privileged=request.privileged,
            console_size=_size(request.console_size) if request.tty else (0, 0),
        )
        exec_ = self._registry.create(config)
        self._publish(exec_, f"exec_create: {config.text}")
        return config.id

    def startable(self, exec_id: str, console_size: list[int] | None = None) -> ExecStart:
        """Take an exec to be started, once; errors are raised here, before any head of a stream is sent.

        Args:
            exec_id: which one.
            console_size: height and width, in place of those that it was created with.

        Raises:
            NotFound: there is no such exec.
            Conflict: its container doesn't run or is paused, or it has been started before.
        """
        exec_, container = self._registry.find(exec_id)
        if exec_.phase == "exited":
            raise Conflict(f"exec command {exec_id} has already run")
        if exec_.phase != "created":
            raise Conflict(f"exec command {exec_id} is already running")
        _require_running(container)
        size = _size(console_size) if exec_.config.tty and console_size else exec_.config.console_size
        linked = self._linked(container)
        process, seccomp = program_of_exec(exec_.config, container, self.settings, size, linked)
        request = ExecRequest(
            id=container.id,
            exec_id=exec_.id,
            open_stdin=exec_.config.attach_stdin,
            user_namespace=bool(container.config.uid_mappings),
            host_pids=self._sees_host(container),
            process=process,
            seccomp=seccomp,
        )
        exec_.phase = "starting"
        self._registry.begun(exec_)
        return ExecStart(self._run, exec_, request, self._registry.give_back)

    def _sees_host(self, container: Container) -> bool:
        """Whether the processes of a container are in the host's pid namespace, be it by way of another one's."""
        mode = container.config.host_config.pid_mode
        donor = self._containers.get(mode.removeprefix("container:")) if mode.startswith("container:") else None
        return mode == "host" if donor is None else self._sees_host(donor)

    async def _run(self, exec_: Exec, request: ExecRequest, attachment: Attachment | None, descriptor: int) -> None:
        """Start what ``startable`` has taken. A start under way is finished, whether its caller waits or not."""
        task = asyncio.create_task(self._start(exec_, request, attachment, descriptor))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        await asyncio.shield(task)

    async def _start(self, exec_: Exec, request: ExecRequest, attachment: Attachment | None, descriptor: int) -> None:
        if attachment is not None:
            request = structs.replace(request, attachments=(attachment,))
        self._publish(exec_, f"exec_start: {exec_.config.text}")
        what = f"exec in container {request.id}"
        descriptors = [] if attachment is None else [descriptor]
        try:
            reply = await self._runtime.call(Runtime.exec, request, what, timeout=_START_SECONDS, descriptors=descriptors)
        except LinkLost:
            # The supervisor that was asked is gone; the one after it knows whether anything came of it.
            await self._ask(exec_)
            if exec_.phase == "starting":
                self._fail(exec_, LOST)
                raise
            if exec_.lost:
                # On its way to the shim, maybe: nobody may be told that it runs.
                raise
        except StartFailed as error:
            code = error.failure.exit_code
            self._fail(exec_, code if code in {126, 127} else _NOT_STARTED)
            message = error.failure.message
            if error.failure.step != "user":
                message = f"OCI runtime exec failed: exec failed: unable to start container process: {message}"
            kind = ExecFailed if code in {126, 127} else ExecError
            raise kind(message) from error
        except DaemonError as error:
            self._fail(exec_, _NOT_STARTED)
            raise type(error)(str(error).removeprefix(f"{what}: ")) from error
        else:
            # Its end may have been told before the answer was.
            if exec_.phase == "starting":
                exec_.phase, exec_.pid = "running", reply.pid
                exec_.settled.set()

    async def resize(self, exec_id: str, height: int, width: int) -> None:
        """Set an exec's terminal's size in characters; one that is about to be started is waited for.

        Raises:
            NotFound: there is no such exec.
            Conflict: it has ended, has no terminal, or isn't started.
        """
        exec_, container = self._registry.find(exec_id)
        _require_running(container)
        try:
            async with asyncio.timeout(_RESIZE_SECONDS):
                await exec_.settled.wait()
        except TimeoutError:
            raise InternalError(f"resize exec {exec_id}: timeout waiting for exec session ready") from None
        request = ExecResizeRequest(exec_id=exec_.id, height=height, width=width)
        await self._runtime.call(Runtime.exec_resize, request, f"resize exec {exec_id}")

    async def inspect(self, exec_id: str) -> ExecInspect:
        """Everything about an exec. Whoever has seen its streams end finds it ended here.

        Raises:
            NotFound: there is no such exec.
        """
        exec_, _ = self._registry.find(exec_id)
        if exec_.phase in {"starting", "running"}:
            await self._ask(exec_)
        config = exec_.config
        return ExecInspect(
            id=exec_.id,
            running=exec_.phase in {"starting", "running"},
            exit_code=exec_.exit_code,
            process_config=ProcessConfig(
                tty=config.tty,
                entrypoint=config.command[0],
                arguments=list(config.command[1:]),
                privileged=config.privileged,
                user=config.user or UNSET,
            ),
            open_stdin=config.attach_stdin,
            open_stderr=config.attach_stderr,
            open_stdout=config.attach_stdout,
            can_remove=False,
            container_id=config.container,
            detach_keys=base64.b64encode(parse_keys(config.detach_keys)).decode() if config.detach_keys else "",
            pid=exec_.pid,
        )

    async def _ask(self, exec_: Exec) -> None:
        """Take in what the runtime knows of an exec that hasn't ended as far as we know."""
        try:
            status = await self._runtime.call(Runtime.exec_status, ExecRef(exec_id=exec_.id), f"inspect exec {exec_.id}")
        except Conflict:
            # Not known there, and it is released only after we have taken note.
            if exec_.phase == "running":
                self._lose(exec_)
        except DaemonError as error:
            log.warning("%s", error)
        else:
            self._take(exec_, status)

    # What the runtime tells.

    def _observe(self, event: RuntimeEvent) -> None:
        if event.kind == "listed":
            self._reconcile()
            return
        status = event.exec
        if status is None:
            return
        if event.kind == "exec":
            self._listed.add(status.exec_id)
        exec_ = self._registry.get(status.exec_id)
        if exec_ is None:
            self._stranger(status)
        elif event.kind == "exec_detached":
            self._publish(exec_, "exec_detach")
        else:
            self._take(exec_, status)

    def _take(self, exec_: Exec, status: ExecStatus) -> None:
        if status.phase == "exited":
            if exec_.phase == "exited":
                self._release(exec_.id)
            elif status.lost:
                self._lose(exec_)
            else:
                self._end(exec_, status.exit_code)
        elif status.phase == "running" and exec_.phase in {"created", "starting"}:
            self._registry.begun(exec_)
            exec_.phase, exec_.pid = "running", status.pid
            exec_.settled.set()

    def _reconcile(self) -> None:
        """A connection was made: what ran and isn't listed is lost."""
        listed, self._listed = self._listed, set()
        for exec_ in self._registry:
            if exec_.phase == "running" and exec_.id not in listed:
                self._lose(exec_)

    def _stranger(self, status: ExecStatus) -> None:
        """An exec that nobody here knows: it ought not to be."""
        if status.phase == "exited":
            self._release(status.exec_id)
        elif status.phase == "running":
            log.warning("exec %s runs without a record: killing it", status.exec_id)
            task = asyncio.create_task(self._kill(status.exec_id))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _kill(self, exec_id: str) -> None:
        request = ExecSignalRequest(exec_id=exec_id, signal=_SIGKILL)
        try:
            await self._runtime.call(Runtime.exec_signal, request, f"kill exec {exec_id}")
        except DaemonError as error:
            log.warning("%s", error)

    def _fail(self, exec_: Exec, exit_code: int) -> None:
        """Its program was never executed."""
        if exec_.phase != "exited":
            self._record(exec_, exit_code)

    def _lose(self, exec_: Exec) -> None:
        """It has ended, and nobody knows how."""
        exec_.lost = True
        self._end(exec_, LOST)

    def _end(self, exec_: Exec, exit_code: int) -> None:
        """It has ended: take note, tell, and let the runtime forget it."""
        if self._record(exec_, exit_code):
            self._release(exec_.id)
        self._publish(exec_, "exec_die", {"exitCode": str(exit_code)})

    def _record(self, exec_: Exec, exit_code: int) -> bool:
        try:
            self._registry.ended(exec_, exit_code)
        except DaemonError as error:
            # The runtime keeps the end until it is told; the next listing has it again.
            log.error("%s", error)
            return False
        return True

    def _release(self, exec_id: str) -> None:
        """Let the runtime forget an exec, together with those that end about the same time."""
        self._releasing.append(exec_id)
        if self._releaser is None:
            self._releaser = asyncio.create_task(self._release_all())

    async def _release_all(self) -> None:
        try:
            while self._releasing:
                await asyncio.sleep(_RELEASE_SECONDS)
                ids, self._releasing = tuple(self._releasing), []
                await self._runtime.call(Runtime.exec_release, ExecReleaseRequest(exec_ids=ids), f"release {len(ids)} execs")
        except DaemonError as error:
            log.warning("%s", error)
        finally:
            self._releaser = None

    def _publish(self, exec_: Exec, action: str, extra: dict[str, str] | None = None) -> None:
        container = self._containers.get(exec_.config.container)
        if container is not None:
            attributes = container.attributes({"execID": exec_.id, **(extra or {})})
            self._events.publish("container", action, container.id, attributes)


def _require_running(container: Container, ref: str = "") -> None:
    state = container.state
    if not state.running:
        raise Conflict(f"container {container.id} is not running")
    if state.paused:
        raise Conflict(f"Container {ref or container.id} is paused, unpause the container before exec")
    if state.restarting:
        raise Conflict(f"Container {ref or container.id} is restarting, wait until the container is running")


def _check_keys(keys: str) -> None:
    if keys:
        try:
            parse_keys(keys)
        except ValueError as error:
            raise InvalidParameter(f"Invalid detach keys ({keys}) provided") from error


def _size(given: list[int] | None) -> tuple[int, int]:
    """A terminal's height and width, as a request has them."""
    if not given:
        return 0, 0
    if len(given) != 2 or not all(0 <= value < 1 << 16 for value in given):
        raise InvalidParameter(f"invalid console size {given}: it has to be height and width, each from 0 to 65535")
    return given[0], given[1]
