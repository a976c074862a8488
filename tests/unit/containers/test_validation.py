"""What Docker refuses, in Docker's words."""

from __future__ import annotations

import os

import pytest
from boxship.types.containers import ContainerConfig
from boxship.types.host import (
    BindOptions,
    HostConfig,
    LogConfig,
    Mount,
    RestartPolicy,
    TmpfsOptions,
    Ulimit,
    WeightDevice,
)
from boxshipd.config import Runtime
from boxshipd.containers.log.config import build_log, effective, parse_size
from boxshipd.containers.settings import Settings
from boxshipd.containers.spec import security_options
from boxshipd.containers.spec.machine import has_apparmor, has_selinux, validate_storage, without_effect
from boxshipd.containers.spec.mount_options import parse_mounts, parse_tmpfs
from boxshipd.containers.spec.runtimes import foreign_runtime, validate_runtime
from boxshipd.containers.spec.security_options import capabilities, parse_security_options, validate_sysctls
from boxshipd.containers.spec.validation import parse_set, validate_config, validate_host_config, validate_request
from boxshipd.errors import InternalError, InvalidParameter, NotImplementedHere

MB = 1 << 20
CPUS = os.cpu_count() or 1


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"memory": 6 * MB - 1}, "Minimum memory limit allowed is 6MB"),
        ({"memory": 8 * MB, "memory_swap": 7 * MB}, "Minimum memoryswap limit should be larger than memory limit, see usage"),
        ({"memory_swap": 8 * MB}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
        ({"memory_swappiness": 101}, "invalid value: 101, valid memory swappiness range is 0-100"),
        ({"memory_reservation": MB}, "Minimum memory reservation allowed is 6MB"),
        (
            {"memory": 8 * MB, "memory_reservation": 9 * MB},
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        ({"nano_cpus": 10**9, "cpu_period": 1000}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        ({"nano_cpus": 10**9, "cpu_quota": 1000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (
            {"nano_cpus": (CPUS + 1) * 10**9},
            f"range of CPUs is from 0.01 to {CPUS}.00, as there are only {CPUS} CPUs available",
        ),
        ({"cpu_period": 999}, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
        ({"cpu_quota": 999}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"cpu_shares": -1}, "invalid CPU shares (-1): value must be a positive integer"),
        ({"cpuset_cpus": "x"}, "Invalid value x for cpuset cpus"),
        ({"blkio_weight": 9}, "Range of blkio weight is from 10 to 1000"),
        ({"blkio_weight_device": [WeightDevice("/dev/sda", 1001)]}, "Range of blkio weight is from 10 to 1000"),
        ({"oom_score_adj": 1001}, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        ({"shm_size": -1}, "SHM size can not be less than 0"),
        ({"ipc_mode": "x"}, "invalid IPC mode: x"),
        ({"pid_mode": "container:"}, "invalid PID mode: container:"),
        ({"uts_mode": "x"}, "invalid UTS mode: x"),
        ({"userns_mode": "x"}, "invalid userns mode: x"),
        ({"cgroupns_mode": "x"}, "invalid cgroup namespace mode: x"),
        ({"network_mode": "container:"}, "invalid container format container:<name|id>"),
        (
            {"network_mode": "container:x", "dns": ["1.1.1.1"]},
            "conflicting options: dns and the network mode",
        ),
        (
            {"auto_remove": True, "restart_policy": RestartPolicy(name="always")},
            "can't create 'AutoRemove' container with restart policy",
        ),
        ({"device_cgroup_rules": ["c 1:3"]}, "invalid device cgroup rule format: 'c 1:3'"),
        ({"extra_hosts": ["nothing"]}, 'bad format for add-host: "nothing"'),
        ({"ulimits": [Ulimit("nosuch", 1, 1)]}, "invalid ulimit type: nosuch"),
        ({"ulimits": [Ulimit("nofile", 2, 1)]}, "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
    ],
)
def test_host_configurations_that_cannot_be(host, message):
    with pytest.raises(InvalidParameter) as error:
        validate_host_config(ContainerConfig(), HostConfig(**host))
    assert str(error.value) == message


def test_cpus_that_are_not_there_are_named():
    with pytest.raises(InvalidParameter, match="Requested CPUs are not available - requested 999, available: 0"):
        validate_host_config(ContainerConfig(), HostConfig(cpuset_cpus="999"))


def test_good_limits_pass():
    validate_host_config(
        ContainerConfig(),
        HostConfig(
            memory=64 * MB,
            memory_swap=-1,
            memory_reservation=32 * MB,
            nano_cpus=500_000_000,
            cpuset_cpus="0",
            pids_limit=-1,
            ulimits=[Ulimit("nofile", 10, -1)],
            device_cgroup_rules=["c 1:* rwm", "a *:* m"],
            extra_hosts=["a:1.2.3.4", "b=[::1]"],
        ),
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"working_dir": "here"}, "the working directory 'here' is invalid, it needs to be an absolute path"),
        ({"env": ["=x"]}, "invalid environment variable: =x"),
        ({"stop_signal": "SIGNONE"}, "invalid signal: SIGNONE"),
    ],
)
def test_configurations_that_cannot_be(config, message):
    with pytest.raises(InvalidParameter) as error:
        validate_config(ContainerConfig(**config))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("host", "flag"),
    [
        ({"cpu_count": 2}, "--cpu-count"),
        ({"io_maximum_iops": 2}, "--io-maxiops"),
    ],
)
def test_what_is_not_here_is_refused_by_name(host, flag):
    host = HostConfig(**host)
    with pytest.raises(NotImplementedHere, match=flag):
        validate_request(host)


def test_kernel_lists():
    assert parse_set("0-2,5\n") == {0, 1, 2, 5}
    for text in ("a", "3-1", "1-", "-"):
        with pytest.raises(ValueError, match=r"invalid literal|3-1"):
            parse_set(text)


@pytest.mark.parametrize(
    ("bind", "source", "target", "readonly", "propagation"),
    [
        ("/a:/b", "/a", "/b", False, "rprivate"),
        ("/a/../c/:/b//d/:ro", "/c", "/b/d", True, "rprivate"),
        ("/a:/b:rw,rslave,z", "/a", "/b", False, "rslave"),
    ],
)
def test_binds(bind, source, target, readonly, propagation):
    mounts = parse_mounts(HostConfig(binds=[bind]))
    (spec,) = mounts.specs
    assert (spec.source, spec.target, spec.readonly, spec.propagation) == (source, target, readonly, propagation)
    assert mounts.points[0].rw is not readonly
    assert mounts.host_directories == (source,)


@pytest.mark.parametrize(
    ("bind", "message"),
    [
        ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
        ("/a:b", "mount path must be absolute"),
        ("/a:/b:weird", "invalid mode: weird"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/..", "destination can't be '/'"),
        ("/a:/b:nocopy", "field VolumeOptions must not be specified"),
        (":/b", "invalid volume specification: ':/b'"),
    ],
)
def test_bad_binds(bind, message):
    with pytest.raises(InvalidParameter, match=message.replace("(", "\\(")):
        parse_mounts(HostConfig(binds=[bind]))


def test_a_target_can_be_mounted_once_and_parents_come_first(tmp_path):
    with pytest.raises(InvalidParameter, match="Duplicate mount point: /b"):
        parse_mounts(HostConfig(binds=["/a:/b"], tmpfs={"/b": ""}))
    mounts = parse_mounts(HostConfig(binds=["/a:/b/c/d", "/a:/b"], tmpfs={"/b/c": ""}))
    assert [spec.target for spec in mounts.specs] == ["/b", "/b/c", "/b/c/d"]


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ({"type": "bind", "target": "/x"}, 'invalid mount config for type "bind": field Source must not be empty'),
        ({"type": "bind", "source": "/x"}, 'invalid mount config for type "bind": field Target must not be empty'),
        (
            {"type": "bind", "source": "/no/such/place", "target": "/x"},
            'invalid mount config for type "bind": bind source path does not exist: /no/such/place',
        ),
        (
            {"type": "bind", "source": "/tmp", "target": "/x", "bind_options": BindOptions(propagation="odd")},
            'invalid mount config for type "bind": invalid propagation mode: odd',
        ),
        (
            {"type": "tmpfs", "source": "/tmp", "target": "/x"},
            'invalid mount config for type "tmpfs": field Source must not be specified',
        ),
        (
            {"type": "tmpfs", "target": "/x", "tmpfs_options": TmpfsOptions(options=[["size", "1", "2"]])},
            'invalid mount config for type "tmpfs": invalid option array length',
        ),
        ({"type": "npipe", "source": "a", "target": "/x"}, 'invalid mount config for type "npipe": mount type unknown'),
    ],
)
def test_bad_mounts(mount, message):
    with pytest.raises(InvalidParameter) as error:
        parse_mounts(HostConfig(mounts=[Mount(**mount)]))
    assert str(error.value) == message


