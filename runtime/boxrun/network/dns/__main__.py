"""``python -m boxrun.network.dns FD RUN-DIRECTORY``: the name server's process, listening for its supervisor."""

from __future__ import annotations

import sys

from boxrun.network.companion import process
from boxrun.network.dns.server import NameServerProcess

if __name__ == "__main__":
    sys.exit(process.run(lambda listening: NameServerProcess(listening).run()))
