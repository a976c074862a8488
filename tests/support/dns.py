"""A resolver for tests, which asks 127.0.0.11 in a network namespace, and a server that is asked in turn."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from boxrun.network.dns import codec

from support.topology import inside

SERVER = ("127.0.0.11", 53)


def question(name: str, kind: int = codec.A, identity: int = 7) -> bytes:
    """A query's bytes."""
    return codec.HEADER.pack(identity, 0x100, 1, 0, 0, 0) + codec.write_name(name) + kind.to_bytes(2, "big") + b"\0\1"


def ask(path: str, name: str, kind: int = codec.A, *, tcp: bool = False, patience: float = 8) -> tuple[int, list[str]]:
    """Ask in a namespace: the answer's code, and its addresses or names."""
    data = question(name, kind)
    with inside(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)) as sock:
        sock.settimeout(patience)
        sock.connect(SERVER)
        sock.send(len(data).to_bytes(2, "big") + data if tcp else data)
        if tcp:
            with sock.makefile("rb") as stream:
                answer = stream.read(int.from_bytes(stream.read(2), "big"))
        else:
            answer = sock.recv(4096)
    return parsed(answer, codec.parse_query(data))


def parsed(answer: bytes, query: codec.Query) -> tuple[int, list[str]]:
    """An answer's code and its records."""
    response = codec.parse_response(answer, query, query.id)
    offset, found = codec.HEADER.size + len(query.question), []
    for _ in range(response.records):
        _, offset = codec.read_name(answer, offset)
        kind, length = (
            int.from_bytes(answer[offset : offset + 2], "big"),
            int.from_bytes(answer[offset + 8 : offset + 10], "big"),
        )
        data, offset = answer[offset + 10 : offset + 10 + length], offset + 10 + length
        if kind == codec.PTR:
            found.append(codec.read_name(data, 0)[0])
        else:
            found.append(socket.inet_ntop(socket.AF_INET if kind == codec.A else socket.AF_INET6, data))
    return response.code, found


@contextmanager
def upstream(path: str, host: str, answers: dict[str, str | None], *, silent: bool = False) -> Iterator[list[str]]:
    """A server in a namespace; yields what it has been asked."""
    asked: list[str] = []
    sock = inside(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind((host, 53))

    def serve() -> None:
        while True:
            data, peer = sock.recvfrom(4096)
            if not data:
                return
            query = codec.parse_query(data)
            asked.append(query.name)
            if silent:
                continue
            found = answers.get(query.name)
            if found is None:
                sock.sendto(codec.failure(query, codec.NXDOMAIN), peer)
            else:
                sock.sendto(codec.address_answer(query, [codec.IPv4Address(found)], 60, 512).to(data[:2]), peer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        with inside(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as stop:
            stop.sendto(b"", (host, 53))
        thread.join()
        sock.close()
