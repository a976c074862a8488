"""Logs when the disk is full, descriptors run out, files are damaged, or clients come and go without end."""

from __future__ import annotations

import asyncio
import gzip
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from boxrun.container.spec import Log
from boxrun.shim.logs import open_log
from boxshipd.logs import LogOptions, LogSource, read_logs
from conftest import needs_root
from support.daemon import Daemon, wait_until
from support.runtime import eventually

pytestmark = needs_root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a mebibyte."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


async def read(log: Log) -> bytes:
    ended = asyncio.Event()
    ended.set()
    return b"".join([piece async for piece in read_logs(LogSource(log, False, ended), LogOptions(), multiplexed=False)])


@pytest.mark.parametrize("driver", ["json-file", "local"])
async def test_a_full_disk_in_blocking_mode_loses_nothing(small_disk: Path, driver: str) -> None:
    log = Log(driver=driver, path=str(small_disk / "log"))
    (small_disk / "filler").write_bytes(bytes(700_000))
    writer = open_log(log)
    lines = [b"line %06d %s\n" % (number, b"x" * 80) for number in range(5000)]
    for at in range(0, 5000, 100):
        writer.write("stdout", b"".join(lines[at : at + 100]))
    assert writer.stalled
    assert writer.pending
    assert not writer.retry()
    (small_disk / "filler").unlink()
    assert writer.retry()
    assert not writer.stalled
    writer.close()
    assert writer.dropped == 0
    assert await read(log) == b"".join(lines)


@pytest.mark.parametrize("driver", ["json-file", "local"])
async def test_a_full_disk_in_the_other_mode_drops_whole_lines_and_counts_them(small_disk: Path, driver: str) -> None:
    log = Log(driver=driver, path=str(small_disk / "log"), blocking=False, buffer_size=50_000)
    (small_disk / "filler").write_bytes(bytes(900_000))
    writer = open_log(log)
    lines = [b"line %06d %s\n" % (number, b"x" * 80) for number in range(5000)]
    for at in range(0, 4900, 100):
        writer.write("stdout", b"".join(lines[at : at + 100]))
    assert not writer.stalled
    assert writer.dropped > 0
    (small_disk / "filler").unlink()
    assert writer.retry()
    writer.write("stdout", b"".join(lines[4900:]))
    writer.close()
    kept = (await read(log)).splitlines(keepends=True)
    assert set(kept) <= set(lines)
    assert kept == sorted(kept)
    assert len(kept) + writer.dropped == 5000
    assert kept[-100:] == lines[4900:]


@pytest.mark.parametrize("driver", ["json-file", "local"])
async def test_a_disk_that_stays_full_leaves_no_half_of_an_entry(small_disk: Path, driver: str) -> None:
    """The container ends meanwhile; its next run writes on in the same file."""
    log = Log(driver=driver, path=str(small_disk / "log"))
    (small_disk / "filler").write_bytes(bytes(900_000))
    writer = open_log(log)
    lines = [b"line %06d %s\n" % (number, b"x" * 80) for number in range(5000)]
    for line in lines:
        writer.write("stdout", line)
    writer.close()
    (small_disk / "filler").unlink()
    again = open_log(log)
    again.write("stdout", b"again\n")
    again.close()
    kept = (await read(log)).splitlines(keepends=True)
    assert kept == [*lines[: len(kept) - 1], b"again\n"]
    assert len(kept) - 1 + writer.dropped == 5000


@pytest.mark.parametrize("driver", ["json-file", "local"])
async def test_a_writer_that_died_in_an_entry_costs_that_entry_alone(tmp_path: Path, driver: str) -> None:
    for cut in range(1, 24):
        log = Log(driver=driver, path=str(tmp_path / f"log{cut}"))
        writer = open_log(log)
        for number in range(10):
            writer.write("stdout", b"line %d\n" % number)
        writer.close()
        os.truncate(log.path, os.path.getsize(log.path) - cut)
        again = open_log(log)
        again.write("stdout", b"again\n")
        again.close()
        assert (await read(log)).splitlines() == [*(b"line %d" % number for number in range(9)), b"again"]


