"""testcontainers-python against the daemon: what test suites of Python programs start their databases with.

What the library needs networks or published ports for (``Network``, ``get_exposed_port``, the wait strategies for ports and
HTTP, its reaper) and ``DockerImage.build`` are not here.
"""

from __future__ import annotations

import gc
import json
import re
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from docker.errors import NotFound
from docker.types import Mount, Ulimit
from support.daemon import Daemon
from testcontainers.core.container import DockerContainer, ExecConfig
from testcontainers.core.docker_client import DockerClient, is_podman
from testcontainers.core.exceptions import ContainerStartException
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from testcontainers.core.wait_strategies import (
    CompositeWaitStrategy,
    ContainerStatusWaitStrategy,
    ExecWaitStrategy,
    FileExistsWaitStrategy,
    HealthcheckWaitStrategy,
    LogMessageWaitStrategy,
)
from testcontainers.core.waiting_utils import WaitStrategy, wait_for_logs

# Streams that were upgraded are left to the garbage collector, and so are clients without a container.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SECOND = 1_000_000_000
"""In nanoseconds, as a health check has it."""


@pytest.fixture(scope="module", autouse=True)
def collector() -> Iterator[None]:
    """Have what the library left to the garbage collector collected here, where nobody minds."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def environment(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library finds the daemon as every client does; its reaper would be an image from a registry."""
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")


def sleeping(script: str = "") -> DockerContainer:
    """A container that does what ``script`` says and stays."""
    return DockerContainer("busybox").with_command(["sh", "-c", f"{script}\nexec sleep 1000"])


def quick(strategy: WaitStrategy, seconds: int = 10) -> WaitStrategy:
    return strategy.with_poll_interval(0.01).with_startup_timeout(seconds)


def ids() -> set[str]:
    client = DockerClient().client
    try:
        return {container.id for container in client.containers.list(all=True)}
    finally:
        client.close()


def test_logs_of_a_container_that_has_ended() -> None:
    with DockerContainer("busybox", command=["sh", "-c", "echo out; echo err >&2; exit 4"]) as container:
        assert container.wait() == 4
        assert container.get_logs() == (b"out\n", b"err\n")
        container.reload()
        assert container.status == "exited"


def test_a_container_is_gone_after_its_context() -> None:
    with sleeping() as container:
        ident = container.get_container_id()
        assert ident in ids()
        assert container.status == "created"
        container.reload()
        assert container.status == "running"
    assert ident not in ids()
    with pytest.raises(ContainerStartException):
        DockerContainer("busybox").get_container_id()


def test_a_container_is_gone_after_an_exception_in_its_context() -> None:
    before = ids()
    with pytest.raises(ZeroDivisionError), sleeping():
        1 / 0  # noqa: B018
    assert ids() == before


def test_stopping_takes_anonymous_volumes_along(daemon: Daemon) -> None:
    container = sleeping().with_kwargs(mounts=[Mount("/data", None)]).start()
    info = container.get_container_info()
    assert info is not None
    (mount,) = info.Mounts
    assert (mount.Type, mount.Destination) == ("volume", "/data")
    assert daemon.request("GET", f"/volumes/{mount.Name}")[0] == 200
    container.stop()
    assert daemon.request("GET", f"/volumes/{mount.Name}")[0] == 404
    kept = sleeping().with_kwargs(mounts=[Mount("/data", None)]).start()
    name = kept.get_container_info().Mounts[0].Name
    kept.stop(delete_volume=False)
    assert daemon.request("DELETE", f"/volumes/{name}")[0] == 204


def test_labels_tell_the_session(daemon: Daemon) -> None:
    with sleeping() as container:
        labels = container.get_wrapped_container().labels
        assert labels["org.testcontainers"] == "true"
        assert labels["org.testcontainers.lang"] == "python"
        assert labels[LABEL_SESSION_ID] == SESSION_ID
        filters = quote(json.dumps({"label": [f"{LABEL_SESSION_ID}={SESSION_ID}"]}))
        assert [each["Id"] for each in daemon.get(f"/containers/json?filters={filters}")] == [container.get_container_id()]


def test_names_and_the_client_find_a_container() -> None:
    with sleeping().with_name("named-by-testcontainers").with_kwargs(network_mode="none") as container:
        assert container.get_wrapped_container().name == "named-by-testcontainers"
        client = container.get_docker_client()
        assert client.get_container(container.get_container_id())["Names"] == ["/named-by-testcontainers"]
        assert client.network_name(container.get_container_id()) == "none"
        assert client.host() == "localhost"
    client = DockerClient()
    with pytest.raises(RuntimeError, match="Could not get container"):
        client.get_container("doesnotexist")
    assert client.run("busybox", ["echo", "ran"], remove=True) == b"ran\n"
    ran = client.run("busybox", ["sleep", "1000"], detach=True, labels={"a": "b"})
    assert ran.labels["a"] == "b"
    assert ran.labels[LABEL_SESSION_ID] == SESSION_ID
    ran.remove(force=True)
    client.client.close()


