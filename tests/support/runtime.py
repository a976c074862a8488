"""A supervisor of a test's own, without a daemon: containers straight from specs, on a busybox root file system."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from boxrun.bus import BusError, Channel, Code, connect_unix
from boxrun.container import defaults
from boxrun.container.spec import Cgroup, Log, Namespace, NamespaceKind, Process, Resources, Root, Spec
from boxrun.network.contract import PlugRequest
from boxrun.supervisor.contract import (
    Attachment,
    ContainerRef,
    ContainerStatus,
    Runtime,
    RuntimeEvent,
    ShutdownRequest,
    StartReply,
    StartRequest,
    WatchRequest,
)

from support.daemon import PATIENCE
from support.leaks import leaks

KINDS: tuple[NamespaceKind, ...] = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
APPLETS = (
    "sh",
    "true",
    "false",
    "sleep",
    "cat",
    "echo",
    "head",
    "seq",
    "yes",
    "ps",
    "stty",
    "readlink",
    "kill",
    "tail",
    "dd",
    "ls",
)


def make_root(path: Path) -> Path:
    """A root file system of busybox and the directories it needs."""
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp"):
        (path / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", path / "bin/busybox")
    for applet in APPLETS:
        (path / "bin" / applet).symlink_to("busybox")
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\n")
    return path


class SupervisorProcess:
    """A supervisor in a directory below ``base``, and a channel to it. Its cgroup's name is its own."""

    def __init__(self, base: Path, netns: str = "") -> None:
        """``netns``: the network namespace it is in, by its name in /run/netns."""
        self.prefix = ["nsenter", f"--net=/run/netns/{netns}"] if netns else []
        self.base = base
        self.name = f"boxrun-test-{uuid.uuid4().hex[:12]}"
        self.run = base / self.name
        self.root = make_root(base / "root")
        self.log = base / "supervisor.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: Channel | None = None

    async def start(self) -> None:
        """Start the process and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - at once: it only forks
                [
                    *self.prefix,
                    sys.executable,
                    "-m",
                    "boxrun.main",
                    "supervisor",
                    "--run-dir",
                    str(self.run),
                    "--log-level",
                    "debug",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.channel = await self.connect()

    async def connect(self) -> Channel:
        """Another channel to the supervisor."""
        async with asyncio.timeout(20 * PATIENCE):
            while True:
                assert self.process is not None
                assert self.process.poll() is None, self.log.read_text()
                try:
                    return await connect_unix(str(self.run / "boxrun.sock"))
                except BusError as error:
                    if error.code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                        raise
                    await asyncio.sleep(0.02)

    @property
    def bus(self) -> Channel:
        """The channel."""
        assert self.channel is not None
        return self.channel

    async def kill(self) -> None:
        """kill -9, and let go of the channel."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        await self._disconnect()

    async def _disconnect(self) -> None:
        if self.channel is not None:
            self.channel.close()
            await self.channel.wait_closed()
            self.channel = None

    async def end(self) -> None:
        """Shut down in order, killing what runs, and wait for the process."""
        if self.process is None:
            return
        with suppress(BusError):
            await self.bus.unary(Runtime.shutdown, ShutdownRequest(kill=True), timeout=30)
        await self._disconnect()
        process, self.process = self.process, None
        await asyncio.to_thread(process.wait, 60)

    def spec(self, *args: str, namespaces: tuple[Namespace, ...] = (), without: tuple[str, ...] = (), **fields: object) -> Spec:
        """A container's spec with Docker's defaults, its directories made.

        Args:
            args: the program.
            namespaces: replace those of their kind.
            without: kinds that are the host's.
            fields: of ``Spec``; those of ``Process`` are known by their names.
        """
        identity = uuid.uuid4().hex * 2
        home = self.base / "containers" / identity
        for name in ("upper", "work", "runtime"):
            (home / name).mkdir(parents=True)
        of_process = {name: fields.pop(name) for name in ("env", "terminal", "user", "cwd") if name in fields}
        kinds = {kind: Namespace(kind=kind) for kind in KINDS if kind not in without}
        kinds |= {namespace.kind: namespace for namespace in namespaces}
        whole: dict[str, object] = {
            "id": identity,
            "state_dir": str(home / "runtime"),
            "process": Process(
                args=args,
                **{"env": ("PATH=/bin",), "capabilities": defaults.DEFAULT_CAPABILITIES, **of_process},  # type: ignore[arg-type]
            ),
            "root": Root(lower=(str(self.root),), upper=str(home / "upper"), work=str(home / "work")),
            "cgroup": Cgroup(parent=f"/{self.name}", name=identity),
            "namespaces": tuple(kinds.values()),
            "mounts": defaults.default_mounts(),
            "devices": defaults.DEFAULT_DEVICES,
            "resources": Resources(devices=defaults.default_device_rules()),
            "masked_paths": defaults.MASKED_PATHS,
            "readonly_paths": defaults.READONLY_PATHS,
            "hostname": "box" if "uts" in kinds else "",
            "log": Log(path=str(home / "log.json")),
        }
        return Spec(**(whole | fields))  # type: ignore[arg-type]

    async def launch(self, spec: Spec, *attachments: tuple[Attachment, int], sandbox: PlugRequest | None = None) -> StartReply:
        """Start a container, handing the attachments' descriptors over."""
        request = StartRequest(spec=spec, attachments=tuple(attachment for attachment, _ in attachments), sandbox=sandbox)
        try:
            return await self.bus.unary(Runtime.start, request, timeout=60, fds=[fd for _, fd in attachments])
        finally:
            for _, fd in attachments:
                os.close(fd)

    async def status(self, identity: str) -> ContainerStatus:
        """A container's status."""
        return await self.bus.unary(Runtime.status, ContainerRef(id=identity), timeout=10)

    async def exited(self, identity: str, timeout: float = 20) -> ContainerStatus:
        """Wait for a container's end."""
        async with asyncio.timeout(timeout * PATIENCE), self.events() as events:
            async for event in events:
                if event.status is not None and event.status.id == identity and event.status.phase == "exited":
                    return event.status
        raise AssertionError("the watch ended")

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[RuntimeEvent]]:
        """A watch."""
        async with self.bus.server_stream(Runtime.watch, WatchRequest()) as events:
            yield events

    async def release(self, identity: str) -> None:
        """Release an exited container."""
        await self.bus.unary(Runtime.release, ContainerRef(id=identity), timeout=30)

    def shims(self, identity: str) -> list[int]:
        """The processes of a container's shim: those that its title names."""
        return [pid for pid in processes() if identity.encode() in command_line(pid) and b"boxrun-shim" in command_line(pid)]

    def parked(self, identity: str) -> bool:
        """Whether a container's shim is just its keeper, whose only child is the container."""
        shims = self.shims(identity)
        return len(shims) == 1 and not any(command_line(child).startswith(b"boxrun") for child in children(shims[0]))

    def zygote(self) -> int:
        """The zygote's process: the supervisor's child."""
        assert self.process is not None
        (zygote,) = [pid for pid in children(self.process.pid) if b"boxrun-zygote" in command_line(pid)]
        return zygote


