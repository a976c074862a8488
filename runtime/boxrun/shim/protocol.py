"""What supervisor and shim say to each other, over a seqpacket socket, and how it is put on the wire.

A shim outlives the supervisor that started it and may have to answer a newer one, so fields are only ever added, with a
default.

A datagram's first byte says where the message is: in the datagram (``INLINE``), or, where it would be too big for one, in a
memfd that is the first of the descriptors beside it (``MEMFD``). Messages are msgpack maps with their type in ``type``.
"""

from __future__ import annotations

import os
from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_TRUNC, SCM_RIGHTS, SOL_SOCKET, socket
from collections.abc import Sequence
from fcntl import fcntl
from stat import S_ISREG
from struct import pack, unpack
from typing import Literal

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from boxrun.container.spec import Cgroup, DeviceRule, ForeignRuntime, IDMapping, Log, Mount, Process, Root, Spec, Stdio
from boxrun.shim.logs.writer import Position

INLINE_LIMIT = 16384
"""Bytes of a message that travel in the datagram itself."""

MESSAGE_LIMIT = 64 << 20
"""Bytes of an order to a shim: whatever a supervisor would send, and far less than what would take the machine's memory."""

REPORT_LIMIT = 1 << 20
"""Bytes of what a shim says."""

MAX_FDS = 253
"""Descriptors the kernel passes in one message. Source: unix(7), SCM_MAX_FD."""

_INLINE = b"\0"
_MEMFD = b"\1"
# Only anonymous files and those of a tmpfs have seals to tell of. Source: linux/fcntl.h.
_F_GET_SEALS = 1034
_ANCILLARY = CMSG_SPACE(4 * MAX_FDS)


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

_encoder = Encoder()
decode_request = Decoder(Request).decode
decode_report = Decoder(Report).decode
decode_parked = Decoder(Parked).decode
decode_settle = Decoder(Settle).decode
decode_payload = Decoder(Payload).decode
decode_exec_payload = Decoder(ExecPayload).decode


def encode(message: Struct) -> bytes:
    """``message`` as it goes on the wire."""
    return _encoder.encode(message)


def memfd(name: str, content: bytes) -> int:
    """A descriptor of an anonymous file that holds ``content``; closed on exec."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_memfd(fd: int) -> bytes:
    """All that is in the file ``fd``, from its beginning."""
    chunks = []
    offset = 0
    while chunk := os.pread(fd, 1 << 20, offset):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)


def send(sock: socket, message: bytes, fds: Sequence[int] = ()) -> None:
    """Send an encoded message with copies of ``fds``, without waiting.

    Raises:
        BlockingIOError: the peer's queue is full.
        OSError: the peer is gone, or there are more than ``MAX_FDS`` descriptors.
    """
    if len(message) <= INLINE_LIMIT:
        _send(sock, _INLINE, message, fds)
        return
    carrier = memfd("boxrun-message", message)
    try:
        _send(sock, _MEMFD, b"", (carrier, *fds))
    finally:
        os.close(carrier)


def _send(sock: socket, kind: bytes, message: bytes, fds: Sequence[int]) -> None:
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([kind, message], ancillary, MSG_DONTWAIT)


def send_inline(sock: socket, message: bytes) -> None:
    """Send an encoded message in a datagram, however big that is, without waiting; for ``receive_inline``.

    Raises:
        BlockingIOError: the peer's queue is full.
        OSError: the peer is gone.
    """
    _send(sock, _INLINE, message, ())


def receive(sock: socket, limit: int = MESSAGE_LIMIT) -> tuple[bytes, list[int]] | None:
    """The next message and the descriptors beside it, which the caller owns; None at the end of the connection.

    Args:
        sock: the connection.
        limit: bytes that a message beside the datagram may have.

    Raises:
        BlockingIOError: nothing is there, on a non-blocking socket.
        OSError: the connection broke.
        ValueError: a datagram without its head, or what it refers to isn't a message.
    """
    data, ancillary, _, _ = sock.recvmsg(INLINE_LIMIT + 1, _ANCILLARY, MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            count = len(content) // 4
            fds.extend(unpack(f"{count}i", content[: 4 * count]))
    if not data:
        close_all(fds)
        return None
    if data[:1] == _INLINE:
        return data[1:], fds
    if data[:1] != _MEMFD or not fds:
        close_all(fds)
        raise ValueError(f"datagram of unknown kind {data[0]} with {len(fds)} descriptors")
    carrier = fds.pop(0)
    try:
        return _carried(carrier, limit), fds
    except (OSError, ValueError):
        close_all(fds)
        raise
    finally:
        os.close(carrier)


def _carried(carrier: int, limit: int) -> bytes:
    """What the file ``carrier`` holds, once it is sure that reading it neither waits for anybody nor goes on for ever.

    Raises:
        ValueError: it isn't in memory, or longer than ``limit``.
    """
    found = os.fstat(carrier)
    if not S_ISREG(found.st_mode) or found.st_size > limit:
        raise ValueError(f"a message of {found.st_size} bytes in a file of mode {found.st_mode:o}")
    try:
        fcntl(carrier, _F_GET_SEALS)
    except OSError as error:
        raise ValueError("a message in a file that is not in memory") from error
    # Whoever sent it may still make it longer: no more is read than it had.
    return os.pread(carrier, found.st_size, 0)


def receive_inline(sock: socket, limit: int) -> bytes | None:
    """The next message of somebody who isn't trusted: in the datagram, and nothing else; None at the end of the connection.

    Descriptors that come along are dropped by the kernel. They never become this process's own, as even closing one may mean
    to wait for its sender (a FUSE file system's flush).

    Raises:
        BlockingIOError: nothing is there, on a non-blocking socket.
        OSError: the connection broke.
        ValueError: the datagram has more than ``limit`` bytes, or isn't a message.
    """
    data, _, flags, _ = sock.recvmsg(limit + 1, 0)
    if not data:
        return None
    if data[:1] != _INLINE or flags & MSG_TRUNC:
        raise ValueError(f"datagram of kind {data[0]} and {'more than ' if flags & MSG_TRUNC else ''}{len(data)} bytes")
    return data[1:]


def close_all(fds: Sequence[int]) -> None:
    """Close every one of ``fds``."""
    for fd in fds:
        os.close(fd)
