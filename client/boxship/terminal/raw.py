"""Raw mode: every key goes to the container, and the terminal is restored however the program ends."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Callable
from types import FrameType
from typing import Any

from boxship.errors import Terminated

_FATAL = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


class RawMode:
    """A terminal in raw mode; a context manager that restores it.

    Signals that would end the program end it after the terminal is restored. One that suspends it (SIGTSTP) restores the
    terminal first and makes it raw again when the program continues.

    Args:
        fd: the terminal.
        resumed: called when the program continues after it was suspended.
    """

    def __init__(self, fd: int, resumed: Callable[[], None] | None = None) -> None:
        self._fd = fd
        self._resumed = resumed
        self._saved: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> RawMode:
        self._saved = termios.tcgetattr(self._fd)
        # Handlers first: a signal between the two would leave the terminal raw.
        for signum in _FATAL:
            self._handlers[signum] = signal.signal(signum, self._terminate)
        self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._suspend)
        try:
            self._make_raw()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._handlers.clear()

    def _make_raw(self) -> None:
        mode = termios.tcgetattr(self._fd)
        mode[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN] = 1
        mode[6][termios.VTIME] = 0
        termios.tcsetattr(self._fd, termios.TCSANOW, mode)

    def _restore(self) -> None:
        if self._saved is not None:
            try:
                termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)
            except termios.error:
                # The terminal is gone (hung up); there is nothing left to restore.
                pass

    def _terminate(self, signum: int, _frame: FrameType | None) -> None:
        raise Terminated(signum)

    def _suspend(self, signum: int, _frame: FrameType | None) -> None:
        self._restore()
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        # Continues here after SIGCONT.
        signal.signal(signum, self._suspend)
        self._saved = termios.tcgetattr(self._fd)
        self._make_raw()
        if self._resumed is not None:
            self._resumed()


class NoEcho(RawMode):
    """A terminal that doesn't show what is typed, for passwords; a context manager that restores it.

    Args:
        fd: the terminal.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd)

    def _make_raw(self) -> None:
        mode = termios.tcgetattr(self._fd)
        mode[3] &= ~termios.ECHO
        # What was typed before the question was shown is no answer to it.
        termios.tcsetattr(self._fd, termios.TCSAFLUSH, mode)


def window_size(fd: int) -> tuple[int, int]:
    """A terminal's (height, width) in characters, (0, 0) where it has none."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return size.lines, size.columns
