"""What supervisor and shim say to each other, and a worker to the next; ``boxrun.shim.wire`` carries it.

A shim outlives the supervisor that started it and may have to answer a newer one, so fields are only ever added, with a
default. Messages have their type in ``type``.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.msgpack import Decoder

from boxrun.container.spec import Cgroup, DeviceRule, ForeignRuntime, IDMapping, Log, Mount, Process, Root, Spec, Stdio
from boxrun.shim.logs.writer import Position


class Client(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A client's socket and what it is attached to; the fields are those of ``boxrun.supervisor.contract.Attachment``."""

    framing: Literal["raw", "multiplexed", "websocket", "websocket-multiplexed"]
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    detach_keys: str = ""
    received: bytes = b""


class ExitRecord(Struct, frozen=True, kw_only=True):
    """How a container ended, as it is kept in its state directory.

    ``run`` tells one run of a container from the next. Times are ns since the epoch. ``lost`` marks a status that nobody saw.
    """

    id: str
    run: int
    pid: int
    started_at: int
    finished_at: int
    exit_code: int
    signal: int = 0
    oom_killed: bool = False
    lost: bool = False
    error: str = ""
    log_dropped: int = 0


class RunRecord(Struct, frozen=True, kw_only=True):
    """What a later supervisor must know of a container whose shim is gone; kept in the run directory."""

    id: str
    run: int
    state_dir: str
    cgroup: Cgroup


class Payload(Struct, frozen=True, kw_only=True):
    """What it takes to make the container, in a memfd of its own: it may be large, and is read once."""

    spec: Spec
    seccomp: bytes = b""
    joins: tuple[str, ...] = ()


class ExecPayload(Struct, frozen=True, kw_only=True):
    """What it takes to run a further program in a container, in a memfd of its own.

    ``secluded``: for certain no process in the container can trace one that is about to execute a program.
    """

    process: Process
    seccomp: bytes = b""
    user_namespace: bool = False
    secluded: bool = False


class Start(Struct, frozen=True, kw_only=True, tag="start", tag_field="type", omit_defaults=True):
    """Run a container. Descriptors: the payload's memfd, the listening socket, ``joins`` namespaces, the gate where it is
    ``gated``, one for each client.

    Where ``exec_of`` names a container, a further program is run in that one: the payload is an ``ExecPayload``, the one
    joined descriptor the container's process 1, and the exit record is ``<id>.exit`` in ``state_dir``.

    ``gated``: its program is not to run before a byte comes out of the gate, for its network is being plugged in meanwhile.

    ``plugged_inside``: the container's own network namespace, which its user namespace owns, becomes its sandbox; ``Cloned``
    says when it is there.
    """

    id: str
    run: int
    state_dir: str
    cgroup: Cgroup
    log: Log = Log()
    stdio: Stdio = Stdio()
    terminal: bool = False
    own_pid_namespace: bool = True
    joins: int = 0
    sandbox: bool = False
    gated: bool = False
    plugged_inside: bool = False
    clients: tuple[Client, ...] = ()
    exec_of: str = ""
    runtime: ForeignRuntime | None = None

    @property
    def secluded(self) -> bool:
        """Whether nobody but the host sees the container's first process while it borrows its shim's memory.

        Only then may the shim have served another container before, or serve another after it. A ``sandbox`` is one of the
        joined namespaces that nobody else is in.
        """
        return self.own_pid_namespace and self.joins == int(self.sandbox) and self.runtime is None


class Attach(Struct, frozen=True, kw_only=True, tag="attach", tag_field="type", omit_defaults=True):
    """Attach the client whose descriptor comes along; answered by ``Done``.

    ``gated``: a second descriptor comes along, a pipe's reading end. Nothing is sent to the client before a byte comes through
    it, and the client is dropped where it ends without one; ``Done`` says how far the log is written, so that somebody else
    can send that first.
    """

    sequence: int
    client: Client
    gated: bool = False


class Resize(Struct, frozen=True, kw_only=True, tag="resize", tag_field="type"):
    """Set the terminal's size in characters; answered by ``Done``."""

    sequence: int
    height: int
    width: int


