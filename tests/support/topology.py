"""A small internet of network namespaces: a host that runs containers, its neighbour on one link, a router, somebody far away.

host ----+
neighbour+---- router ---- far
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

from boxrun.linux.namespaces import CLONE_NEWNET, setns

T = TypeVar("T")

HOST, HOST6 = "192.0.2.1", "2001:db8:1::1"
HOST_ALIAS = "192.0.2.11"
NEIGHBOUR, NEIGHBOUR6 = "192.0.2.2", "2001:db8:1::2"
ROUTER, ROUTER6 = "192.0.2.254", "2001:db8:1::ff"
FAR, FAR6 = "198.51.100.2", "2001:db8:2::2"

PATIENCE = 8.0
"""Seconds within which what must come has to come."""

ABSENCE = 0.7
"""Seconds after which what hasn't come is taken not to come: there is no event for something being dropped."""


def run(*command: str) -> str:
    """Run a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Topology:
    """The namespaces, named in /run/netns."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex[:8]
        self.host, self.neighbour, self.router, self.far = (f"{name}-{self.mark}" for name in ("host", "nbr", "rtr", "far"))

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [self.host, self.neighbour, self.router, self.far]

    def make(self) -> None:
        """Make namespaces and links."""
        for name in self.names:
            run("ip", "netns", "add", name)
            self.ip(name, "link", "set", "lo", "up")
        self.ip(self.router, "link", "add", "lan", "type", "bridge", "mcast_snooping", "0")
        self.ip(self.router, "link", "set", "lan", "up")
        for name, port in ((self.host, "lan0"), (self.neighbour, "lan1")):
            self.ip(name, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", self.router)
            self.ip(name, "link", "set", "eth0", "up")
            self.ip(self.router, "link", "set", port, "master", "lan", "up")
        self.ip(self.far, "link", "add", "eth0", "type", "veth", "peer", "name", "wan", "netns", self.router)
        self.ip(self.far, "link", "set", "eth0", "up")
        self.ip(self.router, "link", "set", "wan", "up")
        for name, device, addresses in (
            (self.host, "eth0", (f"{HOST}/24", f"{HOST_ALIAS}/24", f"{HOST6}/64")),
            (self.neighbour, "eth0", (f"{NEIGHBOUR}/24", f"{NEIGHBOUR6}/64")),
            (self.router, "lan", (f"{ROUTER}/24", f"{ROUTER6}/64")),
            (self.router, "wan", ("198.51.100.1/24", "2001:db8:2::1/64")),
            (self.far, "eth0", (f"{FAR}/24", f"{FAR6}/64")),
        ):
            for address in addresses:
                nodad = ("nodad",) if ":" in address else ()
                self.ip(name, "address", "add", address, "dev", device, *nodad)
        for name, via, via6 in (
            (self.host, ROUTER, ROUTER6),
            (self.neighbour, ROUTER, ROUTER6),
            (self.far, "198.51.100.1", "2001:db8:2::1"),
        ):
            self.ip(name, "route", "add", "default", "via", via)
            self.ip(name, "-6", "route", "add", "default", "via", via6)
        # A new namespace begins with the settings of the machine's own, whatever those are by now.
        for name in self.names:
            self.inside(name, lambda value="1" if name == self.router else "0": _forward(value))

    def remove(self) -> None:
        """Remove them."""
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def ip(self, name: str, *arguments: str) -> str:
        """Run ip(8) in one of them."""
        return run("ip", "-n", name, *arguments)

    def run(self, name: str, *command: str) -> str:
        """Run a command in one of them."""
        return run("nsenter", f"--net=/run/netns/{name}", *command)

    def mistake_loopback(self, path: str, via: str, source: str) -> None:
        """Have what is sent to 127.0.0.1 in a namespace leave it by ``via``, as a hostile neighbour would send it."""

        def inner(*command: str) -> None:
            run("nsenter", f"--net={path}", "ip", *command)

        inner("address", "delete", "127.0.0.1/8", "dev", "lo")
        inner("route", "add", "127.0.0.1/32", "via", via, "src", source)
        inside(path, lambda: set_sysctl("ipv4/conf/all/route_localnet", "1"))

    def inside(self, name: str, work: Callable[[], T]) -> T:
        """Do something in one of them, given by name, or in a process's, given by number."""
        return inside(f"/run/netns/{name}", work)


def _forward(value: str) -> None:
    for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        set_sysctl(path, value)


def set_sysctl(path: str, value: str) -> None:
    """Set what is below /proc/sys/net, in the namespace that the thread is in."""
    with open(f"/proc/sys/net/{path}", "w") as file:
        file.write(value)


def inside(path: str, work: Callable[[], T]) -> T:
    """Do something in a network namespace, in a thread that ends there."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(fd, CLONE_NEWNET)
            finally:
                os.close(fd)
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again where it belongs
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def of(pid: int) -> str:
    """The path of a process's network namespace."""
    return f"/proc/{pid}/ns/net"


def named(name: str) -> str:
    """The path of a named network namespace."""
    return f"/run/netns/{name}"


@contextmanager
def listening(
    path: str, port: int, *, v6: bool = False, udp: bool = False, address: str = "", protocol: int = 0
) -> Iterator[socket.socket]:
    """A server's socket in a namespace, of TCP where nothing else is said."""
    family = socket.AF_INET6 if v6 else socket.AF_INET
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM

    def make() -> socket.socket:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address or ("::" if v6 else "0.0.0.0"), port))
            if not udp:
                sock.listen(8)
            sock.settimeout(PATIENCE)
        except BaseException:
            sock.close()
            raise
        return sock

    with inside(path, make) as sock:
        yield sock