def processes() -> list[int]:
    """Every process."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def command_line(pid: int) -> bytes:
    """A process's command line; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def children(parent: int) -> list[int]:
    """A process's children."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def kill(pid: int) -> None:
    """kill -9, where it hasn't ended by itself."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def eventually(condition: Callable[[], bool], what: str, timeout: float = 15) -> None:
    """Wait until ``condition`` holds."""
    try:
        async with asyncio.timeout(timeout * PATIENCE):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {timeout} s: {what}") from None


async def read_until(reader: Callable[[], Awaitable[bytes]], wanted: bytes, timeout: float = 15) -> bytes:
    """Read until ``wanted`` has come, or fail with what came."""
    got = b""
    try:
        async with asyncio.timeout(timeout):
            while wanted not in got:
                chunk = await reader()
                assert chunk, got
                got += chunk
    except TimeoutError:
        raise AssertionError(f"{wanted!r} did not come: {got!r}") from None
    return got


@asynccontextmanager
async def running_supervisor(directory: Path) -> AsyncIterator[SupervisorProcess]:
    """A running supervisor; at the end it is shut down, and nothing of it may be left."""
    supervisor = SupervisorProcess(directory)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.end()
    await eventually(lambda: not leaks(supervisor.name), f"nothing is left: {leaks(supervisor.name)}")
