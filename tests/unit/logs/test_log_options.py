"""Log options: which there are, what they mean, and what is refused in which words."""

from __future__ import annotations

import pytest
from boxship.types.containers import ContainerConfig
from boxship.types.host import LogConfig
from boxshipd.config import ConfigError, build
from boxshipd.containers.log.config import build_log, effective, validate_options
from boxshipd.errors import InvalidParameter, NotImplementedHere

ID = "0123456789ab" + "c" * 52


def log(driver: str, labels: dict[str, str] | None = None, env: list[str] | None = None, **options: str):
    return build_log(
        LogConfig(type=driver, config={name.replace("_", "-"): value for name, value in options.items()}),
        container=ContainerConfig(labels=labels or {}, env=env or []),
        container_id=ID,
        name="box",
        image="busybox:latest",
        image_id="sha256:" + "d" * 64,
        command=("sh", "-c", "echo"),
        created="2026-01-01T00:00:00Z",
        directory="/data",
    )


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("json-file", {"x": "1"}, "unknown log opt 'x' for json-file log driver"),
        ("local", {"syslog_address": "udp://h"}, "unknown log opt 'syslog-address' for local log driver"),
        ("journald", {"max_size": "1m"}, "unknown log opt 'max-size' for journald log driver"),
        ("syslog", {"x": "1"}, "unknown log opt 'x' for syslog log driver"),
        ("fluentd", {"x": "1"}, "unknown log opt 'x' for fluentd log driver"),
        ("gelf", {"gelf_address": "udp://h:1", "x": "1"}, 'unknown log opt "x" for gelf log driver'),
        ("gelf", {}, "gelf-address is a required parameter"),
        ("gelf", {"gelf_address": "http://h:1"}, "gelf: endpoint needs to be TCP or UDP"),
        ("gelf", {"gelf_address": "udp://h"}, "gelf: please provide gelf-address as proto://host:port"),
        ("json-file", {"compress": "true", "max_file": "1"}, "compress cannot be true when max-file is less than 2"),
        ("local", {"compress": "true", "max_size": "-1"}, "compress cannot be true when max-file is less than 2"),
        ("gelf", {"gelf_address": "tcp://h:1", "gelf_compression_type": "gzip"}, "compression is only supported on UDP"),
        (
            "gelf",
            {"gelf_address": "udp://h:1", "gelf_compression_type": "xz"},
            'unknown value "xz" for log opt "gelf-compression-type" for gelf log driver',
        ),
        (
            "gelf",
            {"gelf_address": "udp://h:1", "gelf_tcp_max_reconnect": "1"},
            '"gelf-tcp-max-reconnect" is only valid for TCP',
        ),
        ("gelf", {"gelf_address": "tcp://h:1", "gelf_tcp_max_reconnect": "x"}, '"gelf-tcp-max-reconnect" must be a positive'),
        ("syslog", {"syslog_address": "h:514"}, "syslog-address should be in form proto://address, got h:514"),
        ("syslog", {"syslog_address": "unix:///nowhere"}, "stat /nowhere: no such file or directory"),
        ("syslog", {"syslog_facility": "24"}, "invalid syslog facility"),
        ("syslog", {"syslog_format": "rfc1"}, "Invalid syslog format"),
        ("fluentd", {"fluentd_address": "http://h:1"}, "unsupported scheme in fluentd-address"),
        ("fluentd", {"fluentd_async": "maybe"}, 'fluentd-async: strconv.ParseBool: parsing "maybe": invalid syntax'),
        ("fluentd", {"fluentd_retry_wait": "soon"}, "invalid value for fluentd-retry-wait: invalid duration 'soon'"),
        ("fluentd", {"cache_disabled": "x"}, "invalid value for option cache-disabled: x"),
        ("json-file", {"mode": "sometimes"}, "logger: logging mode not supported: sometimes"),
        ("json-file", {"max_buffer_size": "1m"}, "logger: max-buffer-size option is only supported with 'mode=non-blocking'"),
        ("json-file", {"max_file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"tag": "{{.Nothing}}"}, "Nothing"),
        ("json-file", {"tag": "{{.ID"}, "log opt tag"),
        ("json-file", {"labels_regex": "("}, "labels-regex"),
        ("unheard-of", {}, "logger: no log driver named 'unheard-of' is registered"),
    ],
)
def test_what_is_refused(driver: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        log(driver, **options)
    assert message in str(refusal.value)


def test_drivers_of_clouds_are_not_here() -> None:
    with pytest.raises(NotImplementedHere, match="awslogs"):
        log("awslogs")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.ID}}", ID[:12]),
        ("{{.FullID}}", ID),
        ("{{.Name}}/{{.ImageName}}", "box/busybox:latest"),
        ("{{.ImageID}}", "sha256:ddddd"),
        ("{{.ImageFullID}}", "sha256:" + "d" * 64),
        ("{{.DaemonName}}", "docker"),
        ("{{.Command}}", "sh -c echo"),
        ('{{upper .Name}}-{{(.ExtraAttributes nil).team}}-{{index (.ExtraAttributes nil) "team"}}', "BOX-blue-blue"),
        ('{{.Name | printf "%q"}}{{if eq .Name "box"}}!{{end}}', '"box"!'),
        ("plain", "plain"),
    ],
)
def test_tags(template: str, text: str) -> None:
    made = build_log(
        LogConfig(type="json-file", config={"tag": template, "labels": "team"}),
        container=ContainerConfig(labels={"team": "blue"}),
        container_id=ID,
        name="box",
        image="busybox:latest",
        image_id="sha256:" + "d" * 64,
        command=("sh", "-c", "echo"),
        directory="/data",
    )
    assert made.attrs == {"team": "blue", "tag": text}