async def test_a_reader_that_leaves_while_files_are_opened_leaves_none_open(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"")
    # Whoever opens a fifo waits until somebody writes to it.
    os.mkfifo(f"{path}.1")
    log = Log(driver="local", path=str(path), max_files=2)

    def held() -> bool:
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return str(path) in [os.readlink(link) for link in links if os.path.islink(link)]

    reading = asyncio.create_task(read(log))
    await eventually(held, "it waits for the fifo")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert held()
    os.close(os.open(f"{path}.1", os.O_WRONLY))
    await eventually(lambda: not held(), "the files are closed")


def test_a_container_waits_for_its_disk_and_goes_on(daemon: Daemon) -> None:
    create = ["create", "--log-driver=local", "--log-opt=compress=false"]
    script = (
        "i=0; while [ $i -lt 3000 ]; do echo line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done; echo over >&2"
    )
    blocking = daemon.cli("docker", *create, "busybox", "sh", "-c", script).stdout.decode().strip()
    options = ["--log-opt=mode=non-blocking", "--log-opt=max-buffer-size=10k"]
    dropping = (
        daemon.cli("docker", *create, *options, "busybox", "sh", "-c", f"{script}; exec sleep 1000").stdout.decode().strip()
    )
    disks = [daemon.data_root / "containers" / ident / "local-logs" for ident in (blocking, dropping)]
    for disk in disks:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        daemon.cli("docker", "start", blocking, dropping)
        # It has come to its end, and said how much there was no room for.
        program = Path(f"/proc/{daemon.inspect(dropping)['State']['Pid']}/cmdline")
        wait_until(lambda: program.read_bytes().startswith(b"sleep"), "it has written everything")
        dropped = wait_until(lambda: daemon.inspect(dropping)["State"]["LogDropped"], "something was dropped")
        assert 0 < dropped < 3001
        assert daemon.inspect(blocking)["State"]["Running"]
        subprocess.run(["mount", "-o", "remount,size=10m", disks[0]], check=True)
        daemon.wait_state(blocking, "exited")
        lines = daemon.cli("docker", "logs", blocking).stdout.splitlines()
        assert [line.split()[1] for line in lines] == [b"%d" % number for number in range(3000)]
        assert daemon.inspect(blocking)["State"].get("LogDropped", 0) == 0
        daemon.cli("docker", "kill", dropping)
        daemon.wait_state(dropping, "exited")
        kept = daemon.cli("docker", "logs", dropping)
        count = len(kept.stdout.splitlines()) + len(kept.stderr.splitlines())
        assert count + daemon.inspect(dropping)["State"]["LogDropped"] == 3001
    finally:
        for disk in disks:
            subprocess.run(["umount", "-l", disk], check=True)
    daemon.cli("docker", "rm", "-f", blocking, dropping)


def test_a_shim_without_descriptors_goes_on_logging(daemon: Daemon) -> None:
    """It can't rotate: rather a file that is too large than a line that is lost."""
    options = ["-di", "--log-opt=max-size=20k", "--log-opt=max-file=3"]
    script = "read start; i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"
    ident = daemon.cli("docker", "run", *options, "busybox", "sh", "-c", script).stdout.decode().strip()
    sock = _attach(daemon, ident, "stream=1&stdin=1")
    first = daemon.inspect(ident)["State"]["Pid"]
    # The worker is process 1's parent for as long as it hasn't parked, and later that one's child beside it.
    parent = daemon.shim_pid(ident)
    worker = next((pid for pid in daemon.children(parent) if pid != first), parent)
    highest = max(int(entry) for entry in os.listdir(f"/proc/{worker}/fd"))
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (highest + 1, highest + 1))
    sock.sendall(b"\n")
    daemon.wait_state(ident, "exited")
    sock.close()
    # Not for the next container: this one stays short of descriptors.
    with suppress(ProcessLookupError):
        os.kill(parent, signal.SIGKILL)
    lines = daemon.cli("docker", "logs", "--tail=500", ident).stdout.splitlines()
    assert lines == [b"line %d" % number for number in range(2500, 3000)]
    daemon.cli("docker", "rm", "-f", ident)