def test_mounts():
    mounts = parse_mounts(
        HostConfig(
            mounts=[
                Mount(type="bind", source="/tmp", target="/x", read_only=True, bind_options=BindOptions(non_recursive=True)),
                Mount(type="tmpfs", target="/y", tmpfs_options=TmpfsOptions(size_bytes=MB, mode=0o1770)),
            ]
        )
    )
    bind, tmpfs = mounts.specs
    assert (bind.recursive, bind.readonly, bind.recursive_readonly) == (False, True, "if-possible")
    assert set(tmpfs.options) == {"nosuid", "nodev", "noexec", f"size={MB}", "mode=1770"}


def test_tmpfs_options():
    assert parse_tmpfs("/x", "").options == ("noexec", "nosuid", "nodev")
    assert parse_tmpfs("/x", "exec,size=64m,mode=1777").options == ("nosuid", "nodev", "size=64m", "mode=1777")
    assert parse_tmpfs("/x", "ro").readonly is True
    for options in ("nonsense", "size=", "size=big", "context=x"):
        with pytest.raises(InvalidParameter, match="invalid tmpfs option"):
            parse_tmpfs("/x", options)


def test_capabilities():
    default = capabilities(HostConfig())
    assert len(default) == 14
    assert "CAP_SYS_PTRACE" in capabilities(HostConfig(cap_add=["sys_ptrace"]))
    assert "CAP_CHOWN" not in capabilities(HostConfig(cap_drop=["CHOWN"]))
    assert capabilities(HostConfig(cap_drop=["ALL"])) == ()
    assert capabilities(HostConfig(cap_drop=["ALL"], cap_add=["CAP_KILL"])) == ("CAP_KILL",)
    everything = capabilities(HostConfig(cap_add=["ALL"], cap_drop=["KILL"]))
    assert len(everything) > 14
    assert "CAP_KILL" not in everything
    assert set(capabilities(HostConfig(privileged=True))) == set(everything) | {"CAP_KILL"}
    with pytest.raises(InvalidParameter, match='invalid CapAdd: unknown capability: "CAP_NOPE"'):
        capabilities(HostConfig(cap_add=["nope"]))
    with pytest.raises(InvalidParameter, match='invalid CapDrop: unknown capability: "CAP_NOPE"'):
        capabilities(HostConfig(cap_drop=["nope"]))


