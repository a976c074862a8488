"""An ssh server on loopback, with keys and a port of its own, whose logins find our commands."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.daemon import wait_until

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")


class SSHServer:
    """Debian's sshd; a context manager that stops it.

    Attributes:
        address: what ``ssh://`` addresses begin with.
        known: a file that says whose key is the server's.
        log: what the server says.
        programs: a directory whose ``ssh`` knows the server's key and has one to log in with, for the front of ``PATH``.
    """

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="boxship-sshd-"))
        self.programs = self.home / "bin"
        self.programs.mkdir()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self._port = sock.getsockname()[1]
        self.address = f"ssh://{getpass.getuser()}@127.0.0.1:{self._port}"
        self.known, self.log = self.home / "known", self.home / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SSHServer:
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.home / name], check=True)
        (self.home / "authorized").write_bytes((self.home / "user.pub").read_bytes())
        # What a machine with Boxship has on its path.
        far = self.home / "far"
        far.mkdir()
        self._program(far / "boxship", f'exec {sys.executable} -m boxship.cli.main "$@"')
        self.known.write_text(self.known_as(self.home / "host.pub"))
        self._program(
            self.programs / "ssh",
            f'exec {shutil.which("ssh")} -F /dev/null -o UserKnownHostsFile={self.known} -o IdentitiesOnly=yes '
            f'-i {self.home}/user "$@"',
        )  # fmt: skip
        config = self.home / "config"
        config.write_text(
            f"Port {self._port}\nListenAddress 127.0.0.1\nHostKey {self.home}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {self.home}/authorized\nPasswordAuthentication no\nPermitRootLogin yes\n"
            f"SetEnv PATH={far}:/usr/bin:/bin\n"
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", config], stderr=log, stdin=subprocess.DEVNULL)
        wait_until(self._listens, "sshd listens")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.home)

    def known_as(self, key: Path) -> str:
        """A line that says that the server's key is this one."""
        kind, data = key.read_text().split()[:2]
        return f"[127.0.0.1]:{self._port} {kind} {data}\n"

    @contextlib.contextmanager
    def agent(self) -> Iterator[str]:
        """The socket of an agent that has the key to log in with."""
        path = str(self.home / "agent")
        process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: os.path.exists(path), "the agent listens")
            subprocess.run(
                ["ssh-add", "-q", self.home / "user"], env={**os.environ, "SSH_AUTH_SOCK": path}, check=True, timeout=30
            )
            yield path
        finally:
            process.terminate()
            process.wait()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self._port), 1).close()
        except OSError:
            return False
        return True

    def _program(self, path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
