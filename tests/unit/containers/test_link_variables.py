"""What a link sets for the program of the container that has it."""

from __future__ import annotations

import pytest
from boxshipd.containers.networking.link_names import linked, split_name
from boxshipd.containers.networking.link_variables import variables


def test_a_port_and_the_others_variables():
    assert variables("/web/my-db", "10.0.0.2", [(5432, "tcp")], ["A=b=c", "PATH=/bin", "HOME=/", "gone"]) == [
        "MY_DB_PORT=tcp://10.0.0.2:5432",
        "MY_DB_PORT_5432_TCP=tcp://10.0.0.2:5432",
        "MY_DB_PORT_5432_TCP_ADDR=10.0.0.2",
        "MY_DB_PORT_5432_TCP_PORT=5432",
        "MY_DB_PORT_5432_TCP_PROTO=tcp",
        "MY_DB_NAME=/web/my-db",
        "MY_DB_ENV_A=b=c",
    ]
    assert variables("/web/db", "10.0.0.2", [], []) == ["DB_NAME=/web/db"]


def test_tcp_comes_first_and_consecutive_ports_are_a_range():
    found = dict(
        entry.split("=", 1)
        for entry in variables(
            "/w/d", "10.0.0.2", [(7, "udp"), (81, "tcp"), (90, "tcp"), (80, "tcp"), (82, "tcp"), (83, "udp")], []
        )
    )
    assert found["D_PORT"] == "tcp://10.0.0.2:80"
    ranges = {name: value for name, value in found.items() if "START" in name or "END" in name}
    assert ranges == {
        "D_PORT_80_TCP_START": "tcp://10.0.0.2:80",
        "D_PORT_80_TCP_PORT_START": "80",
        "D_PORT_80_TCP_END": "tcp://10.0.0.2:82",
        "D_PORT_80_TCP_PORT_END": "82",
    }


@pytest.mark.parametrize(
    ("ref", "expected"), [("/web/db", ("web", "db")), ("web/db", ("web", "db")), ("db", ("", "")), ("/db", ("", ""))]
)
def test_the_name_of_a_link(ref, expected):
    assert split_name(ref) == expected


def test_whom_an_alias_means():
    links = ["one:db", "/two:/web/cache", "three"]
    assert [linked(links, alias) for alias in ("db", "cache", "three", "other")] == ["one", "two", "three", ""]
