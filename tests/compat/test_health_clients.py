"""Health checks and restart policies through real clients: both command lines, docker-py, aiodocker."""

from __future__ import annotations

import json
from contextlib import closing

import aiodocker
import docker
import pytest
from support.daemon import needs_release, wait_until
from support.health import MS, becomes, remove

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("cli", ["docker", "boxship"])
def test_the_flags_of_run(daemon, cli):
    flags = [
        *("--health-cmd", "echo fine", "--health-interval", "50ms", "--health-timeout", "2s", "--health-retries", "4"),
        *("--health-start-period", "1s", "--health-start-interval", "20ms"),
    ]
    ident = daemon.cli(cli, "run", "-d", "--network", "none", *flags, "busybox", "sleep", "1000").stdout.decode().strip()
    assert daemon.inspect(ident)["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "echo fine"],
        "Interval": 50 * MS,
        "Timeout": 2000 * MS,
        "Retries": 4,
        "StartPeriod": 1000 * MS,
        "StartInterval": 20 * MS,
    }
    becomes(daemon, ident, "healthy")
    shown = daemon.cli(cli, "inspect", "-f", "{{.State.Health.Status}} {{(index .State.Health.Log 0).Output}}", ident)
    assert shown.stdout.decode().startswith("healthy fine")
    rows = daemon.cli(cli, "ps", "--filter", "health=healthy", "--filter", f"id={ident}", "--format", "{{.Status}}")
    assert rows.stdout.decode().strip().endswith("(healthy)")
    assert daemon.cli(cli, "ps", "-q", "--filter", "health=unhealthy", "--filter", f"id={ident}").stdout == b""
    remove(daemon, ident)


@pytest.mark.parametrize("cli", ["docker", "boxship"])
def test_no_healthcheck(daemon, cli):
    ident = daemon.cli(cli, "create", "--no-healthcheck", "busybox").stdout.decode().strip()
    assert daemon.inspect(ident)["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    remove(daemon, ident)
    refused = daemon.cli(cli, "create", "--no-healthcheck", "--health-cmd", "true", "busybox", code=None)
    assert refused.returncode in (1, 125)
    assert b"--no-healthcheck conflicts with --health-* options" in refused.stderr
    negative = daemon.cli(cli, "create", "--health-interval=-1s", "--health-cmd", "true", "busybox", code=None)
    assert b"--health-interval cannot be negative" in negative.stderr


@pytest.mark.parametrize("cli", ["docker", "boxship"])
def test_restart_and_rm_exclude_each_other(daemon, cli):
    needs_release(cli, 28)
    refused = daemon.cli(cli, "run", "--rm", "--restart", "always", "busybox", "true", code=None)
    assert b"conflicting options: cannot specify both --restart and --rm" in refused.stderr


@pytest.mark.parametrize("how", ["boxship", "docker"])
def test_on_failure(daemon, how):
    flag = ["--health-on-failure", "kill"] if how == "boxship" else ["--annotation", "io.boxship.health-on-failure=kill"]
    check = ["--health-cmd", "exit 1", "--health-interval", "50ms", "--health-retries", "1"]
    ident = daemon.cli(how, "run", "-d", "--network", "none", *check, *flag, "busybox", "sleep", "1000").stdout.decode().strip()
    assert daemon.cli(how, "wait", ident).stdout == b"137\n"
    remove(daemon, ident)


def test_an_action_there_is_not_is_refused(daemon):
    refused = daemon.cli("boxship", "create", "--health-on-failure", "explode", "busybox", code=None)
    assert refused.returncode != 0
    assert b"use one of 'none', 'kill', 'restart', or 'stop'" in refused.stderr


@pytest.fixture
def client(daemon):
    with closing(docker.DockerClient(base_url=daemon.host)) as client:
        yield client


def test_docker_py(client):
    container = client.containers.run(
        "busybox",
        ["sleep", "1000"],
        detach=True,
        network_mode="none",
        healthcheck={"test": ["CMD", "true"], "interval": 50 * MS, "timeout": 1000 * MS, "retries": 2},
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
    )
    found = wait_until(lambda: (c := client.containers.get(container.id)).health == "healthy" and c, "it is healthy")
    assert found.attrs["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert container.id in {each.id for each in client.containers.list(filters={"health": "healthy"})}
    container.remove(force=True)


async def test_aiodocker(daemon):
    async with aiodocker.Docker(url=daemon.host) as client:
        container = await client.containers.create(
            {
                "Image": "busybox",
                "Cmd": ["sleep", "1000"],
                "Healthcheck": {"Test": ["CMD-SHELL", "exit 2"], "Interval": 50 * MS, "Retries": 1},
                "HostConfig": {"NetworkMode": "none"},
            }
        )
        listening = client.events.subscribe()
        await container.start()
        while (event := await listening.get()) is not None:
            if event["Action"] == "health_status: unhealthy" and event["Actor"]["ID"] == container.id:
                break
        shown = await container.show()
        assert shown["State"]["Health"]["Log"][0]["ExitCode"] == 2
        await container.delete(force=True)


def test_health_is_null_nowhere_and_absent_without_a_check(daemon):
    ident = daemon.cli("docker", "create", "busybox").stdout.decode().strip()
    assert "Health" not in daemon.inspect(ident)["State"]
    failed = daemon.cli("docker", "inspect", "-f", "{{json .State.Health}}", ident)
    assert json.loads(failed.stdout) is None
    remove(daemon, ident)
