"""The log drivers that send, from a container's output to a real receiver, and what ``logs`` shows of it."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon, wait_until
from support.daemons import stocked
from support.receivers import CountedStreams, Datagrams, Forward, GelfDatagrams, GelfStreams, Receiver, Streams, free_port

pytestmark = needs_root

CERTIFICATES = Path(__file__).parents[2] / "unit" / "api" / "certificates"


def run(daemon: Daemon, driver: str, command: str, *flags: str, **options: str) -> str:
    """Run a container with a log driver to its end; its id."""
    named = [f"--log-opt={name.replace('_', '-')}={value}" for name, value in options.items()]
    answer = daemon.cli("docker", "run", "-d", f"--log-driver={driver}", *named, *flags, "busybox", "sh", "-c", command)
    ident = answer.stdout.decode().strip()
    daemon.wait_state(ident, "exited")
    return ident


def say(daemon: Daemon, name: str, data: bytes) -> None:
    """Write to a container's standard input."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(daemon.socket))
        sock.sendall(f"POST /containers/{name}/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert b" 200 " in sock.recv(4096)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass


def remove(daemon: Daemon, ident: str) -> None:
    daemon.cli("docker", "rm", "-f", ident)


@pytest.mark.parametrize("transport", ["udp", "tcp", "unix", "unixgram"])
def test_syslog(daemon: Daemon, tmp_path: Path, transport: str) -> None:
    path = f"/tmp/{daemon.name}-{transport}"
    receiver: Receiver = (
        Datagrams(path if transport == "unixgram" else None)
        if transport in ("udp", "unixgram")
        else Streams(path if transport == "unix" else None)
    )
    with receiver:
        address = f"{transport}://{path}" if "unix" in transport else f"{transport}://127.0.0.1:{receiver.port}"
        options = {"syslog_address": address, "syslog_facility": "local3", "tag": "{{.Name}}/{{.ImageName}}", "env": "A"}
        ident = run(daemon, "syslog", "echo one; echo two >&2; echo; printf three", "-e=A=b", "--name=sys", **options)
        received = [message.rstrip(b"\n") for message in receiver.wait(3)]
        assert daemon.cli("docker", "logs", ident).stdout == b"one\n\nthree"
        assert daemon.cli("docker", "logs", ident).stderr == b"two\n"
        assert daemon.cli("docker", "logs", "--details", ident).stdout.startswith(b"A=b one\n")
        remove(daemon, ident)
    Path(path).unlink(missing_ok=True)
    # Facility 19, severity 6 for standard output and 3 for standard error; empty lines aren't sent.
    head = rb"<%d>[A-Z][a-z][a-z] [ 123]\d \d\d:\d\d:\d\d sys/busybox\[\d+\]: %s"
    wanted = [(158, b"one"), (155, b"two"), (158, b"three")]
    assert len(received) == 3
    for priority, text in wanted:
        assert any(re.fullmatch(head % (priority, text), message) for message in received), received


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("rfc3164", rb"<30>... .. ..:..:.. \S+ [0-9a-f]{12}\[\d+\]: hello"),
        ("rfc5424", rb"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) \S+ ([0-9a-f]{12}) \d+ \2 - hello"),
        ("rfc5424micro", rb"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d) \S+ ([0-9a-f]{12}) \d+ \2 - hello"),
    ],
)
def test_syslog_formats(daemon: Daemon, form: str, pattern: bytes) -> None:
    with Streams() as receiver:
        options = {"syslog_address": f"tcp://127.0.0.1:{receiver.port}", "syslog_format": form}
        remove(daemon, run(daemon, "syslog", "echo hello", **options))
        assert re.fullmatch(pattern, receiver.wait(1)[0]), receiver.received


