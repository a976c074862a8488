"""What the daemon asks a build's client for, answered on a thread of its own. Protocol: ``boxship.types.build_session``."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from boxship.api import API
from boxship.building.values import Agent, Secret
from boxship.errors import BoxshipError, CommandError, NotFound, ProtocolError
from boxship.types.build_session import CHUNK, WINDOW, Frame
from boxship.websocket import Handshake, MessageSocket

if TYPE_CHECKING:
    from boxship.building.outputs import Receiver

Chunks = Callable[[], Iterator[bytes]]
# Bytes queued to the daemon above which nothing more is read of what they come from.
_QUEUED = 4 * CHUNK
_LIMIT = 500 * 1024
"""The largest secret, in bytes, as with BuildKit."""


class Supplies:
    """What a client has for its build.

    Args:
        contexts: by name, what makes a tar stream of each.
        secrets: the secrets.
        agents: the SSH agents.
        receivers: where outputs go, by their number in the request, and cache, by ``cache-to:`` and its number.
    """

    def __init__(
        self,
        contexts: Mapping[str, Chunks],
        secrets: Sequence[Secret] = (),
        agents: Sequence[Agent] = (),
        receivers: Mapping[str, Receiver] | None = None,
    ) -> None:
        self.contexts = contexts
        self.secrets = {secret.id: secret for secret in secrets}
        self.agents = {agent.id: agent for agent in agents}
        self.receivers = receivers or {}


class Session:
    """A session with the daemon for one build; a context manager that ends it.

    Args:
        api: the daemon.
        supplies: what is answered.

    Raises:
        CommandError: the daemon has no build sessions.
        APIError: it refused.

    Attributes:
        id: what the build's request names.
    """

    def __init__(self, api: API, supplies: Supplies) -> None:
        self.id = os.urandom(16).hex()
        self._supplies = supplies
        handshake = Handshake()
        try:
            stream, received, headers = api.upgrade("/build/session", {"id": self.id}, handshake.headers)
        except NotFound as error:
            raise CommandError("the daemon has no build sessions: it is another maker's, whose own client builds") from error
        try:
            handshake.check(headers)
        except ProtocolError:
            stream.close()
            raise
        self._socket = MessageSocket(stream, received)
        self._streams: dict[int, _Stream] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._ending = False
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Frame)
        self._thread = threading.Thread(target=self._run, name="build-session", daemon=True)
        self.failure: BaseException | None = None
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending = True
        self.wake()
        self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # For streams

    def send(self, frame: Frame) -> None:
        """Queue a frame; only from the session's thread."""
        self._socket.write(self._encoder.encode(frame))

    def wake(self) -> None:
        """Have the session's thread look at its streams; from any thread."""
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            # It is awake already.
            return

    def forget(self, number: int) -> None:
        """A stream has ended."""
        if stream := self._streams.pop(number, None):
            stream.close()

    def _run(self) -> None:
        try:
            while not self._ending and not self._socket.ended:
                self._turn()
        except (BoxshipError, OSError, msgspec.MsgspecError) as error:
            if not self._ending:
                self.failure = error
        finally:
            for number in list(self._streams):
                self.forget(number)
            self._socket.close()

    def _turn(self) -> None:
        progressed = False
        while (message := self._socket.read_now()) is not None:
            if not message:
                return
            self._take(self._decoder.decode(message))
            progressed = True
        if self._socket.unsent < _QUEUED:
            for stream in list(self._streams.values()):
                progressed |= stream.pump()
        if progressed and self._socket.unsent < _QUEUED:
            return
        self._wait()

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._socket.fileno(), select.POLLIN | (select.POLLOUT if self._socket.unsent else 0))
        poller.register(self._wake_read, select.POLLIN)
        if self._socket.unsent < _QUEUED:
            for stream in self._streams.values():
                if stream.waits_for >= 0:
                    poller.register(stream.waits_for, select.POLLIN)
        for descriptor, _ in poller.poll():
            if descriptor == self._wake_read:
                os.read(self._wake_read, 4096)
        self._socket.flush()

    def _take(self, frame: Frame) -> None:
        if frame.kind == "open":
            self._open(frame)
            return
        stream = self._streams.get(frame.stream)
        if stream is None:
            return
        if frame.kind == "ack":
            stream.window += frame.count
        elif frame.kind == "data":
            stream.data(frame.data)
        elif frame.kind == "end":
            stream.end()
        else:
            self.forget(frame.stream)

    def _open(self, frame: Frame) -> None:
        try:
            stream = self._make(frame)
        except (BoxshipError, OSError) as error:
            self.send(Frame(stream=frame.stream, kind="error", message=str(error)))
            return
        if stream is None:
            what = {"context": "context", "secret": "secret", "agent": "ssh agent", "receive": "output"}.get(
                frame.method, "thing"
            )
            message = f"the client has no {what} {frame.name}"
            self.send(Frame(stream=frame.stream, kind="error", message=message, missing=True))
            return
        self._streams[frame.stream] = stream

    def _make(self, frame: Frame) -> _Stream | None:
        supplies = self._supplies
        if frame.method == "context" and (chunks := supplies.contexts.get(frame.name)):
            return _Sending(self, frame.stream, chunks())
        if frame.method == "secret" and (secret := supplies.secrets.get(frame.name)):
            data = secret.read()
            if len(data) > _LIMIT:
                raise ProtocolError(f"secret {secret.id} has {len(data)} bytes, more than the {_LIMIT} allowed")
            return _Sending(self, frame.stream, iter((data,)))
        if frame.method == "agent" and (agent := supplies.agents.get(frame.name)):
            return _Connected(self, frame.stream, agent)
        if frame.method == "receive" and (receiver := supplies.receivers.get(frame.name)):
            return _Receiving(self, frame.stream, receiver)
        return None


