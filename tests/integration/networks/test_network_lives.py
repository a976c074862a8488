"""Networks and what containers hold of them outlive whoever dies."""

from __future__ import annotations

import http.server
import os
import re
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon, wait_until

pytestmark = needs_root


def addresses(daemon: Daemon, name: str) -> dict[str, str]:
    """A container's addresses by network."""
    networks = daemon.inspect(name)["NetworkSettings"]["Networks"]
    return {network: shown["IPAddress"] for network, shown in networks.items()}


def run(daemon: Daemon, name: str, *flags: str) -> str:
    daemon.cli("docker", "run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")
    return name


def resolves(daemon: Daemon, container: str, name: str) -> bool:
    return daemon.cli("docker", "exec", container, "nslookup", name, code=None).returncode == 0


def test_a_daemon_that_was_killed_knows_everything_again(own_bridged):
    daemon = own_bridged
    daemon.cli("docker", "network", "create", "web")
    run(daemon, "one", "-p", "127.0.0.1::80", "--restart", "always")
    run(daemon, "two", "--network", "web")
    before = {name: (addresses(daemon, name), daemon.inspect(name)["NetworkSettings"]["Ports"]) for name in ("one", "two")}
    networks = daemon.get("/networks")
    port = before["one"][1]["80/tcp"][0]["HostPort"]
    daemon.kill()
    daemon.start()
    assert daemon.get("/networks") == networks
    assert before == {
        name: (addresses(daemon, name), daemon.inspect(name)["NetworkSettings"]["Ports"]) for name in ("one", "two")
    }
    run(daemon, "three", "--network", "web")
    assert addresses(daemon, "three")["web"] not in before["two"][0].values()
    assert resolves(daemon, "three", "two")
    refused = daemon.cli("docker", "run", "--rm", "-p", f"127.0.0.1:{port}:80", "busybox", "true", code=125)
    assert b"port is already allocated" in refused.stderr
    shown = daemon.get("/networks/web")["Containers"]
    assert {end["Name"] for end in shown.values()} == {"two", "three"}
    daemon.cli("docker", "rm", "-f", "one", "two", "three")
    daemon.cli("docker", "network", "rm", "web")


def test_a_new_supervisor_is_told_of_networks_and_names(own_bridged):
    daemon = own_bridged
    daemon.cli("docker", "network", "create", "web")
    run(daemon, "one", "--network", "web")
    old = daemon.supervisor_pid()
    os.kill(old, signal.SIGKILL)
    pid = daemon.exec_root / "boxrun.pid"
    wait_until(lambda: (words := pid.read_text().split()) and int(words[0]) != old, "another supervisor")
    run(daemon, "two", "--network", "web")
    assert resolves(daemon, "two", "one")
    assert len(set(addresses(daemon, "one").values()) | set(addresses(daemon, "two").values())) == 2


@pytest.mark.parametrize("victims", ["boxrun.network.dns", "boxrun.network.dns boxrun.supervisor", "boxrun.network.dns then"])
def test_names_are_told_anew_whoever_has_died(own_bridged, victims):
    """``then``: the name server dies after another supervisor has come, which was never told by its containers' starts."""
    daemon = own_bridged
    daemon.cli("docker", "network", "create", "web")
    for name in ("one", "two"):
        run(daemon, name, "--network", "web")
    assert resolves(daemon, "two", "one")
    address = addresses(daemon, "one")["web"]
    old = daemon.supervisor_pid()
    pid = daemon.exec_root / "boxrun.pid"
    doomed = [process(daemon, "boxrun.network.dns")]
    if "supervisor" in victims:
        doomed.append(old)
    if "then" in victims:
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: (words := pid.read_text().split()) and int(words[0]) != old, "another supervisor")
        # It has been listed, and so told of names, before it starts anything.
        run(daemon, "three", "--network", "web")
        assert doomed == [process(daemon, "boxrun.network.dns")]
    for victim in doomed:
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: resolves(daemon, "two", "one"), "the name is known again")
    assert process(daemon, "boxrun.network.dns") != doomed[0]
    reverse = ("exec", "two", "nslookup", address)
    # Networks' names come a moment after those of containers.
    wait_until(lambda: b"name = one.web" in daemon.cli("docker", *reverse, code=None).stdout, "the whole name is known again")


@pytest.mark.parametrize("own_bridged", [("--icc=false",)], indirect=True)
def test_a_link_opens_what_the_other_exposes_where_containers_are_apart(own_bridged):
    daemon = own_bridged
    serve = ("sh", "-c", "mkdir /w; echo hello > /w/f; httpd -p 80 -h /w; httpd -p 81 -h /w; sleep 1000")
    daemon.cli("docker", "run", "-d", "--name", "db", "--expose", "80", "busybox", *serve)
    for name, flags in (("web", ("--link", "db:data")), ("other", ())):
        run(daemon, name, *flags)
    place = addresses(daemon, "db")["bridge"]

    def fetched(container: str, host: str, port: int) -> bytes:
        command = ("timeout", "2", "wget", "-qO-", f"http://{host}:{port}/f")
        return daemon.cli("docker", "exec", container, *command, code=None).stdout

    wait_until(lambda: fetched("web", "data", 80) == b"hello\n", "what the linked container exposes")
    assert fetched("web", "data", 81) == b""
    assert fetched("other", place, 80) == b""
    daemon.cli("docker", "restart", "-t", "0", "web")
    wait_until(lambda: fetched("web", "data", 80) == b"hello\n", "the same after a restart")