def test_syslog_over_tls(daemon: Daemon) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server-key.pem")
    context.load_verify_locations(CERTIFICATES / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with CountedStreams(tls=context) as receiver:
        options = {
            "syslog_address": f"tcp+tls://localhost:{receiver.port}",
            "syslog_format": "rfc5424",
            "syslog_tls_ca_cert": str(CERTIFICATES / "ca.pem"),
            "syslog_tls_cert": str(CERTIFICATES / "client.pem"),
            "syslog_tls_key": str(CERTIFICATES / "client-key.pem"),
        }
        remove(daemon, run(daemon, "syslog", "echo secret; echo more", **options))
        assert [message.split(b" - ")[1] for message in receiver.wait(2)] == [b"secret\n", b"more\n"]
        # A server whose certificate nobody vouches for gets nothing.
        del options["syslog_tls_ca_cert"]
        refused = daemon.cli(
            "docker", "run", "--rm", "--log-driver=syslog",
            *(f"--log-opt={name.replace('_', '-')}={value}" for name, value in options.items()),
            "busybox", "true", code=125,
        )  # fmt: skip
        assert b"failed to initialize logging driver" in refused.stderr
        assert len(receiver.received) == 2


def test_fluentd(daemon: Daemon) -> None:
    with Forward() as receiver:
        options = {
            "fluentd_address": f"127.0.0.1:{receiver.port}",
            "fluentd_sub_second_precision": "true",
            "fluentd_request_ack": "true",
            "labels_regex": "^team",
            "tag": "docker.{{.ID}}",
        }
        ident = run(daemon, "fluentd", "echo out; sleep 0.01; echo err >&2", "--label=team.a=x", "--name=flu", **options)
        messages = receiver.wait(2)
        assert daemon.cli("docker", "logs", ident).stdout == b"out\n"
        assert daemon.inspect(ident)["State"].get("LogDropped", 0) == 0
        remove(daemon, ident)
    for (tag, moment, record, option), (source, log) in zip(messages, (("stdout", "out"), ("stderr", "err")), strict=True):
        assert tag == f"docker.{ident[:12]}"
        assert (moment.code, len(moment.data)) == (0, 8)
        assert record == {"container_id": ident, "container_name": "/flu", "source": source, "log": log, "team.a": "x"}
        assert option["chunk"]


@pytest.fixture
def vouching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon on a machine that trusts the certificates of these tests: the driver knows no option for that."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "ca.pem"))
    with stocked(Daemon()) as daemon:
        yield daemon


def test_fluentd_over_tls(daemon: Daemon, vouching: Daemon) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server-key.pem")
    with Forward(tls=context) as receiver:
        options = {"fluentd_address": f"tls://localhost:{receiver.port}", "fluentd_request_ack": "true", "tag": "secret"}
        ident = run(vouching, "fluentd", "echo out; echo err >&2", **options)
        assert {(tag, record["log"]) for tag, _, record, _ in receiver.wait(2)} == {("secret", "out"), ("secret", "err")}
        assert vouching.inspect(ident)["State"].get("LogDropped", 0) == 0
        remove(vouching, ident)
        # On a machine that doesn't trust it the server gets nothing.
        refused = daemon.cli(
            "docker", "run", "--rm", "--log-driver=fluentd", f"--log-opt=fluentd-address=tls://localhost:{receiver.port}",
            "--log-opt=fluentd-max-retries=1", "busybox", "true", code=125,
        )  # fmt: skip
        assert b"failed to initialize logging driver" in refused.stderr
        assert b"certificate verify failed" in refused.stderr
        assert len(receiver.received) == 2


def test_fluentd_pieces_of_long_lines_say_so(daemon: Daemon) -> None:
    with Forward() as receiver:
        command = "head -c 2500000 /dev/zero | tr '\\0' x; echo; echo short"
        remove(daemon, run(daemon, "fluentd", command, fluentd_address=f"tcp://127.0.0.1:{receiver.port}"))
        records = [message[2] for message in receiver.wait(4)]
    pieces, short = records[:3], records[3]
    assert "".join(record["log"] for record in pieces) == "x" * 2500000
    assert [record["partial_ordinal"] for record in pieces] == ["1", "2", "3"]
    assert [record["partial_last"] for record in pieces] == ["false", "false", "true"]
    assert len({record["partial_id"] for record in pieces}) == 1
    assert short["log"] == "short"
    assert "partial_message" not in short


def test_fluentd_that_comes_late_gets_everything(daemon: Daemon) -> None:
    port = free_port()
    options = {"fluentd_address": f"127.0.0.1:{port}", "fluentd_async": "true", "fluentd_retry_wait": "50ms"}
    named = [f"--log-opt={name.replace('_', '-')}={value}" for name, value in options.items()]
    command = "for i in 1 2 3; do echo $i; done; read wait"
    answer = daemon.cli("docker", "run", "-di", "--log-driver=fluentd", *named, "busybox", "sh", "-c", command)
    ident = answer.stdout.decode().strip()
    wait_until(lambda: daemon.cli("docker", "logs", ident).stdout == b"1\n2\n3\n", "the cache has it")
    with Forward(port=port) as receiver:
        assert [message[2]["log"] for message in receiver.wait(3)] == ["1", "2", "3"]
        remove(daemon, ident)


@pytest.mark.parametrize(("compression", "head"), [("gzip", b"\x1f\x8b"), ("zlib", b"\x78"), ("none", b'{"')])
def test_gelf_over_udp(daemon: Daemon, compression: str, head: bytes) -> None:
    with GelfDatagrams() as receiver:
        options = {"gelf_address": f"udp://127.0.0.1:{receiver.port}", "gelf_compression_type": compression, "tag": "t"}
        # Random digits don't compress, so that the second message needs several datagrams however it is packed.
        noise = "head -c 6000 /dev/urandom | od -An -tx1 | tr -d ' \\n'"
        ident = run(daemon, "gelf", f"echo hello; {noise}; echo", "--name=gel", **options)
        short, long = receiver.wait(2)
        assert daemon.cli("docker", "logs", ident).stdout.decode() == f"hello\n{long['short_message']}\n"
        remove(daemon, ident)
    assert len(long["short_message"]) == 12000
    assert receiver.chunks
    assert all(sent.startswith(head) for sent in receiver.heads)
    assert short["short_message"] == "hello"
    assert short["version"] == "1.1"
    assert short["level"] == 6
    assert short["_container_id"] == ident
    assert short["_container_name"] == "gel"
    assert short["_image_name"] == "busybox"
    assert short["_tag"] == "t"
    assert short["_command"].startswith("sh -c echo hello")


def test_gelf_over_tcp_connects_again(daemon: Daemon) -> None:
    with GelfStreams() as receiver:
        port = receiver.port
        named = [f"--log-opt=gelf-address=tcp://127.0.0.1:{port}", "--log-opt=gelf-tcp-reconnect-delay=1"]
        command = "while read line; do echo $line; done"
        client = daemon.popen(
            "docker", "run", "-i", "--rm", "--log-driver=gelf", *named, "busybox", "sh", "-c", command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        client.stdin.write(b"one\n")
        client.stdin.flush()
        assert receiver.wait(1)[0]["short_message"] == "one"
        assert client.stdout.readline() == b"one\n"
    with GelfStreams(port=port) as receiver:
        client.communicate(b"two\n", timeout=20)
        assert receiver.wait(1)[0]["short_message"] == "two"


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("syslog", {"syslog-address": "tcp://127.0.0.1:{port}"}, "dial tcp 127.0.0.1:{port}: connect: connection refused"),
        ("fluentd", {"fluentd-address": "127.0.0.1:{port}"}, "dial tcp 127.0.0.1:{port}: connect: connection refused"),
        (
            "gelf",
            {"gelf-address": "tcp://127.0.0.1:{port}"},
            "gelf: cannot connect to GELF endpoint: 127.0.0.1:{port} dial tcp",
        ),
    ],
)
def test_a_start_without_a_receiver_fails(daemon: Daemon, driver: str, options: dict[str, str], message: str) -> None:
    port = free_port()
    named = [f"--log-opt={name}={value.format(port=port)}" for name, value in options.items()]
    refused = daemon.cli("docker", "run", "--rm", f"--log-driver={driver}", *named, "busybox", "true", code=125)
    assert f"failed to initialize logging driver: {message.format(port=port)}" in refused.stderr.decode()


