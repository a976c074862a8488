"""Flags and daemon.json: merged as dockerd merges them, and nothing ignored."""

import json

import pytest
from boxshipd import config
from boxshipd.command_line import CommandLine, help_text
from boxshipd.config import ConfigError
from boxshipd.listeners import Address, parse_address
from boxshipd.main import main


def load(tmp_path, flags=None, **values):
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({key.replace("_", "-"): value for key, value in values.items()}))
    return config.load(flags or {}, str(path))


def test_file_and_flags_are_merged(tmp_path):
    merged = load(
        tmp_path, {"debug": True}, data_root="/srv/x", labels=["a=b"], log_opts={"max-size": "1m"}, default_shm_size="128M"
    )
    assert (merged.debug, merged.level, merged.data_root, merged.labels) == (True, "debug", "/srv/x", ("a=b",))
    assert merged.log_config.config == {"max-size": "1m"}
    assert merged.default_shm_size == 128 << 20
    assert merged.live_restore


def test_flags_come_in_their_own_notation():
    built = config.build({"log-opts": ["max-size=1m", "mode=non-blocking"], "default-ulimits": ["nofile=10:20", "core=5"]})
    assert built.log_opts == {"max-size": "1m", "mode": "non-blocking"}
    assert {name: (limit.soft, limit.hard) for name, limit in built.default_ulimits.items()} == {
        "nofile": (10, 20),
        "core": (5, 5),
    }


