"""Programs that turn against the engine from inside a container: the whole engine, as it runs on a machine."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon

pytestmark = needs_root


def run(daemon: Daemon, *words: str) -> list[str]:
    """What a container's shell script says; the script is the last word, the others are flags."""
    *flags, script = words
    result = daemon.cli("boxship", "run", "--rm", "--network", "none", *flags, "busybox", "sh", "-c", script)
    return result.stdout.decode().splitlines()


def test_the_interpreter_in_the_container_is_on_a_read_only_mount(daemon):
    """With --init process 1 is our interpreter. Its inode has to be out of reach even for a container with every capability."""
    interpreter = Path(sys.executable).resolve()
    before = interpreter.stat()
    said = run(
        daemon, "--init", "--privileged", "{ chmod 777 /proc/1/exe; touch /proc/1/exe; echo x >> /proc/1/exe; } 2>&1; exit 0"
    )
    assert said[:2] == ["chmod: /proc/1/exe: Read-only file system", "touch: /proc/1/exe: Read-only file system"]
    # This one comes first in the kernel, as long as the program runs.
    assert said[2:] == ["sh: can't create /proc/1/exe: Text file busy"]
    after = interpreter.stat()
    assert (after.st_mode, after.st_size, after.st_mtime_ns) == (before.st_mode, before.st_size, before.st_mtime_ns)


def test_a_program_that_is_its_own_interpreter_changes_nothing(daemon):
    """CVE-2019-5736: an entrypoint that makes whoever executes it execute itself."""
    interpreter = Path(sys.executable).resolve()
    before = interpreter.stat()
    arguments = ("--network", "none", "--entrypoint", "/proc/self/exe", "busybox", "-c", "open('/proc/self/exe', 'wb')")
    assert daemon.cli("boxship", "run", "--rm", *arguments, code=None).returncode != 0
    after = interpreter.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert run(daemon, "echo goes on") == ["goes on"]


def test_no_descriptor_of_the_engine_comes_along(daemon):
    # 3 is the directory that ls reads.
    assert run(daemon, "ls /proc/self/fd") == ["0", "1", "2", "3"]
    assert run(daemon, "--init", "ls /proc/self/fd") == ["0", "1", "2", "3"]


@pytest.mark.parametrize("number", [*range(3, 24), 255])
def test_no_working_directory_is_a_descriptor_of_the_engine(daemon, number):
    """CVE-2024-21626."""
    arguments = ("--network", "none", "-w", f"/proc/self/fd/{number}", "busybox", "ls", "..")
    result = daemon.cli("boxship", "run", "--rm", *arguments, code=None)
    assert result.returncode in (126, 127, 128, 125)
    assert result.stdout == b""


def test_the_engine_cannot_be_looked_into_with_the_hosts_processes_in_sight(daemon):
    """A container that sees every process of the host, but hasn't CAP_SYS_PTRACE, must not get at what they hold."""
    ours = [daemon.process.pid, daemon.supervisor_pid(), daemon.zygote_pid()]
    places = " ".join(f"/proc/{pid}/{entry}" for pid in ours for entry in ("root/", "cwd/", "fd/0", "exe"))
    script = (
        f"[ -d /proc/{ours[0]} ] && echo seen; for place in {places}; do ls -L $place >/dev/null && echo $place; done; exit 0"
    )
    assert run(daemon, "--pid", "host", script) == ["seen"]
    assert len(run(daemon, "--pid", "host", "--privileged", script)) == 1 + 4 * len(ours)


def test_nothing_listens_where_a_network_namespace_is_the_only_fence(daemon):
    """CVE-2020-15257: abstract sockets are reachable from every container in the host's network namespace."""
    ident = daemon.cli("boxship", "run", "-d", "--network", "none", "busybox", "sleep", "1000").stdout.decode().strip()
    sockets = set()
    for pid in daemon.pids():
        for entry in os.scandir(f"/proc/{pid}/fd"):
            target = os.readlink(entry.path)
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    named = [fields[7] for fields in lines if fields[6] in sockets and len(fields) > 7]
    assert str(daemon.socket) in named
    assert [name for name in named if name.startswith("@")] == []
    for path in (daemon.exec_root / "boxrun.sock", daemon.exec_root / "shims"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    daemon.cli("boxship", "rm", "-f", ident)


def test_other_users_do_not_get_into_the_data(daemon):
    """CVE-2021-41091: programs with set-uid bits in layers must be out of other users' reach."""
    assert stat.S_IMODE(daemon.data_root.stat().st_mode) == 0o710
    for name in ("containers", "snapshots", "content"):
        assert stat.S_IMODE((daemon.data_root / name).stat().st_mode) & 0o007 == 0
