"""Published ports: every form of ``-p``, and no port to two containers."""

from __future__ import annotations

import pytest
from boxship.types.containers import ContainerConfig
from boxship.types.host import HostConfig
from boxship.types.networks import PortBinding
from boxshipd.errors import InternalError, InvalidParameter
from boxshipd.networks.ports import HostPorts, Wanted, join, parse_port, port_map, validate_bindings, wanted_ports
from hypothesis import given, settings
from hypothesis import strategies as st

ALL = ("0.0.0.0", "::")


def wanted(bindings=None, *, exposed=(), publish_all=False):
    config = ContainerConfig(exposed_ports={port: {} for port in exposed})
    return wanted_ports(config, HostConfig(port_bindings=bindings, publish_all_ports=publish_all))


def test_forms():
    assert wanted({"80/tcp": [PortBinding(host_port="8080")]}) == [Wanted("tcp", 80, "", 8080, 8080)]
    assert wanted({"80/tcp": [PortBinding(host_ip="127.0.0.1", host_port="8080-8090")]}) == [
        Wanted("tcp", 80, "127.0.0.1", 8080, 8090)
    ]
    assert wanted({"53/udp": [PortBinding()], "7/sctp": [PortBinding(host_port="7")]}) == [
        Wanted("sctp", 7, "", 7, 7),
        Wanted("udp", 53),
    ]
    assert wanted({"80/tcp": []}) == [Wanted("tcp", 80)]


def test_publish_all_takes_what_is_exposed_and_not_bound():
    found = wanted({"80/tcp": [PortBinding(host_port="80")]}, exposed=("80/tcp", "443/tcp"), publish_all=True)
    assert found == [Wanted("tcp", 80, "", 80, 80), Wanted("tcp", 443)]
    assert wanted(exposed=("443/tcp",)) == []


@pytest.mark.parametrize("port", ["80/foo", "0/tcp", "65536/tcp", "http/tcp", "-1/tcp", "80-81/tcp", ""])
def test_ports_that_are_none(port):
    with pytest.raises(InvalidParameter, match=r"^invalid port specification: "):
        parse_port(port)


@pytest.mark.parametrize("binding", [PortBinding(host_port="x"), PortBinding(host_port="9-8"), PortBinding(host_ip="1.2.3")])
def test_bindings_that_are_none(binding):
    with pytest.raises(InvalidParameter):
        validate_bindings({"80/tcp": [binding]})


def test_a_port_is_one_containers():
    ports = HostPorts()
    first = ports.allocate(Wanted("tcp", 80, "", 8080, 8080), ALL)
    assert [(p.host_ip, p.host_port) for p in first] == [("0.0.0.0", 8080), ("::", 8080)]
    with pytest.raises(InternalError, match=r"^Bind for 0\.0\.0\.0:8080 failed: port is already allocated$"):
        ports.allocate(Wanted("tcp", 80, "", 8080, 8080), ALL)
    with pytest.raises(InternalError, match=r"^Bind for 127\.0\.0\.1:8080 failed: port is already allocated$"):
        ports.allocate(Wanted("tcp", 80, "127.0.0.1", 8080, 8080), ("127.0.0.1",))
    assert ports.allocate(Wanted("udp", 80, "", 8080, 8080), ALL)
    ports.release(first)
    assert ports.allocate(Wanted("tcp", 80, "127.0.0.1", 8080, 8080), ("127.0.0.1",))
    assert ports.allocate(Wanted("tcp", 80, "127.0.0.2", 8080, 8080), ("127.0.0.2",))
    assert ports.allocate(Wanted("tcp", 80, "::1", 8080, 8080), ("::1",))


def test_ranges_and_random_ports_go_round_what_is_taken():
    ports = HostPorts()
    ports.allocate(Wanted("tcp", 80, "", 8000, 8000), ALL)
    assert ports.allocate(Wanted("tcp", 80, "", 8000, 8001), ALL)[0].host_port == 8001
    with pytest.raises(InternalError, match="already allocated"):
        ports.allocate(Wanted("tcp", 80, "", 8000, 8001), ALL)
    one, other = (ports.allocate(Wanted("tcp", 80), ALL)[0].host_port for _ in range(2))
    assert one != other
    ports.release(ports.allocate(Wanted("tcp", 1, "", 7000, 7000), ALL))
    assert ports.allocate(Wanted("tcp", 80, "", 7000, 7002), ALL, frozenset({7000}))[0].host_port == 7001


def test_shown():
    assert join("::1", 80) == "[::1]:80"
    assert port_map([(80, "tcp"), (53, "udp")], []) == {"80/tcp": [], "53/udp": []}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["0.0.0.0", "127.0.0.1", "10.0.0.1", "::"]), st.integers(0, 3)), max_size=40))
def test_whoever_gives_back_what_he_has_leaves_everything_free(asked):
    ports = HostPorts()
    held = []
    for place, offset in asked:
        try:
            held.append(ports.allocate(Wanted("tcp", 80, place, 9000, 9000 + offset), (place,)))
        except InternalError:
            continue
    seen = [(p.host_ip, p.host_port) for group in held for p in group]
    for number in range(9000, 9004):
        places = [ip for ip, port in seen if port == number]
        assert len(places) == len(set(places))
        assert "0.0.0.0" not in places or all(":" in ip or ip == "0.0.0.0" for ip in places)
    for group in held:
        ports.release(group)
    assert ports.allocate(Wanted("tcp", 80, "", 9000, 9000), ALL)