def test_the_daemon_is_taken_for_docker() -> None:
    is_podman.cache_clear()
    assert not is_podman()
    is_podman.cache_clear()


def test_environment(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("DOMAIN=example.org\nMAIL=admin@${DOMAIN}\n")
    container = sleeping().with_env("ONE", "1").with_envs(TWO="2", THREE="drei mal").with_env_file(file)
    with container:
        lines = container.exec("env").output.splitlines()
        assert {b"ONE=1", b"TWO=2", b"THREE=drei mal", b"DOMAIN=example.org", b"MAIL=admin@example.org"} <= set(lines)


def test_volumes_and_tmpfs(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("from the host\n")
    (tmp_path / "writable").mkdir()
    container = (
        sleeping("cat /data/there")
        .with_volume_mapping(tmp_path, "/data")
        .with_volume_mapping(tmp_path / "writable", "/out", "rw")
        .with_tmpfs_mount("/scratch", "1m")
        .with_tmpfs_mount("/free")
        .waiting_for(quick(LogMessageWaitStrategy("from the host")))
    )
    # Docker takes a tmpfs' options, and a bare size isn't one.
    container.tmpfs["/scratch"] = "size=1m"
    with container:
        assert container.exec(["touch", "/data/x"]).exit_code == 1
        assert container.exec(["touch", "/out/x"]).exit_code == 0
        assert (tmp_path / "writable" / "x").exists()
        mounts = container.exec("cat /proc/mounts").output.decode()
        assert re.search(r"^tmpfs /scratch tmpfs \S*size=1024k", mounts, re.M)
        assert re.search(r"^tmpfs /free tmpfs ", mounts, re.M)


def test_further_arguments_reach_the_container() -> None:
    container = sleeping().with_kwargs(
        user="1000:1000", working_dir="/tmp", hostname="box", read_only=True, mem_limit="64m", cap_drop=["ALL"], init=True,
        ulimits=[Ulimit(name="nofile", soft=64, hard=128)], network_mode="none", shm_size="8m",
    )  # fmt: skip
    with container:
        script = "id -u; pwd; hostname; ulimit -n; touch x 2>&1; grep CapEff /proc/self/status; df -k /dev/shm | tail -1"
        uid, cwd, host, files, refused, capabilities, shm = container.exec(["sh", "-c", script]).output.decode().splitlines()
        assert (uid, cwd, host, files) == ("1000", "/tmp", "box", "64")
        assert "Read-only file system" in refused
        assert capabilities.split()[1] == "0000000000000000"
        assert shm.split()[1] == "8192"
        info = container.get_container_info()
        assert info.HostConfig.Memory == 64 << 20
        assert info.HostConfig.ReadonlyRootfs is True


def test_exec() -> None:
    with sleeping() as container:
        assert container.exec("echo hello") == (0, b"hello\n")
        assert container.exec(["echo", "hello"]) == (0, b"hello\n")
        assert container.exec(["sh", "-c", "echo out; echo err >&2; exit 3"]).exit_code == 3
        # A string is split as a shell does, and no shell gets it.
        assert container.exec("echo a | wc -l > $HOME") == (0, b"a | wc -l > $HOME\n")
        config = ExecConfig(["sh", "-c", "id -un; pwd; echo $A"], user="box", environment={"A": "b c"}, workdir=Path("/etc"))
        assert container.exec(config) == (0, b"box\n/etc\nb c\n")
        effective = ["grep", "CapEff", "/proc/self/status"]
        assert container.exec(effective).output != container.exec(ExecConfig(effective, privileged=True)).output
        # Docker's code for a program that isn't there; the library shows it and raises nothing.
        assert container.exec(["nothing-like-it"]).exit_code == 127


def test_log_message_strategies() -> None:
    script = "echo starting; sleep 0.05; echo database is ready; echo port 5432 >&2"
    for strategy in (
        LogMessageWaitStrategy("is ready"),
        LogMessageWaitStrategy(re.compile(r"^port \d+$", re.M)),
        LogMessageWaitStrategy(re.compile("(ready|port)"), predicate_streams_and=True),
    ):
        with sleeping(script).waiting_for(quick(strategy)) as container:
            assert b"starting" in container.get_logs()[0]


def test_waiting_for_logs_afterwards() -> None:
    with sleeping("sleep 0.05; echo here it is") as container:
        assert 0 < wait_for_logs(container, LogMessageWaitStrategy("here"), timeout=10, interval=0.01) < 10
        with pytest.warns(DeprecationWarning, match="wait_for_logs"):
            assert wait_for_logs(container, "^here it is$", timeout=10, interval=0.01) < 10
        with pytest.warns(DeprecationWarning, match="wait_for_logs"):
            assert wait_for_logs(container, lambda logs: logs.startswith("here"), timeout=10, interval=0.01) < 10


def test_a_message_that_never_comes() -> None:
    before = ids()
    with (
        pytest.raises(TimeoutError, match="Container status: running"),
        sleeping("echo something else").waiting_for(quick(LogMessageWaitStrategy("never"), 0)),
    ):
        raise AssertionError
    with (
        pytest.raises(RuntimeError, match=r"status: exited, exit code: 7"),
        DockerContainer("busybox", command="sh -c 'exit 7'").waiting_for(quick(LogMessageWaitStrategy("never"))),
    ):
        raise AssertionError
    assert ids() == before


def test_exec_strategy() -> None:
    strategy = ExecWaitStrategy(["test", "-e", "/tmp/ready"])
    with sleeping("sleep 0.05; touch /tmp/ready").waiting_for(quick(strategy)) as container:
        assert container.exec("ls /tmp").output == b"ready\n"
    failing = ExecWaitStrategy(["sh", "-c", "echo not yet; exit 9"])
    with (
        pytest.raises(TimeoutError, match=r"last exit code: (None|9)"),
        sleeping().waiting_for(quick(failing, 0)),
    ):
        raise AssertionError


def test_health_strategy() -> None:
    check = {"test": ["CMD", "test", "-e", "/tmp/ready"], "interval": SECOND // 20, "retries": 200}
    container = sleeping("sleep 0.1; touch /tmp/ready").with_kwargs(healthcheck=check)
    with container.waiting_for(quick(HealthcheckWaitStrategy())):
        state = container.get_container_info().State
        assert state.Health.Status == "healthy"
    ill = {"test": ["CMD-SHELL", "echo too bad; exit 1"], "interval": SECOND // 20, "retries": 1}
    with (
        pytest.raises(RuntimeError, match=r"Exit code: 1, Output: too bad"),
        sleeping().with_kwargs(healthcheck=ill).waiting_for(quick(HealthcheckWaitStrategy())),
    ):
        raise AssertionError
    with (
        pytest.raises(RuntimeError, match="No health check configured"),
        sleeping().waiting_for(quick(HealthcheckWaitStrategy())),
    ):
        raise AssertionError


def test_status_file_and_all_strategies_together(tmp_path: Path) -> None:
    strategies = CompositeWaitStrategy(
        ContainerStatusWaitStrategy(),
        FileExistsWaitStrategy(tmp_path / "made"),
        LogMessageWaitStrategy("made it"),
        ExecWaitStrategy(["test", "-e", "/out/made"]),
    )
    container = sleeping("touch /out/made; echo made it").with_volume_mapping(tmp_path, "/out", "rw")
    with container.waiting_for(quick(strategies)):
        assert (tmp_path / "made").exists()


@pytest.mark.parametrize("form", ["bytes", "file"])
def test_copying_into_a_container(tmp_path: Path, form: str) -> None:
    (tmp_path / "file").write_bytes(b"hello world")
    source = b"hello world" if form == "bytes" else tmp_path / "file"
    container = DockerContainer("busybox", command="cat /tmp/first", transferables=[(source, "/tmp/first", 0o600)])
    with container:
        assert container.wait() == 0
        assert container.get_logs() == (b"hello world", b"")
    with sleeping().with_copy_into_container(source, "/etc/made/for/it", 0o755) as container:
        container.copy_into_container(source, "/tmp/later")
        script = "cat /etc/made/for/it /tmp/later; stat -c ' %a' /etc/made/for/it /tmp/later"
        assert container.exec(["sh", "-c", script]).output == b"hello worldhello world 755\n 644\n"


def test_copying_directories_in_and_files_out(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"in it")
    with sleeping() as container:
        container.copy_into_container(source, "/tmp/there")
        assert container.exec("cat /tmp/there/source/file").output == b"in it"
        assert container.exec(["sh", "-c", "printf made > /tmp/made"]).exit_code == 0
        container.copy_from_container("/tmp/made", tmp_path / "made")
        assert (tmp_path / "made").read_bytes() == b"made"
        with pytest.raises(NotFound):
            container.copy_from_container("/tmp/nothing", tmp_path / "nothing")
        chunks, about = container.get_wrapped_container().get_archive("/tmp/there")
        (tmp_path / "tar").write_bytes(b"".join(chunks))
        assert about["name"] == "there"
        with tarfile.open(tmp_path / "tar") as archive:
            assert "there/source/file" in archive.getnames()


def test_what_inspect_says_is_understood() -> None:
    container = (
        sleeping()
        .with_env("A", "b")
        .with_kwargs(
            restart_policy={"Name": "on-failure", "MaximumRetryCount": 3}, network_mode="none", log_config={"type": "local"}
        )
    )
    with container:
        info = container.get_container_info()
        assert info.Id == container.get_container_id()
        assert info.State.Running
        assert info.State.Pid > 0
        assert info.Path == "sh"
        assert "A=b" in info.Config.Env
        assert info.HostConfig.NetworkMode == "none"
        assert info.HostConfig.RestartPolicy.MaximumRetryCount == 3
        assert info.HostConfig.LogConfig.Type == "local"
