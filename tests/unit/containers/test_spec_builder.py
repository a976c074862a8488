"""From Docker's configuration to the runtime's spec."""

from __future__ import annotations

import os

import pytest
from boxrun.container.spec import DeviceRule, Log, Namespace
from boxship.types.containers import ContainerConfig, CreateRequest
from boxship.types.host import DeviceMapping, HostConfig, Ulimit
from boxshipd.containers.create import merge
from boxshipd.containers.host_files import write_files
from boxshipd.containers.model import Config, Container, State, decode_config, decode_state, encode
from boxshipd.containers.settings import Settings
from boxshipd.containers.spec.builder import build_spec, environment
from boxshipd.containers.spec.mount_options import make_host_directories
from boxshipd.errors import Conflict, InternalError, NotFound

SETTINGS = Settings(data_root="/data", exec_root="/exec")


def make(container_id: str = "a" * 64, config: ContainerConfig | None = None, running: bool = False, **host) -> Container:
    record = Config(
        id=container_id,
        created=1,
        image_id="sha256:0",
        layers=("/top", "/bottom"),
        config=config or ContainerConfig(hostname="box"),
        host_config=HostConfig(**{"network_mode": "none", "ipc_mode": "private", **host}),
        path="sh",
        args=["-c", "true"],
        log=Log(),
    )
    state = State(running=running, started_at=int(running))
    return Container("name", record, state, f"/data/containers/{container_id}")


def build(container: Container, *others: Container, settings: Settings = SETTINGS):
    def find(ref: str) -> Container:
        for other in others:
            if other.id == ref:
                return other
        raise NotFound(f"No such container: {ref}")

    return build_spec(container, settings, find)


def kinds(spec) -> dict[str, Namespace]:
    return {namespace.kind: namespace for namespace in spec.namespaces}


def test_a_plain_container():
    spec = build(make())
    assert spec.process.args == ("sh", "-c", "true")
    assert spec.process.cwd == "/"
    assert spec.state_dir == f"/data/containers/{'a' * 64}/runtime"
    assert spec.root.lower == ("/top", "/bottom", "/data/mount-points")
    assert spec.root.upper.endswith("/upper")
    assert (spec.cgroup.parent, spec.cgroup.name) == ("/boxship", "a" * 64)
    assert set(kinds(spec)) == {"mnt", "net", "pid", "ipc", "uts", "cgroup"}
    assert len(spec.process.capabilities) == 14
    assert spec.seccomp.mode == "builtin"
    assert "/proc/kcore" in spec.masked_paths
    assert "/proc/sys" in spec.readonly_paths
    assert spec.hostname == "box"
    targets = [mount.target for mount in spec.mounts]
    assert {"/proc", "/dev", "/dev/shm", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} <= set(targets)


def test_host_namespaces_are_absent():
    spec = build(make(network_mode="host", pid_mode="host", ipc_mode="host", uts_mode="host", cgroupns_mode="host"))
    assert set(kinds(spec)) == {"mnt"}
    assert spec.hostname == ""
    shm = [mount for mount in spec.mounts if mount.target == "/dev/shm"]
    assert [(mount.kind, mount.source) for mount in shm] == [("bind", "/dev/shm")]


def test_joining_another_container():
    donor = make("b" * 64, ContainerConfig(hostname="donor"), running=True, ipc_mode="shareable")
    spec = build(
        make(network_mode=f"container:{donor.id}", pid_mode=f"container:{donor.id}", ipc_mode=f"container:{donor.id}"), donor
    )
    joined = kinds(spec)
    assert (joined["net"].container, joined["pid"].container, joined["ipc"].container) == (donor.id,) * 3
    assert spec.hostname == "donor"
    mounts = {mount.target: mount for mount in spec.mounts}
    assert mounts["/etc/hosts"].source == f"{donor.directory}/hosts"
    assert (mounts["/dev/shm"].source, mounts["/dev/shm"].container) == ("/dev/shm", donor.id)


def test_what_is_joined_must_run_and_share():
    donor = make("b" * 64)
    with pytest.raises(Conflict, match=f"cannot join network namespace of a non running container: {donor.id}"):
        build(make(network_mode=f"container:{donor.id}"), donor)
    running = make("b" * 64, running=True)
    with pytest.raises(Conflict, match="non-shareable IPC"):
        build(make(ipc_mode=f"container:{running.id}"), running)


def test_a_privileged_container_has_everything():
    spec = build(make(privileged=True))
    assert len(spec.process.capabilities) > 14
    assert spec.masked_paths == spec.readonly_paths == ()
    assert spec.seccomp.mode == "unconfined"
    assert spec.resources.devices == (DeviceRule(allow=True, kind="a"),)
    assert not next(mount for mount in spec.mounts if mount.target == "/sys").readonly


def test_limits_in_the_runtimes_units():
    spec = build(make(memory=64 << 20, nano_cpus=1_500_000_000, pids_limit=-1, cpu_shares=512))
    resources = spec.resources
    assert (resources.memory, resources.memory_swap) == (64 << 20, 128 << 20)
    assert (resources.cpu_quota, resources.cpu_period) == (150_000, 100_000)
    assert (resources.pids_limit, resources.cpu_shares) == (-1, 512)
    assert build(make()).resources.memory is None


