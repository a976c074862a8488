"""Debian's docker-registry on loopback, in all the ways it can be protected, and a token server for it."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from support.daemon import wait_until

REGISTRY = shutil.which("docker-registry")
USER, PASSWORD = "anna", "pass:w0rd"


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Authority:
    """A certificate authority of the test's own.

    Attributes:
        ca: its certificate's path.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca.crt"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Test CA"),
            *("-keyout", directory / "ca.key", "-out", self.ca),
        )

    def issue(self, name: str, extension: str = "subjectAltName=IP:127.0.0.1,DNS:localhost") -> tuple[Path, Path]:
        """A certificate and its key."""
        certificate, key, request = (self.directory / f"{name}.{kind}" for kind in ("cert", "key", "csr"))
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(extension)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.directory / "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", extensions, "-out", certificate),
        )
        return certificate, key


def _openssl(*arguments: object, data: bytes = b"") -> bytes:
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


class Registry:
    """One docker-registry.

    Args:
        certificate: with its key, to serve TLS.
        client_ca: whose clients alone are let in.
        htpasswd: ask for the user and password above.
        token: the token server to send clients to.
    """

    def __init__(
        self,
        *,
        certificate: tuple[Path, Path] | None = None,
        client_ca: Path | None = None,
        htpasswd: bool = False,
        token: TokenServer | None = None,
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="boxship-registry-"))
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.tls = certificate is not None
        auth: dict = {}
        if htpasswd:
            (self.home / "htpasswd").write_text(f"{USER}:{_bcrypt(PASSWORD)}\n")
            auth = {"htpasswd": {"realm": "test", "path": str(self.home / "htpasswd")}}
        if token is not None:
            auth = {
                "token": {
                    "realm": token.realm,
                    "service": token.service,
                    "issuer": token.issuer,
                    "rootcertbundle": str(token.authority.ca),
                }
            }
        http: dict = {"addr": self.host, "secret": "test"}
        if certificate is not None:
            http["tls"] = {"certificate": str(certificate[0]), "key": str(certificate[1])}
            if client_ca is not None:
                http["tls"]["clientcas"] = [str(client_ca)]
        self._config = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.home / "data")}, "delete": {"enabled": True}},
            "http": http,
            "auth": auth,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        config = self.home / "config.yml"
        config.write_text(json.dumps({key: value for key, value in self._config.items() if value}))
        with open(self.home / "log", "ab") as log:
            self._process = subprocess.Popen([REGISTRY, "serve", config], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(self._listens, "the registry listens")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def log(self) -> str:
        """What it has logged."""
        return (self.home / "log").read_text(errors="replace")

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Registry:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Talking to it

    def request(self, method: str, path: str, body: bytes = b"", headers: dict | None = None) -> tuple[int, dict, bytes]:
        """One request without authentication; status, headers and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, data

    def put_blob(self, repository: str, data: bytes) -> str:
        """Put a blob; its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        status, headers, _ = self.request("POST", f"/v2/{repository}/blobs/uploads/")
        assert status == 202
        location = headers["location"].partition(self.host)[2] or headers["location"]
        joint = "&" if "?" in location else "?"
        status, _, said = self.request(
            "PUT", f"{location}{joint}digest={digest}", data, {"Content-Type": "application/octet-stream"}
        )
        assert status == 201, said
        return digest

    def put_manifest(self, repository: str, reference: str, document: dict | bytes, media_type: str) -> str:
        """Put a manifest or an index; its digest."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        status, _, said = self.request("PUT", f"/v2/{repository}/manifests/{reference}", data, {"Content-Type": media_type})
        assert status == 201, said
        return f"sha256:{hashlib.sha256(data).hexdigest()}"

    def blob_path(self, digest: str) -> Path:
        """Where it keeps a blob."""
        algorithm, _, checksum = digest.partition(":")
        return self.home / "data/docker/registry/v2/blobs" / algorithm / checksum[:2] / checksum / "data"


class TokenServer:
    """Gives tokens for docker-registry to those who know the password, or a refresh token that it gave before.

    Attributes:
        asked: each request: method, parameters and Authorization.
        life: of tokens, in seconds.
    """

    service, issuer = "test-registry", "test-issuer"
    refresh = "refresh-token-of-anna"

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self._certificate, self._key = authority.issue("token-signer", "keyUsage=digitalSignature")
        self.asked: list[tuple[str, dict[str, list[str]], str]] = []
        self.life = 300
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(parse_qs(urlsplit(self.path).query), "GET")

            def do_POST(self) -> None:
                self._answer(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()), "POST")

            def _answer(self, fields: dict[str, list[str]], method: str) -> None:
                status, said = server.answer(method, fields, self.headers.get("Authorization", ""))
                body = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.realm = f"http://127.0.0.1:{self._server.server_port}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> TokenServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method: str, fields: dict[str, list[str]], authorization: str) -> tuple[int, dict]:
        """A token for what is asked, or none."""
        self.asked.append((method, fields, authorization))
        known = authorization == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        known = known or fields.get("refresh_token") == [self.refresh]
        if not known and (authorization or "refresh_token" in fields):
            return 401, {"details": "incorrect username or password"}
        scopes = " ".join(fields.get("scope", [])).split()
        said: dict = {"token": self.token(scopes if known else []), "expires_in": self.life}
        if fields.get("offline_token") == ["true"] and known:
            said["refresh_token"] = self.refresh
        return 200, said

    def token(self, scopes: list[str]) -> str:
        """A signed token. Source: distribution docs/spec/auth/jwt.md."""
        chain = _openssl("x509", "-in", self._certificate, "-outform", "DER")
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(chain).decode()]}
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":") if scope.count(":") == 2 else ("", "", "")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        claims = {
            **{"iss": self.issuer, "sub": USER, "aud": self.service, "exp": now + self.life, "nbf": now - 10, "iat": now},
            **{"jti": os.urandom(8).hex(), "access": access},
        }
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
        return f"{signed}.{_encoded(_openssl('dgst', '-sha256', '-sign', self._key, data=signed.encode()))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bcrypt(password: str) -> str:
    """The only form that docker-registry takes; libcrypt makes it."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    hashed = crypt(password.encode(), b"$2y$05$" + b"abcdefghijklmnopqrstuu")
    assert hashed.startswith(b"$2y$"), hashed
    return hashed.decode()


@contextlib.contextmanager
def certificates_for(authority: Authority, host: str, directory: Path) -> Iterator[Path]:
    """A directory in the form of certs.d that trusts an authority for a host."""
    place = directory / host
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(authority.ca, place / "ca.crt")
    yield directory
