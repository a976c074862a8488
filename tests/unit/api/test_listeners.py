"""Listening: the socket's owner and mode, who may share an address, and TLS that keeps half-closed streams."""

import asyncio
import contextlib
import os
import socket
import ssl
import stat
from pathlib import Path

import pytest
from boxshipd.config import Config, ConfigError
from boxshipd.listeners import ListenError, open_listeners

CERTIFICATES = Path(__file__).parent / "certificates"


def listening(config: Config):
    (listener,) = open_listeners(config)
    return listener


def test_a_unix_socket_is_for_its_group_alone(tmp_path):
    path = tmp_path / "deep" / "x.sock"
    listener = listening(Config(hosts=(f"unix://{path}",), group=str(os.getgid())))
    status = os.stat(path)
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert status.st_gid == os.getgid()
    listener.close()
    assert not path.exists()


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path):
    path = tmp_path / "x.sock"
    config = Config(hosts=(f"unix://{path}",), group=str(os.getgid()))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = listening(config)
    with pytest.raises(ListenError, match="another daemon serves it"):
        open_listeners(config)
    assert path.exists()
    listener.close()


def test_a_socket_of_somebody_else_stays(tmp_path):
    path = tmp_path / "x.sock"
    config = Config(hosts=(f"unix://{path}",), group=str(os.getgid()))
    first = listening(config)
    path.unlink()
    second = listening(config)
    first.close()
    assert path.exists()
    second.close()


def test_a_file_in_the_way_is_left_alone(tmp_path):
    path = tmp_path / "x.sock"
    path.write_text("precious")
    with pytest.raises(ListenError, match="isn't a socket"):
        open_listeners(Config(hosts=(f"unix://{path}",), group=str(os.getgid())))
    assert path.read_text() == "precious"


def test_a_group_that_was_named_must_exist(tmp_path):
    with pytest.raises(ListenError, match="group no-such-group not found"):
        open_listeners(Config(hosts=(f"unix://{tmp_path}/x.sock",), group="no-such-group"))


@pytest.mark.parametrize("config", [Config(hosts=("tcp://127.0.0.1:0",)), Config(hosts=("tcp://127.0.0.1:0",), tls=True)])
def test_tcp_without_client_certificates_is_refused(config):
    with pytest.raises(ConfigError, match="can start privileged containers and so is root here"):
        open_listeners(config)


def test_tls_that_cannot_be_set_up_is_an_error_though_no_address_needs_it(tmp_path):
    path = tmp_path / "x.sock"
    with pytest.raises(ListenError, match=r"can.t set up TLS from /nosuch\.pem"):
        open_listeners(Config(hosts=(f"unix://{path}",), tls=True, tlscert="/nosuch.pem"))
    assert not path.exists()


def test_insecure_tcp_is_served_with_a_warning(caplog):
    listener = listening(Config(hosts=("tcp://127.0.0.1:0",), insecure_tcp=True))
    assert "can start privileged containers" in caplog.text
    assert listener.address.port != 0
    listener.close()


def test_an_address_that_fails_leaves_nothing_open(tmp_path):
    path = tmp_path / "x.sock"
    with pytest.raises(ConfigError):
        open_listeners(Config(hosts=(f"unix://{path}", "tcp://127.0.0.1:0"), group=str(os.getgid())))
    assert not path.exists()


def test_without_systemd_there_is_nothing_to_inherit(monkeypatch):
    monkeypatch.delenv("LISTEN_PID", raising=False)
    with pytest.raises(ListenError, match="no sockets found via socket activation"):
        open_listeners(Config(hosts=("fd://",)))


@pytest.fixture
async def tls_port(api):
    config = Config(
        hosts=("tcp://127.0.0.1:0",),
        tls=True,
        tlsverify=True,
        tlscacert=str(CERTIFICATES / "ca.pem"),
        tlscert=str(CERTIFICATES / "server.pem"),
        tlskey=str(CERTIFICATES / "server-key.pem"),
    )
    listener = listening(config)
    await listener.serve(api.application.server, config)
    yield listener.address.port
    listener.stop_accepting()
    await listener.drain(1)


def tls_client(port: int, name: str | None = "client", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
    context.maximum_version = version
    if name:
        context.load_cert_chain(CERTIFICATES / f"{name}.pem", CERTIFICATES / f"{name}-key.pem")
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_serves_clients_with_our_certificate(tls_port, version):
    def ask() -> bytes:
        with tls_client(tls_port, version=version) as client:
            client.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker.example\r\n\r\n")
            return b"".join(iter(lambda: client.recv(65536), b""))

    assert (await asyncio.to_thread(ask)).endswith(b"OK")


@pytest.mark.parametrize("name", [None, "stranger"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_refuses_other_clients(tls_port, name, version):
    def ask() -> bytes:
        with tls_client(tls_port, name, version) as client:
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return client.recv(65536)

    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.to_thread(ask)


async def test_a_plain_client_of_a_tls_port_is_dropped(tls_port):
    reader, writer = await asyncio.open_connection("127.0.0.1", tls_port)
    writer.write(b"GET /_ping HTTP/1.0\r\n\r\n")
    assert b"OK" not in await reader.read()
    writer.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_stdin_may_end_before_the_output_over_tls(api, tls_port, version):
    await api.request("POST /containers/create?name=c", b'{"Image":"x"}', Content_Type="application/json")
    stdin = os.urandom(2_000_000)

    def attach() -> bytes:
        # The standard library's TLS socket can't end one direction alone; its memory form can.
        context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
        context.maximum_version = version
        context.load_cert_chain(CERTIFICATES / "client.pem", CERTIFICATES / "client-key.pem")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", tls_port), timeout=10) as sock:

            def step(act):
                while True:
                    try:
                        return act()
                    except ssl.SSLWantReadError:
                        sock.sendall(outgoing.read())
                        data = sock.recv(65536)
                        incoming.write(data) if data else incoming.write_eof()

            step(tls.do_handshake)
            head = (
                b"POST /containers/c/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n"
            )
            tls.write(head + stdin[:1000])
            sock.sendall(outgoing.read())
            answer = b""
            for start in range(1000, len(stdin), 50_000):
                tls.write(stdin[start : start + 50_000])
                sock.sendall(outgoing.read())
                answer += step(lambda: tls.read(1 << 20))
            # What unwrap finds unread it takes for a mistake, so everything that is there is read before.
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    answer += tls.read(1 << 20)
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.unwrap()
            sock.sendall(outgoing.read())
            while not answer.endswith(b"<end>"):
                answer += step(lambda: tls.read(1 << 20))
            return answer

    answer = await asyncio.to_thread(attach)
    assert answer.partition(b"\r\n\r\n")[2] == stdin + b"<end>"