def test_ulimits_of_the_daemon_count_where_the_container_has_none():
    settings = Settings(
        data_root="/d", exec_root="/e", default_ulimits={"nofile": Ulimit("nofile", 1, 2), "core": Ulimit("core", 0, 0)}
    )
    spec = build(make(ulimits=[Ulimit("nofile", 5, 6)]), settings=settings)
    assert {(limit.name, limit.soft, limit.hard) for limit in spec.process.rlimits} == {("nofile", 5, 6), ("core", 0, 0)}


def test_devices_get_a_node_and_a_rule():
    spec = build(make(devices=[DeviceMapping("/dev/zero", "/dev/nought", "r")], device_cgroup_rules=["b 8:* rw"]))
    assert [(device.source, device.target) for device in spec.devices] == [("/dev/zero", "/dev/nought")]
    assert spec.resources.devices[-2:] == (
        DeviceRule(allow=True, kind="c", major=1, minor=5, access="r"),
        DeviceRule(allow=True, kind="b", major=8, minor=-1, access="rw"),
    )
    with pytest.raises(InternalError, match='adding custom device "/dev/nosuch"'):
        build(make(devices=[DeviceMapping("/dev/nosuch")]))


def test_a_mount_of_its_own_replaces_ours_at_the_same_place():
    spec = build(make(tmpfs={"/dev/shm": "size=1m"}, binds=["/tmp:/etc/hosts"]))
    assert [mount.source for mount in spec.mounts if mount.target == "/etc/hosts"] == ["/tmp"]
    assert [mount.options[-1] for mount in spec.mounts if mount.target == "/dev/shm"] == ["size=1m"]


def test_shared_binds_make_a_shared_root():
    assert build(make()).root.propagation == "rprivate"
    assert build(make(binds=["/tmp:/x:rslave"])).root.propagation == "rslave"
    assert build(make(binds=["/tmp:/x:rslave", "/tmp:/y:shared"])).root.propagation == "rshared"


def test_the_environment_is_dockers():
    plain = environment(ContainerConfig(hostname="h", tty=True))
    assert plain == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=h", "TERM=xterm")
    changed = environment(ContainerConfig(hostname="h", env=["PATH=/x", "A=b=c", "HOSTNAME"]))
    assert changed == ("PATH=/x", "A=b=c")


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "expected"),
    [
        (None, None, (["entry"], ["default"])),
        (None, ["mine"], (["entry"], ["mine"])),
        (["mine"], None, (["mine"], None)),
        (["mine"], ["arg"], (["mine"], ["arg"])),
        ([""], ["mine"], (None, ["mine"])),
        ([], ["mine"], (None, ["mine"])),
        ("mine", "arg", (["mine"], ["arg"])),
    ],
)
def test_commands_are_merged_as_docker_does(entrypoint, cmd, expected):
    image = ContainerConfig(entrypoint=["entry"], cmd=["default"])
    merged = merge(CreateRequest(entrypoint=entrypoint, cmd=cmd), image)
    assert (merged.entrypoint, merged.cmd) == expected


def test_everything_else_is_merged_too():
    image = ContainerConfig(
        env=["A=1", "B=2"],
        labels={"x": "1", "y": "2"},
        user="u",
        working_dir="/w",
        exposed_ports={"80/tcp": {}},
        stop_signal="HUP",
    )
    merged = merge(CreateRequest(env=["B=3"], labels={"y": "9"}, exposed_ports={"1/udp": {}}), image)
    assert merged.env == ["B=3", "A=1"]
    assert merged.labels == {"x": "1", "y": "9"}
    assert (merged.user, merged.working_dir, merged.stop_signal) == ("u", "/w", "HUP")
    assert set(merged.exposed_ports) == {"80/tcp", "1/udp"}


def test_files_of_the_host(tmp_path):
    host = HostConfig(network_mode="default", extra_hosts=["db:10.0.0.1", "six=[::1]"], dns=["9.9.9.9"], dns_search=["lan"])
    write_files(str(tmp_path), hostname="box", host=host, settings=SETTINGS)
    assert (tmp_path / "hostname").read_text() == "box\n"
    hosts = (tmp_path / "hosts").read_text()
    assert "127.0.0.1\tlocalhost\n" in hosts
    assert hosts.endswith("127.0.1.1\tbox\n10.0.0.1\tdb\n::1\tsix\n")
    resolv = (tmp_path / "resolv.conf").read_text()
    assert resolv.endswith("nameserver 9.9.9.9\nsearch lan\n")
    assert resolv.count("nameserver") == 1
    assert all(os.stat(tmp_path / name).st_mode & 0o777 == 0o644 for name in ("hostname", "hosts", "resolv.conf"))


def test_sources_of_binds_are_made(tmp_path):
    make_host_directories(HostConfig(binds=[f"{tmp_path}/a/b:/x"]))
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InternalError, match="error while creating mount source path"):
        make_host_directories(HostConfig(binds=[f"{tmp_path}/file/b:/x"]))


def test_records_survive_the_database():
    container = make(config=ContainerConfig(hostname="h", labels={"a": "b"}), memory=1 << 30)
    assert decode_config(encode(container.config)) == container.config
    state = State(running=True, pid=5, started_at=7, manually_stopped=True)
    assert decode_state(encode(state)) == state


def test_attributes_of_events():
    container = make(config=ContainerConfig(image="img", labels={"tier": "web", "image": "not this"}))
    assert container.attributes({"signal": "9"}) == {"image": "img", "name": "name", "signal": "9", "tier": "web"}