def test_ulimits_of_the_file(tmp_path):
    built = load(tmp_path, default_ulimits={"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}})
    assert built.default_ulimits["nofile"].hard == 2


@pytest.mark.parametrize(
    ("flags", "values", "message"),
    [
        ({}, {"datta_root": "/x"}, "the following directives don't match any configuration option: datta-root"),
        (
            {"data-root": "/a"},
            {"data_root": "/b"},
            "the following directives are specified both as a flag and in the configuration file: "
            "data-root: (from flag: /a, from file: /b)",
        ),
        ({}, {"userland_proxy_path": "/x"}, "userland-proxy-path /x is not available in Boxship 0.1 (only nothing): what"),
        ({}, {"iptables": False}, "iptables false is not available in Boxship 0.1 (only true): networks need their rules"),
        ({}, {"bip": "10.0.0.1"}, "invalid bip 10.0.0.1: it must be an IPv4 address with a prefix length"),
        ({}, {"bip6": "10.0.0.1/24"}, "invalid bip6 10.0.0.1/24: it must be an IPv6 address with a prefix length"),
        ({}, {"fixed_cidr": "10.0.0.1/24"}, "invalid fixed-cidr 10.0.0.1/24: it must be an IPv4 subnet"),
        ({}, {"default_gateway": "x"}, "invalid default-gateway x: it must be an IPv4 address"),
        ({}, {"ip": "::1"}, "invalid ip ::1: it must be an IPv4 address"),
        ({}, {"host_gateway_ip": "x"}, "invalid host-gateway-ip x"),
        ({}, {"mtu": 40}, "invalid MTU: 40"),
        ({}, {"bridge": "a/b"}, "invalid bridge name: a/b"),
        ({}, {"default_address_pools": [{"base": "10.0.0.0/8", "size": 4}]}, "the size of pool 10.0.0.0/8 is 4"),
        ({}, {"default_network_opts": {"bridge": {"colour": "red"}}}, 'invalid option "colour"'),
        ({}, {"default_network_opts": {"overlay": {}}}, "unknown network driver overlay"),
        ({}, {"storage_driver": "vfs"}, "storage-driver vfs is not available in Boxship 0.1 (only overlay2 or overlayfs)"),
        ({}, {"debug": "perhaps"}, "Expected `bool`, got `str` - at `$.debug`"),
        ({}, {"log_level": "loud"}, "invalid logging level: loud"),
        ({}, {"log_format": "xml"}, "invalid log format: xml"),
        ({}, {"log_driver": "awslogs"}, "failed to set log opts: --log-driver awslogs"),
        ({}, {"labels": ["a=b", "a=c"]}, "conflict labels for a=c and a=b"),
        ({}, {"labels": ["a"]}, "bad attribute format: a"),
        ({}, {"default_shm_size": "many"}, "default-shm-size: invalid size: 'many'"),
        ({}, {"dns": ["nowhere"]}, "dns: IP address is not correctly formatted: nowhere"),
        ({}, {"default_ulimits": {"all": {"Name": "all", "Soft": 1, "Hard": 2}}}, "default-ulimits: invalid ulimit type: all"),
        ({}, {"cgroup_parent": "../x"}, "cgroup-parent: ../x leads out of the hierarchy"),
        ({}, {"containerd_plugin_namespace": "x"}, "containerd-plugin-namespace x is not available in Boxship 0.1"),
    ],
)
def test_what_is_refused(tmp_path, flags, values, message):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, flags, **values)
    assert message in str(caught.value)
    assert "unable to configure the daemon with file" in str(caught.value)


def test_features_that_are_off_may_be_named(tmp_path):
    load(
        tmp_path,
        rootless=False,
        iptables=True,
        storage_driver="overlay2",
        features={"buildkit": False},
        insecure_registries=[],
    )


def test_networks_are_configured_as_dockerd_is(tmp_path):
    by_file = load(
        tmp_path,
        bip="10.0.0.1/24",
        host_gateway_ip="10.0.0.7",
        default_address_pools=[{"base": "10.1.0.0/16", "size": 24}],
        default_network_opts={"bridge": {"com.docker.network.driver.mtu": "1400"}},
    )
    flags = {
        "bip": "10.0.0.1/24",
        "host-gateway-ips": ["10.0.0.7"],
        "default-address-pools": ["base=10.1.0.0/16,size=24"],
        "default-network-opts": ["bridge=com.docker.network.driver.mtu=1400"],
    }
    assert by_file == load(tmp_path, flags)
    assert by_file.host_gateway_ips == ("10.0.0.7",)
    for key, value in (("default-address-pools", "10.1.0.0/16"), ("default-network-opts", "bridge=mtu")):
        with pytest.raises(ConfigError, match="invalid argument"):
            load(tmp_path, {key: [value]})


def test_a_named_file_must_exist_and_the_default_need_not(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        config.load({}, str(tmp_path / "none.json"))


def test_tls_implies_verification_and_default_certificates(monkeypatch):
    monkeypatch.setenv("DOCKER_CERT_PATH", "/certs")
    built = config.build({"tls": True})
    assert (built.tlsverify, built.tlscacert, built.tlskey) == (True, "/certs/ca.pem", "/certs/key.pem")
    assert config.build({"tlsverify": True}).tls
    assert not config.build({"tls": True, "tlsverify": False}).tlsverify


def test_a_signature_policy_is_named_by_an_absolute_path_and_may_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    running = load(tmp_path, signature_policy="policy.json")
    assert running.signature_policy == str(tmp_path / "policy.json")
    path = tmp_path / "daemon.json"
    path.write_text("{}")
    assert config.reload(running, {}, str(path))[0].signature_policy == ""
    assert CommandLine(["--signature-policy", "/p"]).flags == {"signature-policy": "/p"}


def test_reload_changes_only_what_is_reloadable(tmp_path):
    running = load(tmp_path, debug=False, data_root="/a", shutdown_timeout=3)
    path = tmp_path / "daemon.json"
    path.write_text('{"debug": true, "data-root": "/b", "labels": ["x=y"]}')
    fresh, waiting = config.reload(running, {}, str(path))
    assert (fresh.debug, fresh.data_root, fresh.labels, fresh.shutdown_timeout) == (True, "/a", ("x=y",), 15)
    assert waiting == ["data-root"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/x.sock", Address("unix", "/run/x.sock")),
        ("/run/x.sock", Address("unix", "/run/x.sock")),
        ("tcp://127.0.0.1:99", Address("tcp", "127.0.0.1", 99)),
        ("tcp://127.0.0.1", Address("tcp", "127.0.0.1", 2375)),
        ("tcp://:80", Address("tcp", "127.0.0.1", 80)),
        ("0.0.0.0:80", Address("tcp", "0.0.0.0", 80)),
        ("tcp://[::1]:80", Address("tcp", "::1", 80)),
        ("tcp://[::1]", Address("tcp", "::1", 2375)),
        ("fd://", Address("fd", "")),
        ("fd://3", Address("fd", "3")),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["npipe:////./pipe/x", "tcp://host:port", "tcp://host:70000", "tcp://a:1/path", "fd://x", "http://x"]
)
def test_what_is_no_address(text):
    with pytest.raises(ConfigError):
        parse_address(text)


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ([], {}),
        (["-D", "--tls", "--live-restore=false"], {"debug": True, "tls": True, "live-restore": False}),
        (["-Dl", "warn", "-D=0"], {"debug": False, "log-level": "warn"}),
        (["-H", "x", "-Hy", "-H=z", "--host", "-", "--host="], {"hosts": ["x", "y", "z", "-", ""]}),
        (["--mtu", "1400", "--mtu=1500"], {"mtu": 1500}),
        (["--label", "a=b", "--log-opt", "max-size=1m"], {"labels": ["a=b"], "log-opts": ["max-size=1m"]}),
        (["--bridge", "--debug"], {"bridge": "--debug"}),
    ],
)
def test_flags(arguments, flags):
    assert CommandLine(arguments).flags == flags