def test_without_a_cache_there_is_nothing_to_read(daemon: Daemon) -> None:
    with Datagrams() as receiver:
        options = {"syslog_address": f"udp://127.0.0.1:{receiver.port}", "cache_disabled": "true"}
        ident = run(daemon, "syslog", "echo x", **options)
        receiver.wait(1)
        refused = daemon.cli("docker", "logs", ident, code=1)
        assert b"configured logging driver does not support reading" in refused.stderr
        remove(daemon, ident)


def test_a_receiver_that_stalls_holds_or_drops(daemon: Daemon) -> None:
    """In blocking mode the container waits; in the other what is dropped is counted while it runs."""

    class Stalled(Streams):
        def _read(self, connection) -> None:
            """Take nothing."""

    lines = "i=0; while [ $i -lt 40 ]; do cat /file; i=$((i+1)); done; echo done >&2; read wait"
    prepare = "yes 0123456789012345678901234567890123456789 | head -n 25000 >/file"
    with Stalled() as receiver:
        flags = ["-di", "--log-driver=syslog", f"--log-opt=syslog-address=tcp://127.0.0.1:{receiver.port}"]
        command = ["busybox", "sh", "-c", f"{prepare}; {lines}"]
        blocking = daemon.cli("docker", "run", *flags, *command).stdout.decode().strip()
        dropping = daemon.cli("docker", "run", "--log-opt=mode=non-blocking", *flags, *command).stdout.decode().strip()
        wait_until(lambda: daemon.cli("docker", "logs", dropping).stderr == b"done\n", "it goes on", 30)
        dropped = wait_until(lambda: daemon.inspect(dropping)["State"]["LogDropped"], "what is dropped is counted")
        assert 0 < dropped <= 1_000_001
        assert daemon.cli("docker", "logs", "--tail", "1", blocking).stderr != b"done\n"
        assert "LogDropped" not in daemon.inspect(blocking)["State"]
        # The receiver still takes nothing; the senders and their containers end all the same.
        daemon.cli("docker", "rm", "-f", blocking, dropping)