class Hold(Struct, frozen=True, kw_only=True, tag="hold", tag_field="type", omit_defaults=True):
    """Hold a container's root instead of making a container.

    Descriptors: the lease's end; with ``below`` a pidfd, else the lock of the upper directory, where there is one.

    ``below``: send a clone of the running container's root mount without what is mounted on it, and end.
    """

    id: str
    root: Root = Root(lower=(), upper="", work="")
    mounts: tuple[Mount, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    below: bool = False


class Probe(Struct, frozen=True, kw_only=True, tag="probe", tag_field="type"):
    """Be a prober (``boxrun.prober``). Descriptors: a memfd with the check, the listening socket, the container's process 1."""

    id: str


class Held(Struct, frozen=True, tag="held", tag_field="type"):
    """The root is there; its descriptor comes along."""


class Hello(Struct, frozen=True, kw_only=True, tag="hello", tag_field="type", omit_defaults=True):
    """A shim's first message on every connection. ``pid`` is the container's process 1, 0 while there is none.

    The descriptor of process 1 comes along once there is one; ``shim`` is the shim's lasting process.
    """

    id: str
    run: int
    shim: int
    pid: int = 0
    started_at: int = 0
    warnings: tuple[str, ...] = ()
    log_dropped: int = 0


class Cloned(Struct, frozen=True, tag="cloned", tag_field="type"):
    """The container's own network namespace, the descriptor that comes along, is there to be plugged in."""


class Started(Struct, frozen=True, kw_only=True, tag="started", tag_field="type", omit_defaults=True):
    """The program was executed; the descriptor of process 1 comes along."""

    pid: int
    started_at: int
    warnings: tuple[str, ...] = ()


class Joined(Struct, frozen=True, kw_only=True, tag="joined", tag_field="type"):
    """An exec's process is in the container and waits for the shim's word; its descriptor comes along."""

    pid: int


class Failed(Struct, frozen=True, kw_only=True, tag="failed", tag_field="type"):
    """The start failed and nothing is left of it; the shim ends."""

    step: str
    errno: int
    message: str
    exit_code: int


class Exited(Struct, frozen=True, kw_only=True, tag="exited", tag_field="type"):
    """The container ended and the record of it is durable."""

    record: ExitRecord


class Cleaned(Struct, frozen=True, tag="cleaned", tag_field="type"):
    """The container's cgroup is gone as well: the same container may be started again."""


class OutOfMemory(Struct, frozen=True, tag="oom", tag_field="type"):
    """The kernel killed a process of the container for want of memory."""


class Detached(Struct, frozen=True, tag="detached", tag_field="type"):
    """A client detached by its keys."""


class Idle(Struct, frozen=True, tag="idle", tag_field="type"):
    """The shim has done with what it was ordered and takes another order on this connection; the last it says of this one."""


class Done(Struct, frozen=True, kw_only=True, tag="done", tag_field="type", omit_defaults=True):
    """The answer to the request of this sequence number; ``error`` is empty where it was done."""

    sequence: int
    error: str = ""
    position: Position | None = None


class LogDropped(Struct, frozen=True, kw_only=True, tag="log_dropped", tag_field="type"):
    """So many messages for the container's log have been given up since its start."""

    messages: int


class Settle(Struct, frozen=True, kw_only=True):
    """To the zygote: what its containers have in common and what is therefore done once (``Cgroups.settle``, ``preload``)."""

    parent: str
    devices: tuple[DeviceRule, ...] = ()


Role = Literal["link", "listener", "stdin", "stdout", "stderr", "console", "slave", "pidfd", "oom", "log"]


class Parked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker leaves for the next one of its container.

    ``roles`` say what the descriptors beside it are, in order. ``begun`` are beginnings of lines for the log.
    """

    start: Start
    pid: int
    started_at: int
    warnings: tuple[str, ...] = ()
    oom_events: int = 0
    oom_kills: int = 0
    begun: dict[Literal["stdout", "stderr"], bytes] = {}
    log_dropped: int = 0
    roles: tuple[Role, ...]


Request = Start | Attach | Resize | Hold | Probe
Report = (
    Hello | Joined | Cloned | Started | Failed | Exited | Cleaned | OutOfMemory | Detached | Done | Held | LogDropped | Idle
)

decode_request = Decoder(Request).decode
decode_report = Decoder(Report).decode
decode_parked = Decoder(Parked).decode
decode_settle = Decoder(Settle).decode
decode_payload = Decoder(Payload).decode
decode_exec_payload = Decoder(ExecPayload).decode