def process(daemon: Daemon, module: str) -> int:
    """The process of the daemon's that runs a module."""
    run_directory = str(daemon.exec_root).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if module.encode() in words and run_directory in words:
            return int(entry.name)
    raise AssertionError(f"nobody runs {module}")


@pytest.mark.parametrize("moment", range(6))
def test_killed_while_starting(own_bridged, moment):
    """Whatever step it comes at: afterwards each address is one container's, and a network nobody is on can go."""
    daemon = own_bridged
    daemon.cli("docker", "network", "create", "web")
    daemon.cli("docker", "create", "--name", "early", "--network", "web", "-p", "127.0.0.1::80", "busybox", "sleep", "1000")
    client = daemon.popen("docker", "start", "early", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(moment * 0.004)  # the moment is the test
    daemon.kill()
    client.wait(30)
    daemon.start()
    state = daemon.inspect("early")["State"]
    # A start on record of which the runtime knows nothing is a run that was lost.
    assert (state["Status"], state["ExitCode"]) in {("created", 0), ("running", 0), ("exited", 255)}, f"{state}"
    run(daemon, "late", "--network", "web")
    held = [addresses(daemon, name)["web"] for name in ("early", "late")]
    if daemon.inspect("early")["State"]["Running"]:
        wait_until(lambda: addresses(daemon, "early")["web"], "its address is known")
        held = [addresses(daemon, name)["web"] for name in ("early", "late")]
    assert len(set(held)) == 2
    daemon.cli("docker", "rm", "-f", "early", "late")
    daemon.cli("docker", "network", "rm", "web")


def test_a_restart_policy_keeps_address_and_ports(own_bridged):
    daemon = own_bridged
    daemon.cli("docker", "run", "-d", "--name", "cc", "--restart", "always", "-p", "80", "busybox", "sleep", "1000")
    before = daemon.inspect("cc")
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    wait_until(
        lambda: (now := daemon.inspect("cc"))["State"]["Running"] and now["State"]["Pid"] not in (0, before["State"]["Pid"]),
        "it runs again",
    )
    after = daemon.inspect("cc")
    assert addresses(daemon, "cc") == {"bridge": before["NetworkSettings"]["IPAddress"]}
    assert after["NetworkSettings"]["Ports"] == before["NetworkSettings"]["Ports"]


def test_removed_at_once_gives_its_port_to_the_next(own_bridged):
    daemon = own_bridged
    run(daemon, "cc", "-p", "127.0.0.1::80")
    port = daemon.inspect("cc")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
    for number in range(3):
        daemon.cli("docker", "rm", "-f", "cc")
        run(daemon, "cc", "-p", f"127.0.0.1:{port}:80")
        assert daemon.inspect("cc")["State"]["Running"], number


@pytest.mark.parametrize("own_bridged", [("--default-network-opt", "bridge=com.docker.network.driver.mtu=1234")], indirect=True)
def test_options_of_the_daemon(own_bridged):
    daemon = own_bridged
    daemon.cli("docker", "network", "create", "web")
    shown = daemon.cli("docker", "run", "--rm", "--network", "web", "busybox", "ip", "link", "show", "eth0").stdout
    assert b"mtu 1234" in shown


def test_the_default_bridge_can_be_configured(own_daemon):
    daemon = own_daemon
    base = daemon.subnets.replace(".0.0/16", ".77.")
    daemon.terminate()
    name = f"bxt{daemon.slot.number}"
    pools = daemon.network_flags[:-2]
    daemon.network_flags = (*pools, "-b", name, "--bip", f"{base}1/24", "--fixed-cidr", f"{base}64/26", "--mtu", "1300")
    daemon.start()
    shown = daemon.cli("docker", "run", "--rm", "busybox", "ip", "address", "show", "eth0").stdout.decode()
    assert f"inet {base}64/24" in shown
    assert "mtu 1300" in shown
    daemon.terminate()
    daemon.network_flags = (*pools, "-b", "none")
    daemon.start()
    assert b"eth0" not in daemon.cli("docker", "run", "--rm", "busybox", "ip", "address").stdout


@pytest.mark.parametrize("own_bridged", [("-H", "tcp://0.0.0.0:0", "--insecure-tcp")], indirect=True)
def test_the_engines_own_port_is_not_for_containers(own_bridged):
    daemon = own_bridged
    (port,) = set(re.findall(r"tcp://0\.0\.0\.0:(\d+)", daemon.log())) - {"0"}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/_ping", timeout=10) as answer:
        assert answer.read() == b"OK"
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), http.server.SimpleHTTPRequestHandler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            ask = (
                f"for port in {port} {other.server_port}; do timeout 3 wget -qO /dev/null http://gw:$port/_ping; echo $?; done"
            )
            shown = daemon.cli("docker", "run", "--rm", "--add-host", "gw:host-gateway", "busybox", "sh", "-c", ask)
        finally:
            other.shutdown()
            thread.join()
    assert b"404 File not found" in shown.stderr, "the host is reached"
    assert b"400" not in shown.stderr
    assert shown.stdout.split()[0] != b"0"


def test_containers_without_networks_need_none(own_daemon):
    daemon = own_daemon
    shown = daemon.cli("docker", "run", "--rm", "busybox", "ip", "-o", "link").stdout.decode().splitlines()
    assert [line.split()[1] for line in shown] == ["lo:"]
    daemon.cli("docker", "run", "--rm", "--network", "host", "busybox", "true")
    daemon.cli("docker", "run", "--rm", "--network", "none", "busybox", "true")
