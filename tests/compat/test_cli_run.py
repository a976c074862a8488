"""Running containers with Docker's own command line and with ours: the same acts, the same results."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from support.daemon import DOCKER, Daemon, wait_until

CLIENTS = [pytest.param("docker", marks=pytest.mark.skipif(DOCKER is None, reason="no docker command")), "boxship"]


@pytest.fixture(params=CLIENTS)
def client(request) -> str:
    return request.param


def run(daemon: Daemon, client: str, *args: str, **options) -> str:
    return daemon.cli(client, "run", "--rm", *args, **options).stdout.decode()


def test_run_prints_and_gives_the_exit_code(daemon, client):
    result = daemon.cli(
        client, "run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", code=7
    )
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_rm_removes(daemon, client):
    name = f"removed-{client}"
    run(daemon, client, "--name", name, "busybox", "true")
    wait_until(lambda: daemon.request("GET", f"/containers/{name}/json")[0] == 404, "the container is gone")


def test_detached_logs_wait_stop_kill(daemon, client):
    ident = (
        daemon.cli(client, "run", "-d", "busybox", "sh", "-c", "echo one; echo two >&2; exec sleep 1000")
        .stdout.decode()
        .strip()
    )
    assert re.fullmatch("[0-9a-f]{64}", ident)
    wait_until(lambda: daemon.cli(client, "logs", ident).stdout == b"one\n", "the log is there")
    assert daemon.cli(client, "logs", ident).stderr == b"two\n"
    assert (
        daemon.cli(client, "logs", "--tail", "1", ident).stdout + daemon.cli(client, "logs", "--tail", "1", ident).stderr
        == b"two\n"
    )
    stamped = daemon.cli(client, "logs", "-t", ident).stdout
    assert re.match(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z one\n", stamped)
    assert daemon.cli(client, "logs", "--since", "10m", ident).stdout == b"one\n"
    assert daemon.cli(client, "logs", "--until", "10m", ident).stdout == b""
    waiting = daemon.popen(client, "wait", ident, stdout=subprocess.PIPE)
    follower = daemon.popen(client, "logs", "-f", ident, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    daemon.cli(client, "kill", ident)
    assert waiting.communicate(timeout=20)[0] == b"137\n"
    assert follower.communicate(timeout=20)[0] == b"one\n"
    assert daemon.cli(client, "rm", ident).stdout.decode().strip() == ident


def test_stop_sends_the_stop_signal_then_kills(daemon, client):
    script = "trap 'echo stopped; exit 3' USR1; echo ready; while :; do sleep 0.05; done"
    ident = daemon.cli(client, "run", "-d", "--stop-signal", "USR1", "busybox", "sh", "-c", script).stdout.decode().strip()
    wait_until(lambda: b"ready" in daemon.cli(client, "logs", ident).stdout, "it is ready")
    daemon.cli(client, "stop", ident)
    assert daemon.inspect(ident)["State"]["ExitCode"] == 3
    daemon.cli(client, "start", ident)
    daemon.cli(client, "kill", "-s", "KILL", ident)
    assert daemon.wait_state(ident, "exited")["State"]["ExitCode"] == 137
    daemon.cli(client, "rm", ident)
    stubborn = daemon.cli(client, "run", "-d", "busybox", "sleep", "1000").stdout.decode().strip()
    daemon.cli(client, "stop", "-t", "0", stubborn)
    assert daemon.inspect(stubborn)["State"]["ExitCode"] == 137
    # Without any time for it, the stop signal is sent all the same: whoever watches the events sees it.
    shown = daemon.cli(
        client, "events", "--since", "10m", "--until", f"{time.time():.9f}", "--filter", f"container={stubborn}",
        "--filter", "event=kill", "--format", '{{index .Actor.Attributes "signal"}}',
    )  # fmt: skip
    assert shown.stdout.decode().split() == ["15", "9"]
    daemon.cli(client, "rm", stubborn)


def test_ten_megabytes_through_cat_unchanged(daemon, client):
    data = os.urandom(10_000_000)
    result = daemon.cli(client, "run", "--rm", "-i", "busybox", "cat", stdin=data)
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()


def test_environment_user_directory_entrypoint_hostname(daemon, client):
    env_file = daemon.home / f"env-{client}"
    env_file.write_text("FROM_FILE=yes\n# comment\n")
    out = run(
        daemon, client, "-e", "A=b c", "--env-file", str(env_file), "-u", "1000:2000", "-w", "/made/here", "--hostname", "boxed",
        "--entrypoint", "sh", "busybox", "-c", 'echo "$A $FROM_FILE $(id -u):$(id -g) $(pwd) $(hostname) $HOSTNAME"',
    )  # fmt: skip
    assert out == "b c yes 1000:2000 /made/here boxed boxed\n"


def test_user_by_name_gets_the_images_groups(daemon, client):
    assert run(daemon, client, "-u", "box", "busybox", "id") == "uid=1000(box) gid=1000(box) groups=1000(box),2000(extra)\n"


def test_read_only_root_and_tmpfs(daemon, client):
    out = run(
        daemon, client, "--read-only", "--tmpfs", "/scratch:size=1m,mode=1777", "busybox", "sh", "-c",
        "touch /x 2>&1; touch /scratch/y && grep /scratch /proc/mounts",
    )  # fmt: skip
    assert "Read-only file system" in out
    assert re.search(r"tmpfs /scratch tmpfs rw,\S*size=1024k,?", out)


def test_a_tmpfs_where_nothing_was_is_everybodys(daemon, client):
    assert (
        run(daemon, client, "--tmpfs", "/new", "-u", "1000", "busybox", "sh", "-c", "touch /new/x; stat -c %a /new") == "1777\n"
    )


def test_bind_mounts(daemon, client):
    source = daemon.home / f"bind-{client}"
    source.mkdir()
    (source / "file").write_text("from the host\n")
    out = run(daemon, client, "-v", f"{source}:/b", "busybox", "sh", "-c", "cat /b/file; echo back >/b/new")
    assert out == "from the host\n"
    assert (source / "new").read_text() == "back\n"
    result = daemon.cli(client, "run", "--rm", "-v", f"{source}:/b:ro", "busybox", "touch", "/b/no", code=1)
    assert b"Read-only file system" in result.stderr


def test_capabilities(daemon, client):
    def effective(*flags: str) -> int:
        return int(run(daemon, client, *flags, "busybox", "sh", "-c", "grep CapEff /proc/self/status").split()[1], 16)

    assert effective() == 0x00000000A80425FB
    assert effective("--cap-drop", "ALL") == 0
    assert effective("--cap-drop", "ALL", "--cap-add", "NET_ADMIN") == 1 << 12
    assert effective("--cap-drop", "CHOWN") == 0xA80425FB & ~1
    ours = int(re.search(r"CapBnd:\s+(\w+)", Path("/proc/self/status").read_text())[1], 16)
    assert effective("--privileged") == ours


def test_privileged_sees_devices_and_may_mount(daemon, client):
    run(daemon, client, "--privileged", "busybox", "sh", "-c", "mount -t tmpfs none /tmp && test -c /dev/kmsg")
    assert daemon.cli(client, "run", "--rm", "busybox", "mount", "-t", "tmpfs", "none", "/tmp", code=None).returncode != 0


def test_ulimit_and_sysctl(daemon, client):
    out = run(
        daemon, client, "--ulimit", "nofile=100:200", "--sysctl", "net.ipv4.ip_unprivileged_port_start=77", "busybox", "sh", "-c",
        "ulimit -n; ulimit -H -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    )  # fmt: skip
    assert out.split() == ["100", "200", "77"]


def test_init_reaps_and_passes_signals_on(daemon, client):
    script = "(sleep 0.01 & ) ; trap 'exit 5' TERM; echo $$; while :; do sleep 0.02; done"
    ident = daemon.cli(client, "run", "-d", "--init", "busybox", "sh", "-c", script).stdout.decode().strip()
    wait_until(lambda: daemon.cli(client, "logs", ident).stdout.strip().isdigit(), "it runs")
    assert daemon.cli(client, "logs", ident).stdout.strip() != b"1"
    daemon.cli(client, "stop", "-t", "5", ident)
    assert daemon.inspect(ident)["State"]["ExitCode"] == 5
    daemon.cli(client, "rm", ident)


def test_out_of_memory_is_reported(daemon, client):
    name = f"oom-{client}"
    code = daemon.cli(client, "run", "--name", name, "-m", "16m", "busybox", "sh", "-c", "tail /dev/zero", code=None).returncode
    assert code == 137
    assert daemon.inspect(name)["State"]["OOMKilled"] is True
    daemon.cli(client, "rm", name)


def test_pids_and_cpu_limits(daemon, client):
    result = daemon.cli(
        client,
        "run",
        "--rm",
        "--pids-limit",
        "5",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait",
        code=None,
    )
    assert b"fork" in result.stderr
    name = f"cpus-{client}"
    daemon.cli(client, "run", "-d", "--name", name, "--cpus", "0.5", "--cpu-shares", "256", "busybox", "sleep", "1000")
    host = daemon.inspect(name)["HostConfig"]
    assert (host["NanoCpus"], host["CpuShares"]) == (500_000_000, 256)
    pid = daemon.inspect(name)["State"]["Pid"]
    groups = {line.split(":")[1]: line.strip().split(":")[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}
    v1 = Path("/sys/fs/cgroup/cpu" + groups["cpu"]) if "cpu" in groups else None
    if v1 is not None:
        quota = int((v1 / "cpu.cfs_quota_us").read_text()) / int((v1 / "cpu.cfs_period_us").read_text())
        assert (quota, (v1 / "cpu.shares").read_text()) == (0.5, "256\n")
    else:
        quota, period = Path("/sys/fs/cgroup" + groups[""] + "/cpu.max").read_text().split()
        assert int(quota) / int(period) == 0.5
    daemon.cli(client, "rm", "-f", name)


def test_cidfile_name_conflict_and_reuse(daemon, client):
    cidfile = daemon.home / f"cid-{client}"
    name = f"named-{client}"
    ident = daemon.cli(client, "create", "--name", name, "--cidfile", str(cidfile), "busybox", "true").stdout.decode().strip()
    assert cidfile.read_text() == ident
    result = daemon.cli(client, "create", "--name", name, "busybox", code=None)
    assert result.returncode != 0
    expected = (
        f'Conflict. The container name "/{name}" is already in use by container "{ident}". You have to remove (or rename)'
    )
    assert expected in result.stderr.decode()
    daemon.cli(client, "rename", name, f"{name}-2")
    assert daemon.inspect(ident)["Name"] == f"/{name}-2"
    daemon.cli(client, "rm", ident)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (("nosuch",), 127, 'exec: "nosuch": executable file not found in $PATH'),
        (("/etc/passwd",), 126, 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_what_cannot_be_executed(daemon, client, command, code, message):
    result = daemon.cli(client, "run", "--rm", "busybox", *command, code=code)
    assert message in result.stderr.decode()


def test_refusals_say_why(daemon, client):
    def refused(*args: str) -> str:
        return daemon.cli(client, "run", "--rm", *args, code=125).stderr.decode()

    assert "no such image" in refused("--pull", "never", "nosuchimage:v9", "true").lower()
    # A registry where nobody listens.
    said = refused("127.0.0.1:1/nosuchimage:v9", "true")
    assert said.startswith("Unable to find image '127.0.0.1:1/nosuchimage:v9' locally\n")
    assert "connection refused" in said.lower() or "connect call failed" in said.lower()
    assert "network nosuchnet not found" in refused("--network", "nosuchnet", "busybox", "true")
    assert "unable to find user nobodyhere" in refused("-u", "nobodyhere", "busybox", "true")
    assert "Minimum memory limit allowed is 6MB" in refused("-m", "1m", "busybox", "true")


def test_network_modes(daemon, client):
    links = "ls /sys/class/net"
    assert run(
        daemon, client, "--network", "none", "busybox", "sh", "-c", links + "; ip addr show lo | grep -c inet"
    ).split() == ["lo", "2"]
    assert set(run(daemon, client, "--network", "host", "busybox", "sh", "-c", links).split()) == set(
        os.listdir("/sys/class/net")
    )
    first = daemon.cli(client, "run", "-d", "busybox", "sleep", "1000").stdout.decode().strip()
    joined = run(daemon, client, "--network", f"container:{first}", "busybox", "readlink", "/proc/self/ns/net")
    assert joined.strip() == os.readlink(f"/proc/{daemon.inspect(first)['State']['Pid']}/ns/net")
    daemon.cli(client, "rm", "-f", first)


def test_ps_inspect_events(daemon, client):
    name = f"seen-{client}"
    label = f"test={name}"
    daemon.cli(client, "run", "-d", "--name", name, "-l", label, "busybox", "sleep", "1000")
    table = daemon.cli(client, "ps", "--filter", f"label={label}").stdout.decode().splitlines()
    assert table[0].split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert re.match(rf'[0-9a-f]{{12}} +busybox +"sleep 1000" +.* ago +Up .* {name}$', table[1])
    shown = daemon.cli(client, "ps", "--filter", f"name={name}", "--format", "{{.Names}} {{.State}} {{.Image}}").stdout.decode()
    assert shown == f"{name} running busybox\n"
    state = daemon.cli(client, "inspect", "--format", "{{.State.Status}} {{json .Config.Cmd}}", name).stdout.decode()
    assert state == 'running ["sleep","1000"]\n'
    assert json.loads(daemon.cli(client, "inspect", name).stdout)[0]["Name"] == f"/{name}"
    daemon.cli(client, "rm", "-f", name)
    wait_until(lambda: daemon.request("GET", f"/containers/{name}/json")[0] == 404, "it is removed")
    lines = daemon.cli(
        client, "events", "--since", "10m", "--until", f"{time.time():.9f}", "--filter", f"container={name}", "--format", "{{.Action}}"
    ).stdout.decode().split()  # fmt: skip
    assert lines == ["create", "start", "kill", "die", "destroy"]


def test_attach_to_a_running_container(daemon, client):
    ident = daemon.cli(client, "run", "-d", "-i", "busybox", "sh", "-c", "read line; echo got $line").stdout.decode().strip()
    # As with Docker, the end of stdin would end the attachment: it stays open until the answer is there.
    with daemon.popen(client, "attach", ident, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as attached:
        attached.stdin.write(b"hello\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == b"got hello\n"
        assert attached.wait(20) == 0
    daemon.cli(client, "rm", ident)


def test_start_attached_again(daemon, client):
    ident = daemon.cli(client, "create", "-i", "busybox", "sh", "-c", "echo again; cat").stdout.decode().strip()
    for _ in range(2):
        assert daemon.cli(client, "start", "-a", "-i", ident, stdin=b"in\n").stdout == b"again\nin\n"
    daemon.cli(client, "rm", ident)


def test_restart_gives_a_new_process(daemon, client):
    ident = daemon.cli(client, "run", "-d", "busybox", "sleep", "1000").stdout.decode().strip()
    before = daemon.inspect(ident)["State"]["Pid"]
    daemon.cli(client, "restart", "-t", "0", ident)
    after = daemon.inspect(ident)["State"]
    assert after["Running"]
    assert after["Pid"] != before
    daemon.cli(client, "rm", "-f", ident)


def test_version_and_info(daemon, client):
    assert daemon.cli(client, "version", "--format", "{{.Server.APIVersion}}").stdout.strip() == b"1.51"
    assert b"Storage Driver" in daemon.cli(client, "info").stdout


def test_container_prune(daemon, client):
    label = f"prune={client}"
    ident = daemon.cli(client, "create", "-l", label, "busybox").stdout.decode().strip()
    out = daemon.cli(client, "container", "prune", "-f", "--filter", f"label={label}").stdout.decode()
    assert ident in out
    assert daemon.request("GET", f"/containers/{ident}/json")[0] == 404
