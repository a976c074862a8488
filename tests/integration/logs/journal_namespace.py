"""Run by ``test_journald`` in a mount namespace of its own: a daemon, and a journal at the place where journals are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.daemon import Daemon
from support.daemons import stocked
from support.receivers import Journal

SOCKET = "/run/systemd/journal/socket"


def main(directory: str) -> None:
    """Run containers whose logs go to the journal, and look at what comes there."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/systemd" if Path("/run/systemd").exists() else "/run"], check=True)
    with stocked(Daemon()) as daemon:
        arguments = [
            "run",
            "--log-driver=journald",
            "--log-opt=tag={{.Name}}",
            "--log-opt=labels=my.label",
            "--label=my.label=v",
        ]
        refused = daemon.cli("docker", *arguments, "busybox", "true", code=125)
        assert b"failed to initialize logging driver: journald is not enabled on this host" in refused.stderr
        os.makedirs(os.path.dirname(SOCKET))
        with Journal(SOCKET) as journal:
            command = "echo hello; echo oops >&2; head -c 1500000 /dev/zero | tr '\\0' x; echo"
            ident = daemon.cli("docker", *arguments, "-d", "--name=jou", "busybox", "sh", "-c", command).stdout.decode().strip()
            entries = journal.wait(4)
            daemon.wait_state(ident, "exited")
            assert daemon.cli("docker", "logs", "--tail=1", ident).stdout == b"x" * 451424 + b"\n"
        by_message = {entry["MESSAGE"][:5]: entry for entry in entries}
        first = by_message[b"hello"]
        assert first["PRIORITY"] == b"6"
        assert first["CONTAINER_ID"] == ident[:12].encode()
        assert first["CONTAINER_ID_FULL"] == ident.encode()
        assert first["CONTAINER_NAME"] == first["CONTAINER_TAG"] == first["SYSLOG_IDENTIFIER"] == b"jou"
        assert first["IMAGE_NAME"] == b"busybox"
        assert first["MY_LABEL"] == b"v"
        assert by_message[b"oops"]["PRIORITY"] == b"3"
        pieces = [entry for entry in entries if entry["MESSAGE"].startswith(b"x")]
        assert b"".join(piece["MESSAGE"] for piece in pieces) == b"x" * 1500000
        assert [piece["CONTAINER_PARTIAL_ORDINAL"] for piece in pieces] == [b"1", b"2"]
        assert [piece["CONTAINER_PARTIAL_LAST"] for piece in pieces] == [b"false", b"true"]
        assert "CONTAINER_PARTIAL_MESSAGE" in pieces[0]
        assert "CONTAINER_PARTIAL_MESSAGE" not in pieces[1]


if __name__ == "__main__":
    main(sys.argv[1])