def test_attributes_by_name_and_expression() -> None:
    environment = ["A=1", "B=2", "os_name=linux"]
    made = log(
        "local", {"x": "1", "team.a": "2", "team.b": "3"}, environment, env_regex="^os_", labels_regex="^team", compress="false"
    )
    assert made.attrs == {"team.a": "2", "team.b": "3", "os_name": "linux"}
    assert not made.compress


def test_the_drivers_that_send_have_a_cache() -> None:
    made = log("fluentd", fluentd_address="h", cache_max_size="1m", cache_max_file="2", cache_compress="false")
    assert (made.path, made.max_size, made.max_files, made.compress) == (
        "/data/local-logs/container-cached.log",
        1 << 20,
        2,
        False,
    )
    assert made.options == {"fluentd-address": "h"}
    assert made.subject.tag == ID[:12]
    assert made.messages_limit == 0
    assert log("syslog").max_size == 20 << 20
    assert log("syslog", cache_disabled="true").path == ""
    assert log("fluentd", fluentd_async="1", fluentd_buffer_limit="2k").messages_limit == 2048


def test_the_daemons_options_count_for_its_driver_and_the_caches_for_all() -> None:
    default = LogConfig(type="json-file", config={"max-size": "1m", "cache-max-size": "5m"})
    assert effective(LogConfig(), default).config == {"max-size": "1m", "cache-max-size": "5m"}
    assert effective(LogConfig(type="syslog", config={"tag": "t"}), default).config == {"cache-max-size": "5m", "tag": "t"}
    assert effective(LogConfig(type="local"), default).config == {}
    validate_options(effective(LogConfig(type="json-file", config={"max-size": "2m"}), default))


def test_the_daemon_refuses_options_that_no_container_could_have() -> None:
    build({"log-driver": "syslog", "log-opts": {"syslog-address": "udp://127.0.0.1:514"}})
    with pytest.raises(ConfigError, match="failed to set log opts: unknown log opt 'x' for json-file log driver"):
        build({"log-opts": {"x": "1"}})
