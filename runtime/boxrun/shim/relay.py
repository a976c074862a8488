"""The relay: a container's output to its log and its attached clients, and the clients' input to the container.

Everything is non-blocking. Output is read only while the log takes it and no client's buffer is full, so that the container,
not the shim's memory, waits; input is read only while the container takes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from fcntl import fcntl
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from time import monotonic, sleep

from boxrun.shim.clients import STALL_SECONDS, Client, Input, Stream
from boxrun.shim.complaints import complain
from boxrun.shim.logs import LogWriter, Position
from boxrun.shim.poller import Poller

READ_SIZE = 65536
"""Bytes read from the container at a time, until it has shown that it writes more."""

BULK_SIZE = 1 << 20
"""Size of pipe and reads once a whole ``READ_SIZE`` was waiting: the kernel's limit for unprivileged pipes."""

GATHER_SECONDS = 0.001
"""How long a container that writes much is left to fill its pipe: every write taken as it comes costs it and us a wake-up."""

STDIN_LIMIT = 1 << 18
"""Bytes of input that may wait for the container before its clients are held back."""

RETRY_SECONDS = 1.0
"""How often a log that the disk refuses is tried again."""

TELL_SECONDS = 0.5
"""How long after messages were dropped that is told: they seldom come alone."""

_F_SETPIPE_SZ = 1031