def reach(path: str, address: str, port: int, server: socket.socket, *, source: str = "", protocol: int = 0) -> str:
    """Connect from a namespace to ``address``, which must lead to ``server``; returns the address that the server sees."""
    client = _connected(path, address, port, PATIENCE, source, protocol)
    with client:
        accepted, peer = server.accept()
        with accepted:
            accepted.sendall(b"answer")
            client.settimeout(PATIENCE)
            assert client.recv(6) == b"answer"
    return str(peer[0])


def unreachable(path: str, address: str, port: int) -> bool:
    """Whether a connection from a namespace comes to nothing."""
    try:
        _connected(path, address, port, ABSENCE).close()
    except OSError:
        return True
    return False


def none_reach(attempts: Iterable[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """Of these attempts (namespace, address, port), made all at once, those whose connections come to something: none, one hopes."""
    whole = list(attempts)
    with ThreadPoolExecutor(max_workers=len(whole)) as pool:
        absent = list(pool.map(lambda attempt: unreachable(*attempt), whole))
    return [attempt for attempt, gone in zip(whole, absent, strict=True) if not gone]


def unheard(server: socket.socket, attempts: Iterable[tuple[str, str, int]]) -> bool:
    """Whether no datagram that these send (namespace, address, port) arrives at ``server``."""
    for path, address, port in attempts:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside(path, lambda family=family: socket.socket(family, socket.SOCK_DGRAM)) as client, suppress(OSError):
            client.sendto(b"unwanted", (address, port))
    server.settimeout(ABSENCE)
    try:
        server.recvfrom(100)
    except TimeoutError:
        return True
    finally:
        server.settimeout(PATIENCE)
    return False


def ask_udp(path: str, address: str, port: int, server: socket.socket) -> str:
    """Send a datagram from a namespace and get the answer; returns the address that the server sees."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(path, lambda: socket.socket(family, socket.SOCK_DGRAM)) as client:
        client.settimeout(PATIENCE)
        client.connect((address, port))
        client.send(b"question")
        data, peer = server.recvfrom(100)
        assert data == b"question"
        server.sendto(b"answer", peer)
        assert client.recv(100) == b"answer"
    return str(peer[0])


def _connected(path: str, address: str, port: int, patience: float, source: str = "", protocol: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    client = inside(path, lambda: socket.socket(family, socket.SOCK_STREAM, protocol))
    try:
        client.settimeout(patience)
        if source:
            client.bind((source, 0))
        client.connect((address, port))
    except BaseException:
        client.close()
        raise
    return client


@contextmanager
def topology() -> Iterator[Topology]:
    """A topology for a test."""
    made = Topology()
    try:
        made.make()
        yield made
    finally:
        with suppress(OSError):
            made.remove()