def _security(*options, **host):
    return parse_security_options(HostConfig(security_opt=list(options), **host), profile="", no_new_privileges=False)


def test_security_options():
    assert _security().seccomp.mode == "builtin"
    assert _security("seccomp=unconfined").seccomp.mode == "unconfined"
    assert _security("seccomp=builtin").seccomp.mode == "builtin"
    assert _security('seccomp={"a":"b=c"}').seccomp.profile == '{"a":"b=c"}'
    assert _security(privileged=True).seccomp.mode == "unconfined"
    assert _security("no-new-privileges").no_new_privileges is True
    assert _security("no-new-privileges:true").no_new_privileges is True
    assert _security("no-new-privileges=false").no_new_privileges is False
    assert _security("apparmor=unconfined", "label=disable").seccomp.mode == "builtin"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("nonsense", 'invalid --security-opt 1: "nonsense"'),
        ("a=b", 'invalid --security-opt 2: "a=b"'),
        ("no-new-privileges=maybe", 'invalid --security-opt 2: "no-new-privileges=maybe"'),
    ],
)
def test_bad_security_options(option, message):
    with pytest.raises(InvalidParameter) as error:
        _security(option)
    assert str(error.value) == message


@pytest.mark.parametrize(("option", "there"), [("apparmor=mine", has_apparmor), ("label=user:x", has_selinux)])
def test_profiles_are_refused_where_the_kernel_has_them_and_said_to_be_void_where_it_has_not(option, there):
    if there():
        with pytest.raises(NotImplementedHere, match=f"--security-opt {option}"):
            _security(option)
    else:
        _security(option)
        (warning,) = without_effect(HostConfig(security_opt=[option]))
        assert warning.startswith(f"--security-opt {option} has no effect: this kernel has no ")
    assert without_effect(HostConfig(security_opt=["apparmor=unconfined", "label=disable"])) == []


