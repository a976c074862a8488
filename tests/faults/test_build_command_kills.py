"""kill -9 of each process that a build depends on, while one of its commands runs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.daemon import DOCKER, Daemon, wait_until
from support.victims import kill

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers"),
    pytest.mark.skipif(DOCKER is None, reason="needs Docker's command line"),
]

_DOCKERFILE = """FROM busybox
RUN echo before > /before
RUN --mount=type=cache,target=/cache,id=c echo begun > /begun; touch /cache/begun; while [ ! -e /cache/go ]; do sleep 0.02; done
RUN cat /before /begun > /after
"""


@contextmanager
def _building(daemon: Daemon, context: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    assert DOCKER is not None
    process = subprocess.Popen(
        [DOCKER, "-H", daemon.host, "build", "--network", "none", "--tag", "built", *args, str(context)],
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _cache(daemon: Daemon) -> Path | None:
    """The directory of the cache mount, once the command that waits in it has begun."""
    found = list(daemon.data_root.glob("build/mounts/*/begun"))
    return found[0].parent if found else None


@pytest.mark.parametrize("victim", ["supervisor", "zygote"])
def test_a_build_goes_on_without_the_process(own_daemon: Daemon, tmp_path: Path, victim: str) -> None:
    (tmp_path / "Dockerfile").write_text(_DOCKERFILE)
    with _building(own_daemon, tmp_path) as process:
        cache = wait_until(lambda: _cache(own_daemon), "the command runs")
        kill(own_daemon, victim)
        (cache / "go").touch()
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert _after(own_daemon) == b"before\nbegun\n"


def test_of_a_dead_daemons_build_nothing_is_left_and_the_next_one_is_right(own_daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(_DOCKERFILE)
    with _building(own_daemon, tmp_path) as process:
        wait_until(lambda: _cache(own_daemon), "the command runs")
        kill(own_daemon, "boxshipd")
        process.communicate(timeout=60)
    assert process.returncode != 0
    transients = own_daemon.data_root / "transients"
    wait_until(lambda: not os.listdir(transients), "the command's files are gone")
    wait_until(lambda: not _processes(own_daemon), "the command is gone")
    assert not list((own_daemon.data_root / "snapshots").glob("unpacking-*"))
    assert own_daemon.cli("docker", "ps", "--all", "--quiet").stdout == b""
    # What it had made before may count, what it hadn't finished may not.
    with _building(own_daemon, tmp_path) as process:
        cache = wait_until(lambda: _cache(own_daemon), "the command runs again")
        (cache / "go").touch()
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert _after(own_daemon) == b"before\nbegun\n"


def _after(daemon: Daemon) -> bytes:
    """What the last command has made."""
    return daemon.cli("docker", "run", "--rm", "--network", "none", "built", "cat", "/after").stdout


def _processes(daemon: Daemon) -> list[str]:
    """Processes in the daemon's containers."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                groups = Path(f"/proc/{entry}/cgroup").read_text()
            except OSError:
                continue
            if any(line.partition("::")[2].count("/") > 1 for line in groups.splitlines() if f"/{daemon.name}/" in line):
                found.append(entry)
    return found
