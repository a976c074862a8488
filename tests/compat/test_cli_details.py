"""Details that people and scripts depend on, mistakes above all: the same from Docker's command line and from ours."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.daemon import DOCKER, needs_release

CLIENTS = [pytest.param("docker", marks=pytest.mark.skipif(DOCKER is None, reason="no docker command")), "boxship"]


@pytest.fixture(params=CLIENTS)
def client(request) -> str:
    return request.param


@pytest.fixture
def made(daemon, client):
    """A container that was created and never started."""
    name = f"made-{client}"
    daemon.cli(client, "create", "--name", name, "busybox", "sleep", "1000")
    yield name
    daemon.cli(client, "rm", "-f", name)


@pytest.mark.parametrize("flag", ["--network", "--pid", "--ipc"])
def test_a_container_to_join_that_is_not_there_is_no_missing_image(daemon, client, flag):
    said = daemon.cli(client, "run", "--rm", flag, "container:nosuch", "busybox", "true", code=125).stderr.decode()
    assert "No such container: nosuch" in said
    assert "Unable to find image" not in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dns", "x"], "IP address is not correctly formatted: x"),
        (["--ulimit", "bogus=1"], "invalid ulimit type: bogus"),
        (["--isolation", "hyperv"], 'invalid isolation "hyperv" on linux'),
        (["--device", "/dev/null:/dev/x:xyz"], "bad mode specified: xyz"),
        (["--env-file", "/nosuch"], "open /nosuch: no such file or directory"),
    ],
)
def test_values_that_cannot_be(daemon, client, flags, message):
    assert message in daemon.cli(client, "run", "--rm", *flags, "busybox", "true", code=125).stderr.decode()


def test_the_only_isolation_may_be_named(daemon, client):
    daemon.cli(client, "run", "--rm", "--isolation", "default", "busybox", "true")


def test_an_environment_file_is_named_with_its_mistake(daemon, client, tmp_path):
    file = tmp_path / "env"
    file.write_text("GOOD=1\nA B=2\n")
    said = daemon.cli(client, "run", "--rm", "--env-file", str(file), "busybox", "true", code=125).stderr.decode()
    assert "variable 'A B' contains whitespaces" in said
    needs_release(client, 28)
    assert f"invalid env file ({file}): variable" in said


def test_a_detached_container_that_cannot_start_is_named_and_its_status_is_the_programs(daemon, client):
    result = daemon.cli(client, "run", "-d", "busybox", "nosuchprogram", code=127)
    ident = result.stdout.decode().strip()
    assert daemon.inspect(ident)["State"]["Status"] == "created"
    assert "executable file not found" in result.stderr.decode()
    daemon.cli(client, "rm", ident)


@pytest.mark.parametrize("name", ["b:x:y", "b@sha256:aa", "UPPER", "b:", ""])
def test_names_no_image_can_have(daemon, client, name):
    before = daemon.get("/images/json")
    assert "invalid reference format" in daemon.cli(client, "tag", "busybox", name, code=1).stderr.decode()
    assert daemon.get("/images/json") == before


def test_an_image_that_is_not_there_is_an_error_unless_forced(daemon, client):
    assert "No such image" in daemon.cli(client, "rmi", "nosuch", code=1).stderr.decode()
    assert "No such image" in daemon.cli(client, "rmi", "-f", "nosuch").stderr.decode()


def test_json_of_inspect_is_a_list(daemon, client, made):
    shown = daemon.cli(client, "inspect", "-f", "json", made).stdout
    assert shown.count(b"\n") == 1
    assert [container["Name"] for container in json.loads(shown)] == [f"/{made}"]


def test_templates_that_are_wrong(daemon, client, made):
    for template in ("{{", "{{nosuch .Name}}"):
        result = daemon.cli(client, "inspect", "-f", template, "nosuch", code=64)
        assert result.stdout == b""
        assert "template parsing error: template: " in result.stderr.decode()
    result = daemon.cli(client, "inspect", "-f", "{{.Nosuch}}", made, code=1)
    assert result.stdout == b"\n"
    assert "template parsing error: template: " in result.stderr.decode()


def test_what_is_found_is_shown_beside_what_is_not(daemon, client, made):
    result = daemon.cli(client, "inspect", "-f", "{{.Name}}", "nosuch", made, code=1)
    assert result.stdout.decode() == f"/{made}\n"
    assert "No such object: nosuch" in result.stderr.decode()


def test_a_volume_is_found_whatever_it_is_called(daemon, client):
    for name in ("shown", "ShownToo"):
        daemon.cli(client, "volume", "create", name)
        assert daemon.cli(client, "inspect", "-f", "{{.Name}}", name).stdout.decode() == f"{name}\n"
        daemon.cli(client, "volume", "rm", name)


def test_raw_lists(daemon, client, made):
    lines = daemon.cli(client, "ps", "-a", "--filter", f"name={made}", "--format", "raw").stdout.decode().split("\n")
    assert [line.partition(":")[0] for line in lines] == [
        *("container_id", "image", "command", "created_at", "state", "status", "names", "labels", "ports", "", ""),
    ]
    assert lines[5:7] == ["status: Created", f"names: {made}"]
    ident = daemon.inspect(made)["Id"]
    quiet = daemon.cli(client, "ps", "-aq", "--no-trunc", "--filter", f"name={made}", "--format", "raw").stdout.decode()
    assert quiet == f"container_id: {ident}\n"
    lines = daemon.cli(client, "images", "--format", "raw", "busybox").stdout.decode().split("\n")
    assert [line.partition(":")[0] for line in lines] == [
        *("repository", "tag", "image_id", "created_at", "virtual_size", "", ""),
    ]


def test_what_cannot_be_killed(daemon, client, made):
    said = daemon.cli(client, "kill", "nosuch", code=1).stderr.decode()
    assert "cannot kill container: nosuch: No such container: nosuch" in said
    said = daemon.cli(client, "kill", "-s", "BOGUS", made, code=1).stderr.decode()
    assert f"cannot kill container: {made}: invalid signal: BOGUS" in said
    said = daemon.cli(client, "kill", made, code=1).stderr.decode()
    assert f"cannot kill container: {made}: container {daemon.inspect(made)['Id']} is not running" in said


@pytest.mark.parametrize("flags", [[], ["--pids-limit", "-1"], ["--pids-limit", "-5", "--memory-swappiness", "-1"]])
def test_limits_that_are_none_are_shown_as_none(daemon, client, flags):
    ident = daemon.cli(client, "create", *flags, "busybox", "true").stdout.decode().strip()
    host = daemon.inspect(ident)["HostConfig"]
    assert (host["MemorySwappiness"], host["PidsLimit"]) == (None, None)
    daemon.cli(client, "rm", ident)


def test_programs_can_tell_that_they_are_in_a_container(daemon, client):
    shown = daemon.cli(client, "run", "--rm", "busybox", "ls", "-l", "/.dockerenv").stdout.decode().split()
    assert (shown[0], shown[4]) == ("-rwxr-xr-x", "0")


def test_shared_memory_is_shown_as_such(daemon, client):
    shown = daemon.cli(client, "run", "--rm", "busybox", "grep", " /dev/shm ", "/proc/mounts").stdout.decode()
    assert shown.startswith("shm /dev/shm tmpfs rw,nosuid,nodev,noexec,")


def test_what_is_no_archive_is_told_in_plain_words(daemon, client, tmp_path):
    (tmp_path / "text").write_text("root:x:0:0:root:/root:/bin/bash\n" * 40)
    said = daemon.cli(client, "load", "-i", str(tmp_path / "text"), code=1).stderr.decode()
    assert "invalid tar header" in said
    assert "b'" not in said


@pytest.mark.parametrize("words", [["--context", "x"], ["-c", "x"], ["--log-level", "debug"], ["-l", "debug"]])
def test_global_flags_that_are_not_there_are_refused_by_name(words):
    result = subprocess.run(
        [sys.executable, "-m", "boxship.cli.main", *words, "ps"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 125
    assert " is not available in Boxship 0.1: " in result.stderr


@pytest.mark.parametrize(
    "words",
    [["ps"], ["run", "--rm", "--network", "none", "busybox", "echo", "x"], ["save", "busybox"], ["--help"], ["--version"]],
)
def test_output_that_cannot_be_written_is_an_error_and_no_traceback(daemon, words):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*daemon.command("boxship"), *words], stdout=full, stderr=subprocess.PIPE, env=daemon.env(), check=False
        )
    assert result.returncode == 1
    assert result.stderr == b"boxship: write to standard output: No space left on device\n"


@pytest.mark.parametrize("command", ["start", "logs", "kill", "wait", "attach", "top"])
def test_an_empty_name_is_told_to_be_one(daemon, client, command):
    needs_release(client, 28)
    assert "value is empty" in daemon.cli(client, command, "", code=1).stderr.decode()


@pytest.mark.parametrize("command", ["events", "info", "version"])
def test_templates_are_looked_at_before_the_daemon_is_asked(daemon, client, command):
    result = daemon.cli(client, command, "--format", "{{nosuch}}", code=64)
    assert result.stdout == b""
    assert 'function "nosuch" not defined' in result.stderr.decode()


def test_versions_have_the_fields_of_dockers(daemon, client):
    template = "{{.Client.Version}}|{{.Client.APIVersion}}|{{.Client.Os}}|{{.Client.Arch}}|{{.Server.Version}}|{{.Server.APIVersion}}|{{.Server.MinAPIVersion}}|{{.Server.GitCommit}}|{{.Server.BuildTime}}|{{.Server.KernelVersion}}|{{.Server.Experimental}}|{{len .Server.Components}}"
    shown = daemon.cli(client, "version", "--format", template).stdout.decode().strip().split("|")
    assert shown[-2:] == ["false", "3"]
    assert shown[2:4] == ["linux", "amd64"]


def test_usage_is_the_commands(daemon):
    shown = daemon.cli("boxship", "run", "--help").stdout.decode().splitlines()
    assert shown[0] == "Usage: boxship run [OPTIONS] IMAGE [COMMAND] [ARG...]"
    assert not any(line.startswith("Arguments") for line in shown)