def test_writable_cgroups():
    assert not _security().writable_cgroups
    assert _security("writable-cgroups").writable_cgroups
    assert not _security("writable-cgroups=true", "writable-cgroups=false").writable_cgroups
    assert _security(privileged=True).writable_cgroups


def test_storage_options(tmp_path):
    with pytest.raises(InvalidParameter, match="unknown option: colour"):
        validate_storage(HostConfig(storage_opt={"colour": "red"}), str(tmp_path))
    # What Docker says where the file system has no project quotas; one that has them gets another refusal.
    with pytest.raises((InvalidParameter, NotImplementedHere), match="--storage-opt"):
        validate_storage(HostConfig(storage_opt={"size": "1g"}), str(tmp_path))
    validate_storage(HostConfig(), str(tmp_path))


def test_runtimes_are_those_of_the_configuration():
    settings = Settings(data_root="/d", exec_root="/e", runtimes={"other": Runtime(path="sh", runtime_args=("-x",))})
    validate_runtime(HostConfig(runtime="boxrun"), settings)
    assert foreign_runtime(HostConfig(), settings) is None
    with pytest.raises(InvalidParameter, match="unknown or invalid runtime name: kata"):
        validate_runtime(HostConfig(runtime="kata"), settings)
    with pytest.raises(InvalidParameter, match="--init is not available with --runtime other"):
        validate_runtime(HostConfig(runtime="other", init=True), settings)
    found = foreign_runtime(HostConfig(runtime="other"), settings)
    assert found is not None
    assert (os.path.isabs(found.path), os.path.basename(found.path), found.args) == (True, "sh", ("-x",))
    missing = Settings(
        data_root="/d", exec_root="/e", runtimes={"gone": Runtime(path="no-such-runtime")}, default_runtime="gone"
    )
    with pytest.raises(InternalError, match='exec: "no-such-runtime": executable file not found'):
        foreign_runtime(HostConfig(), missing)


@pytest.mark.parametrize(
    ("sysctl", "host", "message"),
    [
        ("kernel.pid_max", {}, 'sysctl "kernel.pid_max" is not in a separate kernel namespace'),
        ("net.ipv4.ip_forward", {"network_mode": "host"}, 'sysctl "net.ipv4.ip_forward" not allowed in host network namespace'),
        ("kernel.shmmax", {"ipc_mode": "host"}, 'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace'),
    ],
)
def test_sysctls_belong_to_the_container(sysctl, host, message):
    with pytest.raises(InvalidParameter) as error:
        validate_sysctls(HostConfig(sysctls={sysctl: "1"}, **host))
    assert str(error.value) == message
    assert validate_sysctls(HostConfig(sysctls={"net.ipv4.ip_forward": "1"})) == {"net.ipv4.ip_forward": "1"}


