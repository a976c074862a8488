"""An attached container: local streams and signals joined with the container's until it ends or is detached from."""

from __future__ import annotations

import os
import select
import signal
import sys
from types import FrameType
from typing import Any

from boxship.api import API
from boxship.errors import APIError, BoxshipError, CommandError, ProtocolError
from boxship.http.duplex import Duplex
from boxship.http.target import quote
from boxship.streams import STDERR, SYSTEM_ERROR, Demultiplexer
from boxship.terminal.detach import DEFAULT, DetachKeys, parse_keys

_STDIN = 0
_STDOUT = 1
_STDERR = 2
_READ_BYTES = 65536
# Reading our input stops while this much of it waits to be sent.
_HIGH_WATER = 262144
# These mean something to this process only: its children, its pipes, its own terminal and job control.
_OWN_SIGNALS = frozenset(
    (
        signal.SIGCHLD,
        signal.SIGPIPE,
        signal.SIGURG,
        signal.SIGWINCH,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGKILL,
        signal.SIGSTOP,
    )
)


DETACHED = "read escape sequence"
"""What ``attach`` and ``exec`` say, with status 1, when they are detached: they didn't see the end. ``run`` and ``start`` have
done what they were asked to. Source: docker/cli, by trying."""


class Detached(Exception):  # noqa: N818 - an outcome, not a failure
    """The detach keys were typed."""


class SignalProxy:
    """Passes every signal on to a container; a context manager that puts the former handlers back.

    Args:
        api: the daemon.
        container: id or name.
    """

    def __init__(self, api: API, container: str) -> None:
        self._api = api
        self._container = container
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> SignalProxy:
        for signum in signal.valid_signals() - _OWN_SIGNALS:
            try:
                self._handlers[signum] = signal.signal(signum, self._forward)
            except OSError:
                # The C library keeps two real-time signals for its threads.
                continue
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)

    def _forward(self, signum: int, _frame: FrameType | None) -> None:
        try:
            name = signal.Signals(signum).name
        except ValueError:
            name = str(signum)
        try:
            self._api.call("POST", f"/containers/{quote(self._container)}/kill", {"signal": name})
        except BoxshipError:
            # Not running yet, or not any more: the signal has nobody to reach, as a signal to a dead process hasn't.
            return


class WindowFollower:
    """Keeps a container's or exec's terminal at the size of ours; a context manager.

    Args:
        api: the daemon.
        subject: id or name.
        fd: our terminal.
        collection: what it is one of: ``containers`` or ``exec``.
    """

    def __init__(self, api: API, subject: str, fd: int, *, collection: str = "containers") -> None:
        self._api = api
        self._path = f"/{collection}/{quote(subject)}/resize"
        self._fd = fd
        self._former: Any = None

    def __enter__(self) -> WindowFollower:
        self._former = signal.signal(signal.SIGWINCH, lambda _signum, _frame: self.apply())
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGWINCH, self._former if self._former is not None else signal.SIG_DFL)

    def apply(self) -> None:
        """Set the size."""
        from boxship.terminal.raw import window_size

        height, width = window_size(self._fd)
        if not height or not width:
            return
        try:
            self._api.call("POST", self._path, {"h": height, "w": width})
        except BoxshipError:
            # The container may not have started yet or be gone; its size is set again when it starts.
            return


