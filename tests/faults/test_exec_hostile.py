"""Containers that lie in wait for the processes that join them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon, wait_until

pytestmark = needs_root


@pytest.fixture(scope="module")
def box(daemon):
    name = "hostile-to-execs"
    daemon.cli("boxship", "run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "100000")
    yield name
    daemon.cli("boxship", "rm", "-f", name)


def run(daemon: Daemon, box: str, script: str, *flags: str) -> list[str]:
    return daemon.cli("boxship", "exec", *flags, box, "sh", "-c", script).stdout.decode().splitlines()


def test_no_descriptor_comes_along(daemon, box):
    # 3 is the directory that ls reads.
    assert run(daemon, box, "ls /proc/self/fd") == ["0", "1", "2", "3"]
    assert run(daemon, box, "ls /proc/self/fd", "-t")[0].split() == ["0", "1", "2", "3"]
    many = [run(daemon, box, "ls /proc/self/fd") for _ in range(10)]
    assert all(one == ["0", "1", "2", "3"] for one in many)


@pytest.mark.parametrize("number", [*range(3, 20), 255])
def test_no_working_directory_is_a_descriptor(daemon, box, number):
    """CVE-2024-21626."""
    result = daemon.cli("boxship", "exec", "-w", f"/proc/self/fd/{number}", box, "ls", "..", code=None)
    assert result.returncode in (126, 127)
    assert result.stdout.startswith(b"OCI runtime exec failed")


def test_a_working_directory_that_leads_out_by_a_link(daemon, box):
    run(daemon, box, "ln -sfn /proc/self/fd/5 /tmp/out; ln -sfn /proc/1/root/tmp /tmp/in")
    assert daemon.cli("boxship", "exec", "-w", "/tmp/out", box, "pwd", code=None).returncode in (126, 127)
    assert run(daemon, box, "pwd", "-w", "/tmp/in")[0] in ("/tmp", "/proc/1/root/tmp", "/tmp/in")


def test_capabilities_are_not_inherited(daemon, box):
    for flags in ((), ("--privileged",), ("-u", "1000"), ("--privileged", "-u", "1000")):
        lines = run(daemon, box, "grep -E '^Cap(Inh|Amb)' /proc/self/status", *flags)
        assert {line.split()[1] for line in lines} == {"0" * 16}


def test_a_program_that_is_its_own_interpreter(daemon, box):
    """CVE-2019-5736: what is executed leads back to whoever executes it, who must be out of reach for writing."""
    interpreter = Path(sys.executable).resolve()
    before = interpreter.stat()
    script = "printf '#!/proc/self/exe\\n' > /bin/own; chmod 755 /bin/own; ln -sf /proc/self/exe /bin/link"
    run(daemon, box, script)
    writer = daemon.popen(
        "boxship", "exec", box, "sh", "-c",
        "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || { : >> $p/exe; } 2>/dev/null && readlink $p/exe; done; done",
        stdout=-1, stderr=-1,
    )  # fmt: skip
    try:
        for _ in range(15):
            for program in ("/bin/own", "/bin/link"):
                daemon.cli("boxship", "exec", box, program, "-c", "open('/proc/self/exe', 'ab')", code=None)
    finally:
        writer.terminate()
        said, _ = writer.communicate()
    # Its own program it may write to.
    assert set(said.split()) <= {b"/bin/busybox"}
    after = interpreter.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_mode) == (before.st_size, before.st_mtime_ns, before.st_mode)
    assert run(daemon, box, "echo goes on") == ["goes on"]


def test_who_joins_can_not_be_looked_into(daemon, box):
    """CVE-2016-9962: from its first moment in the container, a joining process shows nothing that isn't the container's."""
    watch = (
        "echo ready; while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] || "
        "{ readlink $p/exe; readlink $p/cwd; readlink $p/root; for f in $p/fd/*; do readlink $f; done; } 2>/dev/null; done; done"
    )
    watchers = [daemon.popen("boxship", "exec", box, "sh", "-c", watch, stdout=-1, stderr=-1) for _ in range(2)]
    seen: list[set[bytes]] = []

    def gather(process) -> None:
        seen.append(set(process.stdout))

    readers = [threading.Thread(target=gather, args=(process,)) for process in watchers]
    for reader in readers:
        reader.start()
    try:
        for _ in range(100):
            status, body = daemon.request("POST", f"/containers/{box}/exec", {"Cmd": ["true"]})
            assert status == 201
            assert daemon.request("POST", f"/exec/{body['Id']}/start", {"Detach": True})[0] == 200
    finally:
        for process in watchers:
            process.kill()
            process.wait()
        for reader in readers:
            reader.join()
    allowed = (b"/bin/busybox", b"/", b"/dev/null", b"ready", b"/proc")
    strange = {
        line for lines in seen for line in lines
        if line.strip() not in allowed and not line.startswith((b"pipe:[", b"/proc/"))
    }  # fmt: skip
    assert seen[0] > {b"ready\n"}
    assert not strange
    for process in watchers:
        process.stdout.close()
        process.stderr.close()


def test_a_terminal_is_one_of_the_containers_own(daemon):
    """What the container puts at /dev/ptmx and /dev/pts is not followed."""
    name = "fakes-terminals"
    daemon.cli("boxship", "run", "-d", "--name", name, "--network", "none", "--privileged", "busybox", "sleep", "100000")
    run(daemon, name, "rm -f /dev/ptmx; mknod /dev/ptmx c 1 3")
    assert run(daemon, name, "tty", "-t")[0].strip() == "/dev/pts/0"
    run(
        daemon,
        name,
        "umount /dev/pts; ln -sfn /proc/1/root/tmp /tmp/pts; mount -t tmpfs none /dev/pts; mknod /dev/pts/ptmx c 5 2",
    )
    result = daemon.cli("boxship", "exec", "-t", name, "tty", code=126)
    assert b"not a devpts file system" in result.stdout
    assert run(daemon, name, "echo goes on") == ["goes on"]
    daemon.cli("boxship", "rm", "-f", name)


def test_user_files_of_the_container_are_read_inside_it(daemon):
    name = "fakes-users"
    daemon.cli("boxship", "run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "100000")
    run(daemon, name, "rm /etc/group; mkfifo /etc/group; rm /etc/passwd; ln -s ../../../../etc/shadow /etc/passwd")
    said = daemon.cli("boxship", "exec", "-u", "daemon", name, "true", code=126).stdout
    assert b"unable to find user daemon" in said
    # No pipe is waited for.
    assert b"open /etc/group" in daemon.cli("boxship", "exec", "-u", "0:daemon", name, "true", code=126).stdout
    assert run(daemon, name, "id -u", "-u", "1234") == ["1234"]
    daemon.cli("boxship", "rm", "-f", name)


def test_a_flood_of_output_that_nobody_reads(daemon, box):
    status, body = daemon.request("POST", f"/containers/{box}/exec", {"Cmd": ["sh", "-c", "yes | head -c 50000000"]})
    assert status == 201
    assert daemon.request("POST", f"/exec/{body['Id']}/start", {"Detach": True})[0] == 200
    about = wait_until(
        lambda: (now := daemon.get(f"/exec/{body['Id']}/json")) and not now["Running"] and now, "it has ended", 30
    )
    assert about["ExitCode"] == 0
