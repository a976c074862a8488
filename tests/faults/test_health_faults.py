"""Health checks while our processes die, and probes that do their worst. What was known stays known, and nothing piles up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.daemon import wait_until
from support.health import becomes, create, health, prober, probers, remove, run, start

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")


def kill_supervisor(daemon):
    before = daemon.supervisor_pid()
    os.kill(before, signal.SIGKILL)

    def replaced():
        try:
            pid = daemon.supervisor_pid()
        except (OSError, IndexError, ValueError):
            return False
        return pid != before and Path(f"/proc/{pid}").exists()

    wait_until(replaced, "another supervisor is there")


def test_probing_goes_on_whatever_of_ours_dies(own_daemon):
    daemon = own_daemon
    counting = "echo x >> /tmp/n; exit 1"
    failing = run(daemon, "CMD-SHELL", counting, retries=1000)
    well = run(daemon, "CMD", "true")
    becomes(daemon, well, "healthy")
    wait_until(lambda: health(daemon, failing)["FailingStreak"] >= 2, "it has failed twice")
    process = prober(failing)

    before = health(daemon, failing)["FailingStreak"]
    daemon.kill()
    daemon.start()
    assert health(daemon, failing)["FailingStreak"] >= before
    assert health(daemon, well)["Status"] == "healthy"
    kill_supervisor(daemon)
    wait_until(lambda: health(daemon, failing)["FailingStreak"] > before + 3, "probing goes on")
    os.kill(daemon.zygote_pid(), signal.SIGKILL)
    daemon.kill()
    os.kill(daemon.supervisor_pid(), signal.SIGKILL)
    daemon.start()
    before = health(daemon, failing)["FailingStreak"]
    assert probers(failing) == [process]
    wait_until(lambda: health(daemon, failing)["FailingStreak"] > before, "probing goes on")
    # Every probe is counted once: those that ran while nobody listened, too.
    daemon.cli("docker", "pause", failing)
    streak = health(daemon, failing)["FailingStreak"]
    daemon.cli("docker", "unpause", failing)
    written = len(daemon.cli("docker", "exec", failing, "cat", "/tmp/n").stdout.split())
    assert streak <= written <= streak + 5
    remove(daemon, failing, well)


def test_a_dead_prober_is_replaced_and_what_it_knew_is_not_lost(daemon):
    ident = run(daemon, "CMD", "false", retries=1000)
    wait_until(lambda: health(daemon, ident)["FailingStreak"] >= 3, "it has failed")
    for _ in range(3):
        process, before = prober(ident), health(daemon, ident)
        os.kill(process, signal.SIGKILL)
        wait_until(lambda process=process: (found := probers(ident)) and found != [process], "there is another prober")
        wait_until(
            lambda before=before: health(daemon, ident)["FailingStreak"] > before["FailingStreak"], "it goes on counting"
        )
    assert len(health(daemon, ident)["Log"]) == 5
    remove(daemon, ident)


def test_a_change_while_the_daemon_is_dead_is_told_by_the_next(own_daemon):
    daemon = own_daemon
    host = {"Annotations": {"io.boxship.health-on-failure": "kill"}, "Binds": [f"{daemon.home}:/shared"]}
    ident = run(daemon, "CMD", "test", "!", "-e", "/shared/ill", retries=1, HostConfig=host)
    becomes(daemon, ident, "healthy")
    wait_until(lambda: b'"healthy"' in _recorded(daemon), "that is on record")
    daemon.kill()
    (daemon.home / "ill").touch()
    daemon.start()
    state = daemon.wait_state(ident, "exited")["State"]
    assert (state["ExitCode"], state["Health"]["Status"]) == (137, "unhealthy")


def _recorded(daemon):
    return b"".join(path.read_bytes() for path in daemon.data_root.glob("state.db*"))


@pytest.mark.parametrize(
    ("name", "probe"),
    [("hangs", "sleep 993"), ("prints", "yes"), ("forks", "f() { f | f & }; f"), ("closes", "exec >&- 2>&-; sleep 992")],
)
def test_probes_that_do_their_worst_stay_within_bounds(daemon, name, probe):
    idents = [
        run(
            daemon,
            "CMD-SHELL",
            probe,
            timeout=200,
            retries=2,
            HostConfig={"PidsLimit": 40, "Memory": 64 << 20, "CpuQuota": 10000},
        )
        for _ in range(5)
    ]
    try:
        for ident in idents:
            wait_until(lambda ident=ident: len(health(daemon, ident)["Log"]) >= 2, f"what {name} was tried twice", 40)
            group = Path("/sys/fs/cgroup/unified") / daemon.name / ident
            assert len((group / "cgroup.procs").read_text().split()) <= 41
            (process,) = probers(ident)
            assert _private(process) < 6 << 20
    finally:
        remove(daemon, *idents)


def _private(process):
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Private_"))


def test_a_container_that_dies_while_its_prober_is_made_leaves_nothing(daemon):
    idents = [create(daemon, "CMD", "true", command=("true",), interval=10) for _ in range(20)]
    for ident in idents:
        start(daemon, ident)
    for ident in idents:
        daemon.wait_state(ident, "exited")
        wait_until(lambda ident=ident: not probers(ident), "no prober is left")
    remove(daemon, *idents)
