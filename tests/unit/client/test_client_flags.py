"""Flags: pflag's grammar, typed values, Docker's error messages, refusals by name."""

from __future__ import annotations

import pytest
from boxship.cli.container_flags import CreateOptions, RunOptions
from boxship.cli.flags import Absent, HelpRequested, parse
from boxship.cli.ps import PsOptions
from boxship.cli.registry import GROUPS, TOP, load
from boxship.errors import CommandError, UsageError


def run_options(*words: str) -> tuple[RunOptions, list[str]]:
    options = RunOptions()
    return options, parse(options, words, interspersed=False)


def test_options_end_at_the_image():
    options, rest = run_options("--rm", "-it", "img", "ls", "-l", "--rm=false")
    assert (options.rm, options.interactive, options.tty) == (True, True, True)
    assert rest == ["img", "ls", "-l", "--rm=false"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--name", "x"], "x"),
        (["--name=x"], "x"),
        (["--name=a=b"], "a=b"),
        (["--name="], ""),
        (["--name", "a", "--name", "b"], "b"),
    ],
)
def test_long_values(words, expected):
    assert run_options(*words, "img")[0].name == expected


@pytest.mark.parametrize("word", ["-ework=1", "-e=work=1"])
def test_short_values_may_be_glued(word):
    assert run_options(word, "img")[0].env == ("work=1",)


def test_cluster_with_a_value_at_its_end():
    options, rest = run_options("-itm", "64m", "img")
    assert (options.interactive, options.tty, options.memory, rest) == (True, True, 64 << 20, ["img"])


@pytest.mark.parametrize(("word", "value"), [("--sig-proxy=false", False), ("--sig-proxy", True), ("--sig-proxy=T", True)])
def test_switches_take_a_value_behind_an_equals_sign(word, value):
    assert run_options(word, "img")[0].sig_proxy is value


def test_double_dash_ends_the_options():
    assert run_options("--", "-img")[1] == ["-img"]


def test_interspersed_commands_take_flags_anywhere():
    options = PsOptions()
    assert parse(options, ["x", "-aq", "y", "--last", "3"]) == ["x", "y"]
    assert (options.all, options.quiet, options.last) == (True, True, 3)


def test_given_tells_a_default_from_a_value():
    options, _ = run_options("--init=false", "img")
    assert options.given("init")
    assert not options.given("rm")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-itZ"], "unknown shorthand flag: 'Z' in -itZ"),
        (["--name"], "flag needs an argument: --name"),
        (["-itm"], "flag needs an argument: 'm' in -itm"),
        (["-m", "zz"], 'invalid argument "zz" for "-m, --memory" flag: invalid size: \'zz\''),
        (["--rm=x"], 'invalid argument "x" for "--rm" flag: strconv.ParseBool: parsing "x": invalid syntax'),
        (
            ["--cpu-shares", "x"],
            'invalid argument "x" for "-c, --cpu-shares" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (["--cpus", "x"], 'invalid argument "x" for "--cpus" flag: failed to parse x as a rational number'),
        (["--cpus", "0.00000000001"], 'invalid argument "0.00000000001" for "--cpus" flag: value is too precise'),
        (["-e", "="], 'invalid argument "=" for "-e, --env" flag: invalid environment variable: ='),
        (["-l", "=x"], 'invalid argument "=x" for "-l, --label" flag: invalid label \'=x\': empty name'),
        (["-a", "foo"], 'invalid argument "foo" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'),
        (["--sysctl", "foo"], 'invalid argument "foo" for "--sysctl" flag: sysctl \'foo\' is not allowed'),
        (["--add-host", "foo"], 'invalid argument "foo" for "--add-host" flag: bad format for add-host: "foo"'),
        (["--device-read-bps", "foo"], 'invalid argument "foo" for "--device-read-bps" flag: bad format: foo'),
        (
            ["--ulimit", "nofile=9223372036854775808"],
            'invalid argument "nofile=9223372036854775808" for "--ulimit" flag: '
            'strconv.ParseInt: parsing "9223372036854775808": value out of range',
        ),
        (
            ["--health-interval", "9999999999h"],
            'invalid argument "9999999999h" for "--health-interval" flag: time: invalid duration "9999999999h"',
        ),
        (
            ["--ulimit", "nofile=5:1"],
            'invalid argument "nofile=5:1" for "--ulimit" flag: ulimit soft limit must be less than or equal to hard limit: 5 > 1',
        ),
    ],
)
def test_mistakes_are_named_as_docker_names_them(words, message):
    with pytest.raises(UsageError) as caught:
        run_options(*words)
    assert str(caught.value) == message
    assert caught.value.status == 125


