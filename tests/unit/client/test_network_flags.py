"""The network flags of ``create``, ``run`` and ``network create``."""

from __future__ import annotations

import pytest
from boxship.cli.container_config import create_body
from boxship.cli.container_flags import RunOptions
from boxship.cli.flags import parse
from boxship.cli.network import CreateNetworkOptions, subnets
from boxship.cli.publish import Publication
from boxship.cli.publish import parse as parse_publish
from boxship.errors import CommandError, InvalidValue, UsageError


def body(*words: str) -> dict:
    options = RunOptions()
    (image,) = parse(options, [*words, "image"], interspersed=False)
    return create_body(options, image, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [("80/tcp", "", "")]),
        ("8080:80", [("80/tcp", "", "8080")]),
        ("8080:80/UDP", [("80/udp", "", "8080")]),
        ("127.0.0.1:8080:80", [("80/tcp", "127.0.0.1", "8080")]),
        ("127.0.0.1::80", [("80/tcp", "127.0.0.1", "")]),
        ("[::1]:8080:80", [("80/tcp", "::1", "8080")]),
        ("::1:8080:80", [("80/tcp", "::1", "8080")]),
        ("8000-8001:80-81/sctp", [("80/sctp", "", "8000"), ("81/sctp", "", "8001")]),
        ("80-81", [("80/tcp", "", ""), ("81/tcp", "", "")]),
        ("8000-8010:80", [("80/tcp", "", "8000-8010")]),
        ("published=8080,target=80,protocol=udp", [("80/udp", "", "8080")]),
        ("target=80", [("80/tcp", "", "")]),
    ],
)
def test_every_form_of_publish(text, expected):
    assert parse_publish(text) == [Publication(*fields) for fields in expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8080:", "no port specified: 8080:<empty>"),
        ("x", "invalid containerPort: x"),
        ("x:80", "invalid hostPort: x"),
        ("70000:80", "invalid hostPort: 70000"),
        ("81-80", "invalid containerPort: 81-80"),
        ("8000-8005:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000-8005"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("80/icmp", "invalid proto: icmp"),
        ("published=1", "no port specified: published=1<empty>"),
        ("target=80,colour=red", "invalid field key: colour"),
    ],
)
def test_publications_that_cannot_be(text, message):
    with pytest.raises(InvalidValue) as caught:
        parse_publish(text)
    assert str(caught.value) == message
    with pytest.raises(UsageError, match="publish"):
        body("-p", text)


def test_ports_are_exposed_and_bound():
    made = body("-p", "8080:80", "-p", "127.0.0.1:8081:80", "--expose", "90", "-P")
    assert made["ExposedPorts"] == {"80/tcp": {}, "90/tcp": {}}
    assert made["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"}]
    }
    assert made["HostConfig"]["PublishAllPorts"] is True


@pytest.mark.parametrize(
    ("words", "mode", "endpoints"),
    [
        ((), "default", {}),
        (("--network", "host"), "host", {}),
        (("--network", "container:x"), "container:x", {}),
        (("--network", "web"), "web", {"web": {}}),
        (("--network", "name=web"), "web", {"web": {}}),
        (
            ("--network", "web", "--network-alias", "a", "--ip", "10.0.0.2", "--ip6", "fd00::2", "--link", "db:d"),
            "web",
            {"web": {"Aliases": ["a"], "Links": ["db:d"], "IPAMConfig": {"IPv4Address": "10.0.0.2", "IPv6Address": "fd00::2"}}},
        ),
        (
            ("--network", "name=web,alias=a,alias=b,ip=10.0.0.2,driver-opt=x=y,gw-priority=-1,mac-address=02:00:00:00:00:01"),
            "web",
            {
                "web": {
                    "Aliases": ["a", "b"],
                    "DriverOpts": {"x": "y"},
                    "GwPriority": -1,
                    "MacAddress": "02:00:00:00:00:01",
                    "IPAMConfig": {"IPv4Address": "10.0.0.2"},
                }
            },
        ),
        (("--network", "one", "--network", "two"), "one", {"one": {}, "two": {}}),
        (("--mac-address", "02:00:00:00:00:01"), "default", {"default": {"MacAddress": "02:00:00:00:00:01"}}),
        (
            ("--link-local-ip", "169.254.1.1", "--network", "web"),
            "web",
            {"web": {"IPAMConfig": {"LinkLocalIPs": ["169.254.1.1"]}}},
        ),
    ],
)
def test_networks(words, mode, endpoints):
    made = body(*words)
    assert made["HostConfig"]["NetworkMode"] == mode
    shown = made["NetworkingConfig"]["EndpointsConfig"]
    assert {name: {key: value for key, value in end.items() if value} for name, end in shown.items()} == endpoints


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--network", "web", "--network", "web"), 'network "web" is specified multiple times'),
        (
            ("--network", "web", "--network", "host"),
            "conflicting options: cannot attach both user-defined and non-user-defined",
        ),
        (("--network-alias", "a"), "network-scoped aliases are only supported for user-defined networks"),
        (("--network", "name=web,colour=red"), "invalid field key colour"),
        (("--network", "alias=a"), "network name/id is not specified"),
        (("--network", "name=web,gw-priority=x"), "invalid gw-priority: x"),
        (("--network", "name=web,driver-opt=x"), "invalid key value pair format in driver options: x"),
        (("--network", "name=web,ip=10.0.0.1", "--ip", "10.0.0.2"), "cannot specify both --ip and per-network IPv4 address"),
    ],
)
def test_networks_that_cannot_be(words, message):
    with pytest.raises(CommandError) as caught:
        body(*words)
    assert message in str(caught.value)


def addresses(*words: str) -> list[dict]:
    options = CreateNetworkOptions()
    parse(options, [*words, "n"])
    return subnets(options)


def test_what_lies_in_which_subnet():
    assert addresses() == []
    assert addresses(
        *("--subnet", "10.0.0.0/24,fd00::/64", "--gateway", "fd00::1", "--gateway", "10.0.0.1", "--ip-range", "10.0.0.128/25"),
        *("--aux-address", "a=10.0.0.2", "--aux-address", "b=fd00::2"),
    ) == [
        {"Subnet": "10.0.0.0/24", "IPRange": "10.0.0.128/25", "Gateway": "10.0.0.1", "AuxiliaryAddresses": {"a": "10.0.0.2"}},
        {"Subnet": "fd00::/64", "Gateway": "fd00::1", "AuxiliaryAddresses": {"b": "fd00::2"}},
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gateway", "10.0.0.1"), "every ip-range or gateway must have a corresponding subnet"),
        (("--subnet", "10.0.0.0/24", "--subnet", "10.0.0.0/16"), "multiple overlapping subnet configuration is not supported"),
        (("--subnet", "10.0.0.0/24", "--gateway", "10.1.0.1"), "no matching subnet for gateway 10.1.0.1"),
        (("--subnet", "10.0.0.0/24", "--ip-range", "10.1.0.0/25"), "no matching subnet for range 10.1.0.0/25"),
        (("--subnet", "10.0.0.0/24", "--aux-address", "a=10.1.0.1"), "no matching subnet for aux-address 10.1.0.1"),
        (("--subnet", "10.0.0.0/24", "--gateway", "10.0.0.1", "--gateway", "10.0.0.2"), "cannot configure multiple gateways"),
        (("--subnet", "x"), "invalid subnet x: invalid CIDR block notation"),
    ],
)
def test_subnets_that_do_not_go_together(words, message):
    with pytest.raises(CommandError) as caught:
        addresses(*words)
    assert message in str(caught.value)