class Attached:
    """Joins local streams with a container's.

    Args:
        duplex: the container's streams, owned from here on.
        multiplexed: whether they carry stdout and stderr apart.
        stdin: whether our standard input goes to the container.
        detach_keys: Docker's notation, empty for the default; only heeded where our input is a terminal.
        tty: whether the container has a terminal.
    """

    def __init__(self, duplex: Duplex, *, multiplexed: bool, stdin: bool, tty: bool, detach_keys: str = "") -> None:
        self._duplex = duplex
        self._demultiplexer = Demultiplexer() if multiplexed else None
        self._stdin = stdin
        self._keys = DetachKeys(parse_keys(detach_keys or DEFAULT)) if tty and stdin else None

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_: object) -> None:
        self._duplex.close()

    def run(self) -> None:
        """Carry bytes until the container's output ends.

        Raises:
            Detached: the detach keys were typed.
            ProtocolError: the connection broke.
        """
        sys.stdout.flush()
        poller = select.poll()
        stream = self._duplex.fileno()
        watching_input = False
        while True:
            poller.register(stream, select.POLLIN | (select.POLLOUT if self._duplex.unsent else 0))
            wants_input = self._stdin and self._duplex.unsent < _HIGH_WATER
            if wants_input != watching_input:
                watching_input = wants_input
                if wants_input:
                    poller.register(_STDIN, select.POLLIN)
                else:
                    poller.unregister(_STDIN)
            for fd, events in poller.poll(0 if self._duplex.pending else None):
                if fd == _STDIN:
                    self._stdin = self._forward_input()
                elif events & select.POLLOUT:
                    self._flush()
            if not self._forward_output():
                return

    def _flush(self) -> None:
        try:
            self._duplex.flush()
        except ProtocolError:
            # The container is gone and takes no more input; what it wrote may still be on its way.
            self._duplex.discard()
            self._stdin = False

    def _forward_input(self) -> bool:
        try:
            data = os.read(_STDIN, _READ_BYTES)
        except OSError:
            data = b""
        detached = False
        if self._keys is not None:
            data, detached = self._keys.feed(data)
            if not data and not detached:
                return True
        try:
            if data:
                self._duplex.write(data)
            elif not detached:
                self._duplex.finish_writing()
                return False
        except ProtocolError:
            self._duplex.discard()
            return False
        if detached:
            raise Detached
        return True

    def _forward_output(self) -> bool:
        while (data := self._duplex.read_now()) is not None:
            if not data:
                return False
            if self._demultiplexer is None:
                write_all(_STDOUT, data)
                continue
            for kind, piece in self._demultiplexer.feed(data):
                if kind == SYSTEM_ERROR:
                    raise ProtocolError(piece.decode("utf-8", "replace").strip())
                write_all(_STDERR if kind == STDERR else _STDOUT, piece)
        return True


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data`` to a descriptor."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            # Somebody who shares this terminal or pipe made it non-blocking.
            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()


class Exit:
    """A container's exit status, waited for from before it starts so that none is missed.

    Args:
        api: the daemon.
        container: its id.
        removal: whether the container's removal is to be awaited as well (``--rm``).
        running: whether it runs already.
    """

    def __init__(self, api: API, container: str, *, removal: bool, running: bool = False) -> None:
        self._api = api
        self._container = container
        self._condition = "removed" if removal else "not-running" if running else "next-exit"
        self._response = self._register()

    def _register(self) -> Any:
        # The daemon answers with the head at once, which says that it is waiting.
        return self._api.open("POST", f"/containers/{quote(self._container)}/wait", {"condition": self._condition})

    def status(self) -> int:
        """Wait for it.

        Raises:
            CommandError: it can't be known (status 125).
        """
        import json

        try:
            with self._response as response:
                answer = response.read()
        except ProtocolError:
            # The daemon went away; the container need not have.
            answer = self._ask_again()
        result = json.loads(answer)
        error = (result.get("Error") or {}).get("Message")
        if error:
            raise CommandError(f"Error waiting for container: {error}", 125)
        return int(result["StatusCode"])

    def _ask_again(self) -> bytes:
        import time

        if self._condition == "next-exit":
            self._condition = "not-running"
        deadline = time.monotonic() + 30
        while True:
            try:
                with self._register() as response:
                    answer: bytes = response.read()
                    return answer
            except APIError as error:
                raise CommandError(f"Error waiting for container: {error}", 125) from error
            except BoxshipError as error:
                if time.monotonic() > deadline:
                    raise CommandError(f"Error waiting for container: {error}", 125) from error
                # A daemon that restarts can't tell us when it is back.
                time.sleep(0.1)