def test_a_daemon_without_descriptors_refuses_and_recovers(own_daemon: Daemon) -> None:
    daemon = own_daemon
    ident = daemon.cli("docker", "run", "-d", "busybox", "sh", "-c", "echo here; exec sleep 1000").stdout.decode().strip()
    assert daemon.process is not None
    pid = daemon.process.pid
    before = len(os.listdir(f"/proc/{pid}/fd"))
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (before + 30, limits[1]))
    socks = []
    for _ in range(60):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(daemon.socket))
        sock.sendall(f"GET /containers/{ident}/logs?stdout=1&follow=1 HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        socks.append(sock)
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= before + 25, "there are hardly any more")
    for sock in socks:
        sock.close()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before + 3, "they are given back", 30)
    assert daemon.cli("docker", "logs", ident).stdout == b"here\n"
    daemon.cli("docker", "kill", ident)


def test_damaged_files_are_read_as_far_as_they_go(daemon: Daemon) -> None:
    for driver in ("json-file", "local"):
        options = [f"--log-driver={driver}", "--log-opt=max-size=10k", "--log-opt=max-file=4", "--log-opt=compress=true"]
        script = "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); [ $((i%50)) = 0 ] && usleep 5000; done; exit 0"
        # Where the file was rotated just before the end, the last lines aren't in what is damaged least: then once more.
        for _ in range(10):
            ident = daemon.cli("docker", "run", "-d", *options, "busybox", "sh", "-c", script).stdout.decode().strip()
            daemon.wait_state(ident, "exited")
            (log,) = (daemon.data_root / "containers" / ident).rglob("*.log")
            whole = log.read_bytes()
            # A frame of the local driver's has many lines, which are all lost where it is damaged in its midst.
            at = len(whole) // 3 if driver == "json-file" else 0
            if b"line 990\n" in whole[at:].replace(b"\\n", b"\n"):
                break
            daemon.cli("docker", "rm", "-f", ident)
        damaged = sorted(log.parent.glob("*.log.*"))
        for number, path in enumerate(damaged):
            content = path.read_bytes()
            if number % 3 == 0:
                path.write_bytes(content[: len(content) // 2])
            elif number % 3 == 1:
                path.write_bytes(b"")
            else:
                path.write_bytes(b"\x00\xff" * 500 + content)
        log.write_bytes(whole[:at] + b"\x7f\x00garbage\n" * 3 + whole[at:])
        shown = daemon.cli("docker", "logs", ident).stdout.splitlines()
        assert shown[-1] == b"line 999"
        assert daemon.cli("docker", "logs", "--tail=2", ident).stdout.splitlines() == [b"line 998", b"line 999"]
        for path in damaged:
            path.write_bytes(gzip.compress(b"not a log"))
        assert daemon.cli("docker", "logs", ident).stdout.splitlines()[-1] == b"line 999"
        daemon.cli("docker", "rm", "-f", ident)


def _attach(daemon: Daemon, ident: str, query: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(daemon.socket))
    sock.sendall(f"POST /containers/{ident}/attach?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert b" 200 " in sock.recv(4096)
    return sock


def _keeper(daemon: Daemon, ident: str) -> int:
    """The shim's lasting process, where its worker has parked; else 0."""
    pid = daemon.shim_pid(ident)
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    is_keeper = "shim" not in Path(f"/proc/{parent}/comm").read_text()
    return pid if is_keeper and len(daemon.children(pid)) == 1 else 0


def test_attaching_and_dropping_without_end_leaves_nothing(own_daemon: Daemon) -> None:
    daemon = own_daemon
    ident = daemon.cli("docker", "run", "-di", "busybox", "sh", "-c", "echo here; cat").stdout.decode().strip()
    assert daemon.process is not None
    processes = (daemon.process.pid, daemon.supervisor_pid(), wait_until(lambda: _keeper(daemon, ident), "the shim has parked"))

    def descriptors() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in processes]

    def round_(count: int) -> None:
        for number in range(count):
            query = "stream=1&stdout=1&stdin=1" + ("&logs=1" if number % 4 == 0 else "")
            _attach(daemon, ident, query).close()

    round_(50)
    wait_until(lambda: _keeper(daemon, ident), "the shim has parked again")
    before = descriptors()
    round_(2000)
    wait_until(lambda: _keeper(daemon, ident), "the shim has parked again")
    wait_until(
        lambda: all(now <= then + 2 for now, then in zip(descriptors(), before, strict=True)), "descriptors are given back"
    )
    daemon.cli("docker", "kill", ident)