def _log(driver: str = "", default: LogConfig | None = None, **options: str):
    config = effective(
        LogConfig(type=driver, config={k.replace("_", "-"): v for k, v in options.items()}),
        default or LogConfig(type="json-file"),
    )
    container = ContainerConfig(labels={"a": "1", "b": "2"}, env=["X=y", "Z=w"])
    return build_log(config, container=container, container_id="i" * 64, name="n", image="img", directory="/d")


def test_logs_are_rotated_by_default():
    log = _log()
    assert (log.driver, log.max_size, log.max_files, log.blocking) == ("json-file", 128 * MB, 4, True)
    assert log.path == f"/d/{'i' * 64}-json.log"
    assert _log("local").path == "/d/local-logs/container.log"
    assert _log("none").driver == "none"


def test_log_options():
    log = _log(max_size="10k", max_file="3", compress="true", mode="non-blocking", max_buffer_size="2m")
    assert (log.max_size, log.max_files, log.compress, log.blocking, log.buffer_size) == (10240, 3, True, False, 2 * MB)
    assert _log(max_size="-1").max_size == -1
    attributes = _log(labels="a,c", env="X", tag="{{.Name}}/{{.ID}}").attrs
    assert attributes == {"a": "1", "X": "y", "tag": "n/" + "i" * 12}
    assert _log(env_regex="^Z", labels_regex="b").attrs == {"Z": "w", "b": "2"}


def test_the_daemons_options_count_for_its_own_driver_only():
    default = LogConfig(type="local", config={"max-size": "1m"})
    assert _log(default=default).max_size == MB
    assert _log("json-file", default=default).max_size == 128 * MB


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("nosuch", {}, "logger: no log driver named 'nosuch' is registered"),
        ("json-file", {"colour": "red"}, "unknown log opt 'colour' for json-file log driver"),
        ("json-file", {"mode": "odd"}, "logger: logging mode not supported: odd"),
        (
            "json-file",
            {"max_buffer_size": "1m"},
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        ("json-file", {"max_file": "0"}, "max-file cannot be less than 1: 0"),
        ("json-file", {"max_size": "big"}, "invalid size: 'big'"),
    ],
)
def test_bad_log_options(driver, options, message):
    with pytest.raises(InvalidParameter) as error:
        _log(driver, **options)
    assert str(error.value) == message


def test_other_drivers_of_dockers_are_not_here():
    with pytest.raises(NotImplementedHere, match="--log-driver awslogs"):
        _log("awslogs")


@pytest.mark.parametrize(("text", "size"), [("10", 10), ("1k", 1024), ("1.5KiB", 1536), ("2 MB", 2 * MB), ("1g", 1 << 30)])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("host", "remapped", "every_group", "expected"),
    [
        ({}, False, True, {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}),
        ({}, True, True, {"net.ipv4.ip_unprivileged_port_start": "0"}),
        ({}, False, False, {"net.ipv4.ip_unprivileged_port_start": "0"}),
        ({"network_mode": "host"}, False, True, {}),
        ({"network_mode": "container:x"}, False, True, {}),
        (
            {"sysctls": {"net.ipv4.ip_unprivileged_port_start": "77"}},
            False,
            False,
            {"net.ipv4.ip_unprivileged_port_start": "77"},
        ),
    ],
)
def test_anybody_may_bind_any_port_and_ping(monkeypatch, host, remapped, every_group, expected):
    monkeypatch.setattr(security_options, "_all_groups", lambda: every_group)
    monkeypatch.setattr(security_options, "_there", lambda name: True)
    assert security_options.sysctls(HostConfig(**{"network_mode": "bridge", **host}), remapped=remapped) == expected