@pytest.mark.parametrize("words", [["--help"], ["-it", "--help"]])
def test_help_is_asked_for(words):
    with pytest.raises(HelpRequested):
        run_options(*words)


@pytest.mark.parametrize("words", [["--cpu-count", "1"], ["--cpu-count=1"], ["--use-api-socket"]])
def test_features_that_are_not_there_are_refused_by_name(words):
    with pytest.raises(CommandError, match=r"^--[a-z-]+ is not available in Boxship 0\.1: \w"):
        run_options(*words, "img")


DOCKER_RUN_FLAGS = [
    "add-host",
    "annotation",
    "attach",
    "blkio-weight",
    "blkio-weight-device",
    "cap-add",
    "cap-drop",
    "cgroup-parent",
    "cgroupns",
    "cidfile",
    "cpu-count",
    "cpu-percent",
    "cpu-period",
    "cpu-quota",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cpu-shares",
    "cpus",
    "cpuset-cpus",
    "cpuset-mems",
    "detach",
    "detach-keys",
    "device",
    "device-cgroup-rule",
    "device-read-bps",
    "device-read-iops",
    "device-write-bps",
    "device-write-iops",
    "dns",
    "dns-option",
    "dns-search",
    "domainname",
    "entrypoint",
    "env",
    "env-file",
    "expose",
    "gpus",
    "group-add",
    "health-cmd",
    "health-interval",
    "health-retries",
    "health-start-interval",
    "health-start-period",
    "health-timeout",
    "hostname",
    "init",
    "interactive",
    "io-maxbandwidth",
    "io-maxiops",
    "ip",
    "ip6",
    "ipc",
    "isolation",
    "label",
    "label-file",
    "link",
    "link-local-ip",
    "log-driver",
    "log-opt",
    "mac-address",
    "memory",
    "memory-reservation",
    "memory-swap",
    "memory-swappiness",
    "mount",
    "name",
    "network",
    "network-alias",
    "no-healthcheck",
    "oom-kill-disable",
    "oom-score-adj",
    "pid",
    "pids-limit",
    "platform",
    "privileged",
    "publish",
    "publish-all",
    "pull",
    "quiet",
    "read-only",
    "restart",
    "rm",
    "runtime",
    "security-opt",
    "shm-size",
    "sig-proxy",
    "stop-signal",
    "stop-timeout",
    "storage-opt",
    "sysctl",
    "tmpfs",
    "tty",
    "ulimit",
    "use-api-socket",
    "user",
    "userns",
    "uts",
    "volume",
    "volume-driver",
    "volumes-from",
    "workdir",
]


def test_every_flag_of_docker_run_is_known():
    assert set(DOCKER_RUN_FLAGS) <= set(RunOptions.flags)


def test_create_has_no_flags_of_run_alone():
    assert set(RunOptions.flags) - set(CreateOptions.flags) == {"detach", "detach-keys", "sig-proxy"}


@pytest.mark.parametrize("entry", [*TOP.values(), *(entry for _, group in GROUPS.values() for entry in group.values())])
def test_every_command_can_be_loaded_and_its_flags_are_consistent(entry):
    command = load(entry)
    assert command.summary == entry[2]
    flags = command.options.flags.values()
    shorts = [flag.short for flag in flags if flag.short]
    assert len(shorts) == len(set(shorts))
    for flag in flags:
        assert flag.help
        if isinstance(flag, Absent):
            assert flag.reason