class Relay:
    """Moves bytes between one container and its clients."""

    __slots__ = (
        "_clients",
        "_connected",
        "_detached",
        "_draining",
        "_dropped",
        "_gates",
        "_held",
        "_log",
        "_name",
        "_outputs",
        "_poller",
        "_read_sizes",
        "_retry_at",
        "_stdin",
        "_stdin_ending",
        "_stdin_once",
        "_stdin_queue",
        "_stdin_waiting",
        "_tell_at",
        "_tell_dropped",
        "_terminal",
    )

    def __init__(
        self,
        poller: Poller,
        log: LogWriter,
        *,
        terminal: bool,
        stdin_once: bool,
        detached: Callable[[], None],
        log_dropped: Callable[[int], None] = lambda _: None,
        name: str = "",
    ) -> None:
        """Relay through ``poller`` and to ``log``.

        Args:
            poller: waits for every descriptor.
            log: gets all output.
            terminal: the container has one.
            stdin_once: the input ends with the first client's.
            detached: called when a client leaves by its keys.
            log_dropped: called now and then with the number of messages that the log has given up.
            name: the container's, for complaints.
        """
        self._poller = poller
        self._log = log
        self._terminal = terminal
        self._stdin_once = stdin_once and not terminal
        self._detached = detached
        self._outputs: dict[int, Stream] = {}
        self._read_sizes: dict[int, int] = {}
        self._clients: dict[int, Client] = {}
        self._connected = False
        self._held = False
        self._draining = False
        self._retry_at: float | None = None
        self._tell_dropped = log_dropped
        self._name = f"boxrun-shim {name}"
        self._dropped = log.dropped
        self._tell_at: float | None = None
        self._gates: dict[int, Client] = {}
        self._stdin: int | None = None
        self._stdin_queue: list[bytes] = []
        self._stdin_waiting = 0
        self._stdin_ending = False

    # The container's end.

    def connect(self, stdin: int | None, outputs: dict[int, Stream]) -> None:
        """Take over the container's descriptors: where its input goes, and where its output comes from."""
        self._connected = True
        self._log.serve(self._poller, self._balance)
        self._stdin = stdin
        if stdin is not None:
            os.set_blocking(stdin, False)
        for fd, stream in outputs.items():
            os.set_blocking(fd, False)
            self._outputs[fd] = stream
            self._read_sizes[fd] = READ_SIZE
            if not self._held:
                self._poller.watch(fd, EPOLLIN, self.output_ready)
        for client in list(self._clients.values()):
            self._welcome(client)

    @property
    def outputs(self) -> dict[int, Stream]:
        """Where output may still come from."""
        return self._outputs

    @property
    def stdin(self) -> int | None:
        """Where input goes, None where that is closed."""
        return self._stdin

    @property
    def idle(self) -> bool:
        """True while nothing is held here that would be lost with the process: clients, input, or output."""
        return not (self._clients or self._stdin_queue or self._held or self._tell_at or self._log.pending)

    @property
    def open(self) -> bool:
        """True while output may come."""
        return bool(self._outputs)

    @property
    def busy(self) -> bool:
        """True while there are clients."""
        return bool(self._clients)

    def output_ready(self, fd: int, _events: int) -> None:
        """Read a descriptor of the container's output once."""
        size = self._read_sizes[fd]
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            return
        except OSError:
            # A terminal's master says EIO when nobody has the other end open any more.
            data = b""
        if not data:
            self._close_output(fd)
            return
        if len(data) == size == READ_SIZE:
            self._read_sizes[fd] = BULK_SIZE
            with suppress(OSError):
                fcntl(fd, _F_SETPIPE_SZ, BULK_SIZE)
        self._distribute(self._outputs[fd], data)
        if size == BULK_SIZE and len(data) < BULK_SIZE // 4 and not self._draining:
            sleep(GATHER_SECONDS)

    def _distribute(self, stream: Stream, data: bytes) -> None:
        self._log.write(stream, data)
        for client in list(self._clients.values()):
            if not client.wants(stream):
                continue
            if client.output(stream, data):
                self._interest(client)
            else:
                self._drop(client)
        self._balance()

    def _close_output(self, fd: int) -> None:
        self._poller.forget(fd)
        del self._outputs[fd]
        os.close(fd)

    def _balance(self) -> None:
        """Read the container's output just while it can be put somewhere."""
        stalled = self._log.stalled
        if self._retry_at is None and self._log.waiting:
            self._retry_at = monotonic() + RETRY_SECONDS
        if self._tell_at is None and self._log.dropped != self._dropped:
            self._tell_at = monotonic() + TELL_SECONDS
        held = stalled or (not self._draining and any(client.full for client in self._clients.values()))
        if held == self._held:
            return
        self._held = held
        for fd in self._outputs:
            if held:
                self._poller.forget(fd)
            else:
                self._poller.watch(fd, EPOLLIN, self.output_ready)

    def drain(self) -> None:
        """The container has ended: read what is left of its output, whether clients keep up or not."""
        self._draining = True
        self._close_stdin()
        self._balance()
        for fd in list(self._outputs):
            # As much as the largest pipe holds; if somebody still writes, the rest comes by way of the loop.
            for _ in range(2 * BULK_SIZE // READ_SIZE):
                if fd in self._outputs and not self._held:
                    self.output_ready(fd, EPOLLIN)

    def abandon_output(self) -> None:
        """Stop waiting for an end of output that somebody outside of the container holds open."""
        for fd in list(self._outputs):
            self._close_output(fd)

    @property
    def log_dropped(self) -> int:
        """How many messages the log has given up since the container's start."""
        return self._log.dropped

    @log_dropped.setter
    def log_dropped(self, messages: int) -> None:
        self._log.dropped = self._dropped = messages

    def suspend_log(self) -> dict[Stream, bytes]:
        """Close the log for a successor, which is to write the beginnings of lines that are returned."""
        return self._log.suspend()

    def close_log(self) -> None:
        """Close the log: nothing more is written to it."""
        self._log.close()

    # The clients' end.

    def attach(self, client: Client) -> None:
        """Add a client; before ``connect`` it just waits."""
        self._clients[client.fd] = client
        client.interest = -1
        if self._connected:
            self._welcome(client)
        else:
            self._interest(client)

    def attach_gated(self, client: Client, gate: int) -> Position:
        """Add a client that gets nothing before a byte comes through the pipe ``gate``, and goes where that ends without one.

        Returns:
            How far the log is written: what comes after that is what the client gets.
        """
        client.gated = True
        self._gates[gate] = client
        self.attach(client)
        self._poller.watch(gate, EPOLLIN, self._gate_ready)
        return self._log.position()

    def _gate_ready(self, gate: int, _events: int) -> None:
        client = self._gates.pop(gate)
        self._poller.forget(gate)
        opened = os.read(gate, 1)
        os.close(gate)
        if self._clients.get(client.fd) is not client:
            return
        client.gated = False
        if opened and client.flush():
            self._interest(client)
            self._balance()
        else:
            self._drop(client)

    def _welcome(self, client: Client) -> None:
        client.stdin = client.stdin and self._stdin is not None
        self._hear(client, client.first_input())
        if client.fd in self._clients:
            self._interest(client)

    def finish(self) -> None:
        """Say goodbye to every client: what waits for it is still written, then comes the end of its stream."""
        for client in list(self._clients.values()):
            self._end(client)

    def let_go(self) -> None:
        """Let go of every client without a word: whoever sent them here still has them, and goes on with them."""
        for client in list(self._clients.values()):
            self._drop(client)

    def _interest(self, client: Client) -> None:
        wanted = EPOLLOUT if client.pending else 0
        if client.input_open and not (client.stdin and not client.ending and self._stdin_full):
            wanted |= EPOLLIN
        if wanted == client.interest:
            return
        if client.interest < 0:
            self._poller.watch(client.fd, wanted, self._client_ready)
        else:
            self._poller.change(client.fd, wanted)
        client.interest = wanted

    def _client_ready(self, fd: int, events: int) -> None:
        client = self._clients[fd]
        if events & EPOLLOUT and not client.flush():
            self._drop(client)
            return
        if events & EPOLLIN and client.input_open:
            self._hear(client, client.read())
        elif events & (EPOLLHUP | EPOLLERR):
            if client.input_open and not events & EPOLLIN and client.interest & EPOLLIN == 0:
                # It has gone, but what it sent before is still to be read once the container takes more.
                self._poller.forget(fd)
                client.interest = -1
                return
            self._drop(client)
            return
        if fd in self._clients:
            self._interest(client)
            self._balance()

    def _hear(self, client: Client, heard: Input) -> None:
        if heard.data:
            self._feed(heard.data)
        if heard.detached:
            self._detached()
            self._end(client)
        elif heard.gone:
            self._drop(client)
        elif heard.ended and client.stdin:
            if self._stdin_once:
                self._end_stdin()
            else:
                self._end(client)

    def _end(self, client: Client) -> None:
        if client.finish():
            self._interest(client)
        else:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        if client.interest >= 0:
            self._poller.forget(client.fd)
        self._clients.pop(client.fd, None)
        if client.stdin and not client.ending and self._stdin_once:
            self._end_stdin()
        client.close()
        self._balance()

    # The container's input.

    @property
    def _stdin_full(self) -> bool:
        return not self._connected or self._stdin_waiting >= STDIN_LIMIT

    def _feed(self, data: bytes) -> None:
        if self._stdin is None or self._stdin_ending:
            return
        if not self._stdin_queue:
            self._poller.watch(self._stdin, EPOLLOUT, self._stdin_ready)
        self._stdin_queue.append(data)
        self._stdin_waiting += len(data)
        self._stdin_ready(self._stdin, EPOLLOUT)

    def _stdin_ready(self, fd: int, _events: int) -> None:
        was_full = self._stdin_full
        while self._stdin_queue:
            data = self._stdin_queue[0]
            try:
                written = os.write(fd, data)
            except BlockingIOError:
                break
            except OSError:
                # The container has closed its input.
                self._close_stdin()
                break
            self._stdin_waiting -= written
            if written < len(data):
                self._stdin_queue[0] = data[written:]
            else:
                del self._stdin_queue[0]
        else:
            self._poller.forget(fd)
            if self._stdin_ending:
                self._close_stdin()
        if was_full and not self._stdin_full:
            for client in list(self._clients.values()):
                self._interest(client)

    def _end_stdin(self) -> None:
        """Close the container's input once it has got what was sent."""
        self._stdin_ending = True
        if not self._stdin_queue:
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            self._poller.forget(self._stdin)
            os.close(self._stdin)
            self._stdin = None
        self._stdin_queue.clear()
        self._stdin_waiting = 0

    # Time.

    def deadline(self) -> float | None:
        """When ``expire`` is due next (monotonic seconds), or None."""
        due = [moment for moment in (self._retry_at, self._tell_at) if moment is not None]
        due += [deadline for client in self._clients.values() if (deadline := client.deadline()) is not None]
        return min(due, default=None)

    def expire(self, now: float) -> None:
        """Give up clients that stall, and try a refused log again."""
        for client in list(self._clients.values()):
            deadline = client.deadline()
            if deadline is not None and deadline <= now and not client.excuse(now):
                if client.stalled:
                    complain(self._name, f"cut off an attached client that took next to nothing for {STALL_SECONDS:.0f} s")
                self._drop(client)
        if self._tell_at is not None and self._tell_at <= now:
            self._tell_at, self._dropped = None, self._log.dropped
            self._tell_dropped(self._dropped)
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            self._log.retry()
            self._balance()
