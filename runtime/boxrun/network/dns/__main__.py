"""``python -m boxrun.network.dns FD RUN-DIRECTORY``: the name server's process, listening for its supervisor."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import sys

from boxrun.network.dns.server import NameServerProcess


async def _serve(listening: socket.socket) -> None:
    await NameServerProcess(listening).run()


def main() -> int:
    """Run the name server."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        asyncio.run(_serve(listening))
    return 0


if __name__ == "__main__":
    sys.exit(main())
