"""A private daemon for tests: everything of it below one temporary directory and one cgroup."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")
PATIENCE = float(os.environ.get("BOXSHIP_TEST_PATIENCE", "1"))
"""How many times longer everything may take; for emulated machines."""


def _docker_release() -> int:
    """The release of Docker's command line, 0 where there is none."""
    if shutil.which("docker") is None:
        return 0
    said = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"Docker version (\d+)\.", said)
    return int(match[1]) if match else 0


DOCKER_RELEASE = _docker_release()
DOCKER = shutil.which("docker") if DOCKER_RELEASE >= 26 else None
"""Docker's command line where it is one to be compared with; Debian 12's own, of 2020, has other words for much."""


def needs_release(client: str, release: int) -> None:
    """Skip what Docker's command line of this machine is too old for."""
    if client == "docker" and release > DOCKER_RELEASE:
        pytest.skip(f"docker is of release {DOCKER_RELEASE}, older than {release}")


def wait_until(condition: Callable[[], T], what: str, timeout: float = 20) -> T:
    """Poll ``condition`` until it is true; the wait ends with the state, not with the clock.

    The poll is short, but less so once it has taken a while: what is waited for needs the processor too.
    """
    begin = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - begin
        if waited > timeout * PATIENCE:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(min(0.005 + waited / 20, 0.02) * PATIENCE**2)


