"""The host's resolver configuration, and containers' files made of it."""

from __future__ import annotations

import pytest
from boxship.types.host import HostConfig
from boxshipd.containers.networking.name_files import (
    HostResolver,
    change_hosts,
    host_resolver,
    reachable,
    resolv_conf,
    resolver_of,
)
from boxshipd.containers.settings import Settings

SETTINGS = Settings(data_root="/x", exec_root="/y")


def test_the_hosts_configuration(tmp_path):
    main, behind = tmp_path / "main", tmp_path / "behind"
    main.write_text("# hi\nnameserver 127.0.0.53\nsearch a b\noptions edns0 trust-ad\noptions timeout:1\n")
    assert host_resolver((str(main), str(behind))) == HostResolver(
        ("127.0.0.53",), ("a", "b"), ("edns0", "trust-ad", "timeout:1")
    )
    behind.write_text("nameserver 192.0.2.1\nnameserver fe80::1%eth0\n")
    assert host_resolver((str(main), str(behind))).servers == ("192.0.2.1", "fe80::1%eth0")
    assert host_resolver((str(tmp_path / "none"), str(behind))) == HostResolver()


def test_a_container_can_ask_nobody_on_the_hosts_loopback():
    assert reachable(["127.0.0.53", "::1", "192.0.2.1", "rubbish"]) == ("192.0.2.1",)


def test_whose_configuration_counts():
    known = HostResolver(("192.0.2.1",), ("host",), ("edns0",))
    assert resolver_of(HostConfig(), SETTINGS, known) == known
    own = HostConfig(dns=["192.0.2.2"], dns_search=["."], dns_options=["ndots:2"])
    assert resolver_of(own, SETTINGS, known) == HostResolver(("192.0.2.2",), (), ("ndots:2",))
    daemons = Settings(data_root="/x", exec_root="/y", dns=("192.0.2.3",), dns_search=("d",))
    assert resolver_of(HostConfig(), daemons, known) == HostResolver(("192.0.2.3",), ("d",), ("edns0",))


def test_the_file():
    wanted = HostResolver(("192.0.2.1", "192.0.2.2"), ("a", "b"), ("edns0",))
    assert resolv_conf(wanted, embedded=False) == ("nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch a b\noptions edns0\n")
    assert resolv_conf(wanted, embedded=True) == "nameserver 127.0.0.11\nsearch a b\noptions edns0 ndots:0\n"
    assert resolv_conf(HostResolver(options=("ndots:3",)), embedded=True).endswith("options ndots:3\n")


def test_no_link_is_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s")
    (tmp_path / "hosts").symlink_to(secret)
    with pytest.raises(OSError, match="Too many levels"):
        change_hosts(str(tmp_path), [], ["10.0.0.1\tx\n"])
    assert secret.read_text() == "s"


def test_what_a_container_wrote_into_its_hosts_stays(tmp_path):
    path = tmp_path / "hosts"
    path.write_bytes(b"127.0.0.1\tlocalhost\n10.0.0.2\tc\nmine \xff")
    inode = path.stat().st_ino
    change_hosts(str(tmp_path), ["10.0.0.2\tc\n"], ["10.1.0.2\tc\n"])
    assert path.read_bytes() == b"127.0.0.1\tlocalhost\nmine \xff\n10.1.0.2\tc\n"
    change_hosts(str(tmp_path), [], ["10.3.0.2\tc\n"], "c")
    assert path.read_bytes() == b"127.0.0.1\tlocalhost\nmine \xff\n10.3.0.2\tc\n"
    assert path.stat().st_ino == inode