def test_flags_that_are_no_configuration():
    line = CommandLine(["--config-file", "/c", "--validate", "-v"])
    assert (line.flags, line.config_file, line.validate, line.version, line.help) == ({}, "/c", True, True, False)
    assert CommandLine(["-h"]).help
    assert CommandLine([]).config_file is None


def test_dockerds_flags_that_ask_for_nothing_are_taken():
    for arguments in (
        ["--iptables", "--rootless=false", "--firewall-backend", "nftables"],
        ["-s", "overlay2", "--rootless=false", "--exec-opt", "native.cgroupdriver=cgroupfs"],
        ["-soverlay2"],
    ):
        assert CommandLine([*arguments, "--debug"]).flags == {"debug": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--iptables=false"], "--iptables false is not available"),
        (["--metrics-addr", "x"], "--metrics-addr x is not available"),
        (["-s", "vfs"], "--storage-driver vfs is not available"),
        (["--exec-opt", "native.cgroupdriver=systemd"], r"--exec-opt \[native.cgroupdriver=systemd\] is not available"),
        (["--containerd-plugins-namespace", "x"], "--containerd-plugins-namespace x is not available"),
        (["--wrong"], "^unknown flag: --wrong$"),
        (["-x"], "^unknown shorthand flag: 'x' in -x$"),
        (["word"], "accepts no arguments: word"),
        (["-"], "accepts no arguments: -"),
        (["--data-root"], "^flag needs an argument: --data-root$"),
        (["-DH"], "^flag needs an argument: 'H' in -DH$"),
        (
            ["--debug=maybe"],
            '^invalid argument "maybe" for "-D, --debug" flag: strconv.ParseBool: parsing "maybe": invalid syntax$',
        ),
        (["--mtu", "big"], '^invalid argument "big" for "--mtu" flag: strconv.ParseInt: parsing "big": invalid syntax$'),
    ],
)
def test_flags_that_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        CommandLine(arguments)


def test_help_names_every_flag_once(capsys):
    shown = [word for line in help_text().splitlines() for word in line[:40].split() if word.startswith("--")]
    assert sorted(shown) == sorted(
        ["--config-file", "--validate", "--version", "--help", *(f"--{o.flag}" for o in config.FLAGS)]
    )
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert (ended.value.code, capsys.readouterr().out) == (0, help_text())


def test_validate(tmp_path, capsys):
    path = tmp_path / "daemon.json"
    path.write_text('{"debug": true}')
    with pytest.raises(SystemExit) as ended:
        main(["--validate", "--config-file", str(path)])
    assert (ended.value.code, capsys.readouterr().out) == (0, "configuration OK\n")
    path.write_text('{"colour": "red"}')
    with pytest.raises(SystemExit) as ended:
        main(["--validate", "--config-file", str(path)])
    assert ended.value.code == 1
    assert "colour" in capsys.readouterr().err