class Slot:
    """Addresses of one test daemon's own: 10.N.0.0/16 and an IPv6 /56, held by a socket whose name goes with the process."""

    def __init__(self) -> None:
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # A daemon may have been left behind by tests whose process, and with it the socket, has gone.
        there = subprocess.run(["ip", "-4", "-o", "address"], capture_output=True, text=True, check=False).stdout
        for number in random.sample(range(64, 256), 192):
            if f" 10.{number}." in there:
                continue
            try:
                holder.bind(f"\0boxship-test-addresses-{number}")
            except OSError:
                continue
            self.number = number
            # A bare descriptor, for a daemon that a test has lost is not to be complained of twice.
            self.descriptor = holder.detach()
            self.subnets = f"10.{number}.0.0/16"
            self.pool6 = f"base=fd42:b0c5:{number:x}::/56,size=64"
            return
        holder.close()
        raise AssertionError("no addresses are left for another daemon")

    def close(self) -> None:
        """Let another daemon have them."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Daemon:
    """A boxshipd with directories, socket and cgroup of its own.

    Attributes:
        home: the directory that holds all of it.
        host: the API's address, as ``DOCKER_HOST`` has it.
        subnets: the addresses that its networks are made of, which no other daemon of a test has.
        table: the name of its tables in nf_tables.
        bridge: its default bridge's interface, where it has one; else containers that ask for no network have only loopback.
        netns: the named network namespace that it is in; empty for the machine's own.
    """

    def __init__(self, *flags: str, bridge: bool = False, netns: str = "") -> None:
        self.home = Path(tempfile.mkdtemp(prefix="boxship-test-", dir="/tmp"))
        self.name = self.home.name
        self.socket = self.home / "api.sock"
        self.host = f"unix://{self.socket}"
        self.data_root = self.home / "data"
        self.exec_root = self.home / "exec"
        self.slot = Slot()
        self.subnets = self.slot.subnets
        self.bridge = f"bxt{self.slot.number}" if bridge else ""
        pools = ("--default-address-pool", f"base={self.subnets},size=24", "--default-address-pool", self.slot.pool6)
        self.network_flags = (*pools, "--bridge", self.bridge or "none")
        self.flags = flags
        self.netns = netns
        self.process: subprocess.Popen[bytes] | None = None
        self.table = f"boxship-{hashlib.blake2b(str(self.exec_root).encode(), digest_size=4).hexdigest()}"

    # The daemon's life

    def start(self) -> None:
        """Start it and wait until it answers."""
        with open(self.home / "log", "ab") as log:
            self.process = subprocess.Popen(
                [
                    *(("nsenter", f"--net=/run/netns/{self.netns}") if self.netns else ()),
                    *(sys.executable, "-m", "boxshipd.main"),
                    *("--data-root", str(self.data_root), "--exec-root", str(self.exec_root)),
                    *("--pidfile", str(self.home / "pid"), "--cgroup-parent", f"/{self.name}"),
                    *("-H", self.host, "--log-level", "debug", "--shutdown-timeout", "1", *self.network_flags, *self.flags),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, "the daemon answers", 60)

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log()}")
        try:
            return b" 200 " in self.raw(b"GET /_ping HTTP/1.0\r\nHost: x\r\n\r\n")
        except OSError:
            return False

    def kill(self) -> None:
        """kill -9 the daemon alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM it; its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def shutdown(self) -> None:
        """Stop everything, containers and helpers included, and remove its files."""
        try:
            if self.process is None or self.process.poll() is not None:
                self.start()
            self.raw(b"POST /system/shutdown HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert self.process is not None
            self.process.wait(60)
        finally:
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        shutil.rmtree(self.home, ignore_errors=True)

    def log(self) -> str:
        """What the daemon and the supervisor logged."""
        return (self.home / "log").read_text(errors="replace")

    # Talking to it

    def raw(self, request: bytes) -> bytes:
        """Send bytes, read to the end."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30 * PATIENCE)
            sock.connect(str(self.socket))
            sock.sendall(request)
            return b"".join(iter(lambda: sock.recv(1 << 16), b""))

    def get(self, path: str):
        """GET a JSON document."""
        return self.request("GET", path)[1]

    def request(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        """One API call: the status and the JSON body, None where there is none."""
        payload = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        answer = self.raw(head.encode() + payload)
        top, _, rest = answer.partition(b"\r\n\r\n")
        return int(top.split()[1]), json.loads(rest) if rest.strip() else None

    def env(self) -> dict[str, str]:
        """The environment for a client of this daemon."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "BOXSHIP_"))}
        return env | {
            "DOCKER_HOST": self.host,
            "BOXSHIP_HOST": self.host,
            "HOME": str(self.home),
            "DOCKER_CONFIG": str(self.home),
        }

    def command(self, client: str) -> list[str]:
        """The argv that starts ``docker`` or ``boxship``."""
        return [sys.executable, "-m", "boxship.cli.main"] if client == "boxship" else ["docker"]

    def cli(
        self, client: str, *args: str, stdin: bytes | None = None, code: int | None = 0, timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a client to its end; its exit code must be ``code`` unless that is None."""
        result = subprocess.run(
            [*self.command(client), *args],
            **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
            capture_output=True,
            env=self.env(),
            timeout=timeout * PATIENCE,
            check=False,
        )
        if code is not None and result.returncode != code:
            said = f"{result.stdout.decode(errors='replace')}\n{result.stderr.decode(errors='replace')}"
            raise AssertionError(
                f"{client} {' '.join(args)}: exit {result.returncode}, expected {code}\n{said}\n{self.log()[-3000:]}"
            )
        return result

    def popen(self, client: str, *args: str, **options) -> subprocess.Popen[bytes]:
        """Start a client."""
        return subprocess.Popen([*self.command(client), *args], env=self.env(), **options)

    def inspect(self, ref: str) -> dict:
        """A container as the API shows it."""
        status, body = self.request("GET", f"/containers/{ref}/json")
        assert status == 200, body
        assert isinstance(body, dict)
        return body

    def wait_state(self, ref: str, state: str) -> dict:
        """Wait until the container is in ``state``."""
        return wait_until(lambda: (i := self.inspect(ref))["State"]["Status"] == state and i, f"{ref} is {state}")

    # Its processes

    def pids(self) -> list[int]:
        """Every process that is of this daemon: by command line, environment, cgroup, or parent."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                about = Path(f"/proc/{entry}/cmdline").read_bytes() + Path(f"/proc/{entry}/cgroup").read_bytes()
            except OSError:
                continue
            if self.name.encode() in about:
                found.append(int(entry))
        return found

    def supervisor_pid(self) -> int:
        """The supervisor's process."""
        return int((self.exec_root / "boxrun.pid").read_text().split()[0])

    def children(self, pid: int) -> list[int]:
        """The child processes of ``pid``."""
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    def zygote_pid(self) -> int:
        """The zygote: the supervisor's only child."""
        (zygote,) = self.children(self.supervisor_pid())
        return zygote

    def shim_pid(self, ref: str) -> int:
        """The shim of a running container: its process 1's parent."""
        pid = self.inspect(ref)["State"]["Pid"]
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
