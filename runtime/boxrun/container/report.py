"""How the child tells its parent why it failed: one message on a pipe that closes by itself when the program is executed."""

from __future__ import annotations

import os

from boxrun.errors import SetupError, StartError, StartFault

_LIMIT = 4096


def send(fd: int, error: StartFault) -> None:
    """Write ``error``; nobody reading is no reason to fail differently."""
    kind = "h" if isinstance(error, SetupError) else "c"
    head = f"{kind}\0{error.step}\0{error.errno}\0{error.exit_code}\0"
    try:
        os.write(fd, (head + error.message).encode(errors="surrogateescape")[:_LIMIT])
    except OSError:
        pass


def receive(fd: int) -> StartFault | None:
    """Wait until the program runs (None) or the child has failed; the pipe's writing end must be closed in this process."""
    content = os.read(fd, _LIMIT)
    if not content:
        return None
    try:
        kind, step, errno, exit_code, message = content.decode(errors="replace").split("\0", 4)
        fault = SetupError if kind == "h" else StartError
        return fault(step, int(errno), message, int(exit_code))
    except ValueError:
        # Where the container may trace processes, it can write here as well.
        return SetupError("report", 0, "the process said something unintelligible before its program")
