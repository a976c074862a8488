"""Opening a byte stream to a daemon's address."""

from __future__ import annotations

import os
import socket

from boxship.errors import DaemonUnreachable, InvalidAddress
from boxship.http.address import HTTP_PORT, HTTPS_PORT, Address
from boxship.http.stream import Stream, TLSStream

CONNECT_TIMEOUT = 30.0


class TLSFiles:
    """How to speak TLS over ``tcp://``.

    Attributes:
        verify: whether the daemon's certificate must be signed by ``ca`` and name the host.
        ca: path of the authority's certificate.
        certificate: path of the client's certificate, not presented where the file is missing.
        key: path of its key.
    """

    __slots__ = ("ca", "certificate", "key", "verify")

    def __init__(self, *, verify: bool, ca: str, certificate: str, key: str) -> None:
        self.verify = verify
        self.ca = ca
        self.certificate = certificate
        self.key = key


def dial(address: Address, tls: TLSFiles | None = None) -> Stream:
    """Connect to the daemon.

    Args:
        address: where it listens.
        tls: for ``tcp`` addresses, None for plain text.

    Raises:
        DaemonUnreachable: nobody answers there.
        InvalidAddress: the TLS files can't be read.
    """
    if address.scheme == "unix":
        return _dial_unix(address)
    if address.scheme == "ssh":
        return _dial_ssh(address)
    return _dial_tcp(address, tls)


def _dial_unix(address: Address) -> Stream:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(address.path)
    except OSError as error:
        sock.close()
        raise DaemonUnreachable(address.text, error.strerror or str(error)) from error
    return Stream(sock)


def _dial_tcp(address: Address, tls: TLSFiles | None) -> Stream:
    port = address.port or (HTTP_PORT if tls is None else HTTPS_PORT)
    try:
        sock = socket.create_connection((address.host, port), CONNECT_TIMEOUT)
    except OSError as error:
        raise DaemonUnreachable(address.text, error.strerror or str(error)) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        sock.settimeout(None)
        return Stream(sock)
    import ssl

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.verify:
            context.load_verify_locations(tls.ca)
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if os.path.exists(tls.certificate):
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        sock.close()
        raise InvalidAddress(f"reading the TLS files {tls.ca}, {tls.certificate}, {tls.key}: {error}") from error
    try:
        wrapped = context.wrap_socket(sock, server_hostname=address.host)
    except (OSError, ssl.SSLError) as error:
        sock.close()
        raise DaemonUnreachable(address.text, f"TLS: {error}") from error
    wrapped.settimeout(None)
    return TLSStream(wrapped)


def _dial_ssh(address: Address) -> Stream:
    import subprocess

    command = ["ssh", "-T", "-o", "ConnectTimeout=30"]
    if address.user:
        command += ["-l", address.user]
    if address.port:
        command += ["-p", str(address.port)]
    command += ["--", address.host, "boxship"]
    if address.path:
        command += ["--host", f"unix://{address.path}"]
    command += ["system", "dial-stdio"]
    near, far = socket.socketpair()
    try:
        # Its own process group, so that a Ctrl-C meant for the container doesn't cut the connection.
        process = subprocess.Popen(command, stdin=far.fileno(), stdout=far.fileno(), process_group=0)
    except OSError as error:
        near.close()
        raise DaemonUnreachable(address.text, f"running ssh: {error.strerror}") from error
    finally:
        far.close()
    return Stream(near, process)
