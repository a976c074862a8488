"""The name server at 127.0.0.11, as programs in containers see it."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from pathlib import Path

from boxrun.network.contract import Names, NamesChange, Networks, NetworkSpec, Record, Resolver
from boxrun.network.dns import codec
from support.dns import SERVER, ask, question, upstream
from support.networks import Lab, Plugged, address
from support.runtime import command_line, eventually, processes
from support.topology import FAR, inside


async def named(lab: Lab, network: NetworkSpec, **containers: Plugged) -> None:
    """Push names."""
    records = tuple(
        Record(
            endpoint=container.request.endpoints[0].id,
            name=name,
            names=(name, "Web", container.id[:12]),
            addresses=tuple(text.partition("/")[0] for text in container.request.endpoints[0].addresses),
        )
        for name, container in containers.items()
    )
    change = NamesChange(network=network.id, records=records)
    await lab.supervisor.bus.unary(Networks.names, Names(changes=(change,)), timeout=10)


async def test_names_aliases_ids_and_reverse_lookups(lab: Lab) -> None:
    network = await lab.network(1)
    one, two = await lab.on(network, resolver=Resolver()), await lab.on(network, resolver=Resolver())
    await named(lab, network, one=one, two=two)
    await eventually(lambda: ask(one.path, "two") == (0, [address(two)]), "a name")
    assert ask(one.path, "TWO.net1") == (0, [address(two)])
    assert ask(one.path, two.id[:12]) == (0, [address(two)])
    assert ask(one.path, "two", codec.AAAA) == (0, [address(two, 1)])
    assert ask(one.path, "two", tcp=True) == (0, [address(two)])
    assert ask(one.path, "two", 15) == (0, [])
    assert ask(one.path, "3.0.1.10.in-addr.arpa", codec.PTR) == (0, ["two.net1"])
    turns = [tuple(ask(one.path, "web")[1]) for _ in range(2)]
    assert sorted(turns) == sorted([(address(one), address(two)), (address(two), address(one))])
    assert ask(one.path, "nobody")[0] == codec.SERVFAIL
    gone = NamesChange(network=network.id, gone=(two.request.endpoints[0].id,))
    await lab.supervisor.bus.unary(Networks.names, Names(changes=(gone,)), timeout=10)
    await eventually(lambda: ask(one.path, "two")[0] == codec.SERVFAIL, "the name is gone")


async def test_other_networks_names_are_unknown(lab: Lab) -> None:
    first, second = await lab.network(1), await lab.network(2)
    one, two = await lab.on(first, resolver=Resolver()), await lab.on(second, resolver=Resolver(links={"db": ("10.2.0.9",)}))
    await named(lab, first, one=one)
    await named(lab, second, two=two)
    await eventually(lambda: ask(two.path, "two")[1] == [address(two)], "a name")
    assert ask(two.path, "one")[0] == codec.SERVFAIL
    assert ask(two.path, "db") == (0, ["10.2.0.9"])
    assert ask(one.path, "db")[0] == codec.SERVFAIL


async def test_a_container_may_have_port_53_itself(lab: Lab) -> None:
    network = await lab.network(1)
    one = await lab.on(network, resolver=Resolver())
    await named(lab, network, one=one)
    await eventually(lambda: ask(one.path, "one")[1] == [address(one)], "a name")
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with inside(one.path, lambda kind=kind: socket.socket(socket.AF_INET, kind)) as own:
            own.bind(("0.0.0.0", 53))
            assert ask(one.path, "one", tcp=kind == socket.SOCK_STREAM)[1] == [address(one)]


async def test_other_servers_are_asked_at_once_and_their_answers_kept(lab: Lab) -> None:
    network = await lab.network(1)
    servers = ("192.0.2.1", FAR)
    one = await lab.on(network, resolver=Resolver(servers=servers))
    with (
        upstream(lab.host, "192.0.2.1", {}, silent=True) as silent,
        upstream(lab.far, FAR, {"example.org": "203.0.113.7"}) as asked,
    ):
        assert ask(one.path, "example.org") == (0, ["203.0.113.7"])
        assert ask(one.path, "Example.ORG") == (0, ["203.0.113.7"])
        assert ask(one.path, "missing.org")[0] == codec.NXDOMAIN
        assert asked.count("example.org") == 1
        assert "example.org" in silent
    inner = await lab.on(await lab.network(2, internal=True), resolver=Resolver(servers=servers, forward=False))
    assert ask(inner.path, "example.org")[0] == codec.SERVFAIL


def name_server(lab: Lab) -> int:
    """The name server's process."""
    run = str(lab.supervisor.run).encode()
    found = [pid for pid in processes() if b"boxrun.network.dns" in command_line(pid) and run in command_line(pid)]
    assert len(found) == 1, found
    return found[0]


async def test_it_is_replaced_when_it_dies_and_outlives_the_supervisor(lab: Lab) -> None:
    network = await lab.network(1, pool=1)
    one = await lab.on(network, resolver=Resolver())
    await named(lab, network, one=one)
    await eventually(lambda: ask(one.path, "one")[1] == [address(one)], "a name")
    first = name_server(lab)
    os.kill(first, signal.SIGKILL)

    def answers() -> bool:
        try:
            return ask(one.path, "one", patience=0.3)[1] == [address(one)]
        except OSError:
            return False

    await eventually(answers, "another name server")
    second = name_server(lab)
    assert second != first
    await lab.supervisor.kill()
    assert ask(one.path, "one")[1] == [address(one)]
    await lab.supervisor.start()
    assert name_server(lab) == second
    assert ask(one.path, "one")[1] == [address(one)]
    two = await lab.on(network, resolver=Resolver())
    await eventually(lambda: ask(two.path, "one")[1] == [address(one)], "a name for a new container")
    assert Path(f"/proc/{second}").exists()


async def test_hostile_queries_harm_nobody(lab: Lab) -> None:
    network = await lab.network(1)
    one, two = await lab.on(network, resolver=Resolver(servers=("192.0.2.1",))), await lab.on(network, resolver=Resolver())
    await named(lab, network, one=one)
    await eventually(lambda: ask(one.path, "one")[1] == [address(one)], "a name")
    generator = random.Random(5)
    with (
        upstream(lab.host, "192.0.2.1", {}, silent=True),
        inside(one.path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as flood,
    ):
        flood.connect(SERVER)
        for number in range(3000):
            # Questions that nobody answers, and noise.
            data = (
                question(f"x{number}.example", identity=number) if number % 2 else generator.randbytes(generator.randrange(200))
            )
            flood.send(data)
        half = inside(one.path, lambda: socket.create_connection(SERVER))
        half.sendall(b"\xff\xff\0")
        assert ask(two.path, "one", tcp=True)[1] == [address(one)]
        assert ask(one.path, "one")[1] == [address(one)]
        half.close()


async def test_a_thousand_queries_a_second_without_a_failure(lab: Lab) -> None:
    network = await lab.network(1)
    containers = [await lab.on(network, resolver=Resolver()) for _ in range(2)]
    await named(lab, network, one=containers[0])
    await eventually(lambda: ask(containers[0].path, "one")[1] == [address(containers[0])], "a name")
    data = question("one")
    for container in containers:
        with inside(container.path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.settimeout(8)
            sock.connect(SERVER)
            begun = time.monotonic()
            for _ in range(100):
                for _ in range(20):
                    sock.send(data)
                for _ in range(20):
                    assert sock.recv(512)[3] & 0xF == codec.NOERROR
            print(f"{2000 / (time.monotonic() - begun):.0f} queries/s")
