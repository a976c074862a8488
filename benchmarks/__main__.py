"""`make bench`, or `python -m benchmarks [SUITE ...] [--peers NAME,…] [--rounds N]`; `--help` names the suites."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack

from benchmarks import (
    builds,
    cli,
    follow,
    health,
    image,
    images,
    logs,
    memory,
    network,
    start,
    stats,
    thousand,
    traffic,
)
from benchmarks import exec as execs
from benchmarks.engine import PEERS, installed

SUITES = {
    "start": start.run,
    "cli": cli.run,
    "exec": execs.run,
    "health": health.run,
    "memory": memory.run,
    "logs": logs.run,
    "follow": follow.run,
    "stats": stats.run,
    "images": images.run,
    "builds": builds.run,
    "network": network.run,
    "ports": network.run_ports,
    "traffic": traffic.run,
    "thousand": thousand.run,
}


def main() -> None:
    """Run the suites asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}, bus; all of them where none is named"
    )
    parser.add_argument("--peers", default=",".join(installed()))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("benchmarks run real containers: be root")
    wanted = options.suites or [*SUITES, "bus"]
    if unknown := set(wanted) - {*SUITES, "bus"}:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    suites = [name for name in wanted if name in SUITES]
    if suites:
        with ExitStack() as stack:
            engines = [stack.enter_context(PEERS[name]()) for name in options.peers.split(",")]
            for engine in engines:
                asyncio.run(image.load(engine))
            for name in suites:
                SUITES[name](engines, options.rounds)
    if "bus" in wanted:
        subprocess.run([sys.executable, "-m", "benchmarks.bus"], check=True)


if __name__ == "__main__":
    main()