def test_a_sender_that_dies_is_replaced(daemon: Daemon) -> None:
    with Streams() as receiver:
        flags = ["-di", "--log-driver=syslog", f"--log-opt=syslog-address=tcp://127.0.0.1:{receiver.port}", "--name=dies"]
        daemon.cli("docker", "run", *flags, "busybox", "sh", "-c", "echo one; while read line; do echo $line; done")
        assert receiver.wait(1)[0].endswith(b": one")
        say(daemon, "dies", b"two\n")
        assert receiver.wait(2)[1].endswith(b": two")
        pid = int(re.search(rb"\[(\d+)\]: two", receiver.received[1])[1])
        os.kill(pid, 9)
        wait_until(lambda: not _alive(pid), "it is dead")
        say(daemon, "dies", b"three\n")
        assert receiver.wait(3)[2].endswith(b": three")
        remove(daemon, "dies")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_idle_containers_whose_logs_are_sent_park_as_others_do(daemon: Daemon) -> None:
    """The shim's worker ends, and what is written later still reaches the receiver over the same connection."""
    with Streams() as receiver:
        flags = ["-di", "--log-driver=syslog", f"--log-opt=syslog-address=tcp://127.0.0.1:{receiver.port}", "--name=parks"]
        daemon.cli("docker", "run", *flags, "busybox", "sh", "-c", "echo one; while read line; do echo $line; done")
        receiver.wait(1)
        keeper = daemon.shim_pid("parks")
        # Process 1 becomes the keeper's child when the worker that made it has ended; beside it there is the sender.
        wait_until(lambda: len(daemon.children(keeper)) == 2, "the worker has parked")
        say(daemon, "parks", b"two\n")
        assert receiver.wait(2)[1].endswith(b": two")
        assert len(receiver.connections) == 1
        remove(daemon, "parks")


def test_journald(tmp_path: Path) -> None:
    """In a mount namespace of its own, so that its socket can be where the journal's is on other machines."""
    script = Path(__file__).with_name("journal_namespace.py")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "slave", sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
