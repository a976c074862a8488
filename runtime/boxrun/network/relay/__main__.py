"""``python -m boxrun.network.relay FD RUN-DIRECTORY``: the relay's process, listening for its supervisor."""

from __future__ import annotations

import socket
import sys

from boxrun.linux.process import capset
from boxrun.network.companion import process
from boxrun.network.relay.server import RelayProcess


async def _serve(listening: socket.socket) -> None:
    # Its sockets are bound already, and it talks to anybody: it needs to be allowed nothing.
    capset(0, 0, 0)
    await RelayProcess(listening).run()


if __name__ == "__main__":
    sys.exit(process.run(_serve))