class _Stream:
    """One stream.

    ``window``: bytes that may still be sent. ``waits_for``: a descriptor that makes ``pump`` worth while, or -1.
    """

    def __init__(self, session: Session, number: int) -> None:
        self.session = session
        self.number = number
        self.window = WINDOW
        self.waits_for = -1

    def pump(self) -> bool:
        """Send something that is there to be sent; whether there was."""
        return False

    def data(self, data: bytes) -> None:
        """The daemon sent something."""

    def end(self) -> None:
        """The daemon sends nothing more."""

    def close(self) -> None:
        """The stream is over."""

    def _fail(self, error: BaseException) -> None:
        self.session.send(Frame(stream=self.number, kind="error", message=str(error)))
        self.session.forget(self.number)


class _Sending(_Stream):
    """Bytes that are here, sent as they are asked for."""

    def __init__(self, session: Session, number: int, chunks: Iterator[bytes]) -> None:
        super().__init__(session, number)
        self._chunks = chunks
        self._rest = b""

    def pump(self) -> bool:
        if self.window <= 0:
            return False
        try:
            piece = self._rest or next(self._chunks, None)
        except (BoxshipError, OSError) as error:
            self._fail(error)
            return True
        if piece is None:
            self.session.send(Frame(stream=self.number, kind="end"))
            self.session.forget(self.number)
            return True
        limit = min(CHUNK, self.window)
        sent, self._rest = piece[:limit], piece[limit:]
        self.window -= len(sent)
        if sent:
            self.session.send(Frame(stream=self.number, kind="data", data=sent))
        return True


class _Connected(_Stream):
    """A connection to an SSH agent."""

    def __init__(self, session: Session, number: int, agent: Agent) -> None:
        super().__init__(session, number)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(agent.path)
        except OSError as error:
            self._socket.close()
            raise ProtocolError(f"connect to ssh agent {agent.id} at {agent.path}: {error.strerror or error}") from error
        self._ended = False
        self.waits_for = self._socket.fileno()

    def pump(self) -> bool:
        if self._ended or self.window <= 0:
            self.waits_for = -1
            return False
        self.waits_for = self._socket.fileno()
        try:
            piece = self._socket.recv(min(CHUNK, self.window), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            self._fail(error)
            return True
        self.window -= len(piece)
        if piece:
            self.session.send(Frame(stream=self.number, kind="data", data=piece))
        else:
            self._ended = True
            self.session.send(Frame(stream=self.number, kind="end"))
        return True

    def data(self, data: bytes) -> None:
        # An agent's messages are small and it answers each: waiting for it here holds up nobody for long.
        try:
            self._socket.sendall(data)
        except OSError as error:
            self._fail(error)
            return
        self.session.send(Frame(stream=self.number, kind="ack", count=len(data)))

    def end(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            # It has gone already, which ``pump`` will see.
            return

    def close(self) -> None:
        self._socket.close()


class _Receiving(_Stream):
    """An output that arrives, written by a thread of its own, so that a slow disk holds up nothing else."""

    def __init__(self, session: Session, number: int, receiver: Receiver) -> None:
        import queue

        super().__init__(session, number)
        self._receiver = receiver
        self._arrived: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._taken = 0
        self._lock = threading.Lock()
        self._outcome: BaseException | None = None
        self._done = False
        self._whole = False
        self._thread = threading.Thread(target=self._write, name="build-output", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        try:
            self._receiver.write(self._pieces())
        except (BoxshipError, OSError) as error:
            self._outcome = error
        self._done = True
        self.session.wake()

    def _pieces(self) -> Iterator[bytes]:
        while (piece := self._arrived.get()) is not None:
            yield piece
            with self._lock:
                self._taken += len(piece)
            self.session.wake()
        if not self._whole:
            raise ProtocolError("the output ended before it was whole")

    def pump(self) -> bool:
        with self._lock:
            taken, self._taken = self._taken, 0
        if taken and not self._done:
            self.session.send(Frame(stream=self.number, kind="ack", count=taken))
        if self._done:
            if self._outcome is not None:
                self._fail(self._outcome)
            else:
                self.session.send(Frame(stream=self.number, kind="end"))
                self.session.forget(self.number)
            return True
        return bool(taken)

    def data(self, data: bytes) -> None:
        self._arrived.put(data)

    def end(self) -> None:
        self._whole = True
        self._arrived.put(None)

    def close(self) -> None:
        self._arrived.put(None)
        self._thread.join()
