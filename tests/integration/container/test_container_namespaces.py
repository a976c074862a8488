"""Namespaces: new ones, joined ones, the host's; what belongs to them: host name, loopback, sysctls, clocks, id mappings."""

import os
import time

import pytest
from boxrun.container import defaults
from boxrun.container.spec import IDMapping, Mount, Namespace
from support.boxes import fork_server

KINDS = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "time")
MAPPINGS = {
    "uid_mappings": (IDMapping(inside=0, outside=200000, size=65536),),
    "gid_mappings": (IDMapping(inside=0, outside=300000, size=65536),),
}


def links(pid):
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in (*KINDS, "user")}


@pytest.fixture
def sleeper(box):
    pids = []

    def start(**spec):
        pids.append(box.start(box.spec("sleep", "1000", **spec)))
        return pids[-1]

    yield start
    for pid in pids:
        os.kill(pid, 9)
        box.wait()


def test_all_namespaces_are_new(sleeper):
    inside, outside = links(sleeper(namespaces=KINDS)), links("self")
    assert {kind for kind in inside if inside[kind] != outside[kind]} == set(KINDS)


def test_absent_namespaces_are_the_hosts(sleeper):
    inside, outside = links(sleeper(namespaces=("mnt",))), links("self")
    assert {kind for kind in inside if inside[kind] != outside[kind]} == {"mnt"}


def test_the_callers_own_namespaces_stay(box):
    before = links("self")
    box.run("true", namespaces=(*KINDS,), time_offsets={"monotonic": 10**9})
    own = {kind: os.readlink(f"/proc/{box._harness.pid}/ns/{kind}") for kind in (*KINDS, "user")}
    assert own == before


@pytest.mark.parametrize("kind", ["pid", "net", "ipc", "uts", "cgroup", "time"])
def test_joining(box, tmp_path, sleeper, kind):
    target = links(sleeper(namespaces=KINDS))[kind]
    pid = next(int(name) for name in os.listdir("/proc") if name.isdigit() and _link(name, kind) == target)
    others = tuple(name for name in KINDS if name not in (kind, "time"))
    namespaces = (*others, Namespace(kind=kind, path=f"/proc/{pid}/ns/{kind}"))
    second = type(box)(box._harness, tmp_path / "second")
    code = _run_beside(box, second, namespaces, {kind: f"/proc/{pid}/ns/{kind}"})
    assert code == f"{kind}:{target.partition(':')[2]}"


def _link(name, kind):
    try:
        return os.readlink(f"/proc/{name}/ns/{kind}")
    except OSError:
        return ""


def _run_beside(box, second, namespaces, joins):
    """Run in a harness of its own, as the first one waits for the sleeper."""
    kind = next(iter(joins))
    with fork_server() as process:
        second._harness = process
        return second.shell(f"readlink /proc/self/ns/{kind}", namespaces=namespaces, joins=joins)[0]


def test_a_mount_namespace_is_needed(box):
    with pytest.raises(Exception, match="a container needs a mount namespace of its own"):
        box.run("true", namespaces=("pid",))


def test_a_join_needs_its_descriptor(box):
    with pytest.raises(Exception, match="no descriptor for the net namespace to join"):
        box.run("true", namespaces=("mnt", Namespace(kind="net", container="f" * 64)))


def test_host_and_domain_name(box):
    script = "hostname; cat /proc/sys/kernel/domainname"
    assert box.shell(script, hostname="box", domainname="example.org") == ["box", "example.org"]


def test_a_host_name_needs_its_own_namespace(box):
    with pytest.raises(Exception, match="unable to set hostname without a private UTS namespace"):
        box.run("true", namespaces=("mnt", "pid"), hostname="box")
    assert os.uname().nodename != "box"


def test_loopback_is_up_with_both_addresses(box):
    (box.rootfs / "bin/ip").symlink_to("busybox")
    lines = box.shell("ip addr show; cat /proc/net/dev | grep -c :")
    assert any("inet 127.0.0.1/8" in line for line in lines)
    assert any("inet6 ::1/128" in line for line in lines)
    assert any("lo: <LOOPBACK,UP,LOWER_UP>" in line for line in lines)
    assert lines[-1] == "1"


def test_sysctls(box):
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/net/ipv4/conf/lo/forwarding"
    sysctls = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096", "net/ipv4/conf/lo/forwarding": "0"}
    assert box.shell(script, sysctls=sysctls) == ["1", "4096", "0"]


@pytest.mark.parametrize(
    ("sysctl", "message"),
    [
        ("kernel.core_pattern", "is not in a separate kernel namespace"),
        ("net.../../kernel/core_pattern", "is not in a separate kernel namespace|no such file"),
        ("net/../kernel/core_pattern", "is not in a separate kernel namespace"),
        ("vm.swappiness", "is not in a separate kernel namespace"),
        ("net.ipv4.nosuch", 'write sysctl "net.ipv4.nosuch": open /proc/sys/net/ipv4/nosuch: no such file or directory'),
    ],
)
def test_sysctls_of_the_host_are_refused(box, sysctl, message):
    with open("/proc/sys/kernel/core_pattern") as file:
        before = file.read()
    with pytest.raises(Exception, match=message):
        box.run("true", sysctls={sysctl: "1"})
    with open("/proc/sys/kernel/core_pattern") as file:
        assert file.read() == before


def test_sysctls_of_a_shared_namespace_are_refused(box):
    with pytest.raises(Exception, match=r'sysctl "net\.ipv4\.ip_forward" not allowed in host net namespace'):
        box.run("true", sysctls={"net.ipv4.ip_forward": "1"}, namespaces=("mnt", "pid", "ipc"))


def test_time_offsets(box):
    day = 86400
    uptime = float(box.shell("cat /proc/uptime", namespaces=KINDS, time_offsets={"boottime": day * 10**9})[0].split()[0])
    assert abs(uptime - day - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60


def test_pid_one(box):
    assert box.shell("echo $$") == ["1"]
    assert box.shell("echo $$", namespaces=("mnt",)) != ["1"]


def test_a_cgroup_to_begin_in(box):
    base = next((path for path in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(f"{path}/cgroup.procs")), None)
    if base is None:
        pytest.skip("no cgroup2 hierarchy")
    directory = f"{base}/boxship-setup-test-{os.getpid()}"
    os.mkdir(directory)
    try:
        pid = box.start(box.spec("sleep", "1000"), cgroup=directory)
        with open(f"/proc/{pid}/cgroup") as file:
            own = file.read()
        os.kill(pid, 9)
        box.wait()
        assert f"0::/{os.path.basename(directory)}\n" in own
    finally:
        os.rmdir(directory)


def own_files(box):
    """Give the container's files to its user namespace's root, as the daemon does for remapped images."""
    for directory, _, names in os.walk(box.directory):
        for name in (*names, "."):
            os.chown(os.path.join(directory, name), 200000, 300000, follow_symlinks=False)
    path = str(box.directory)
    while path != "/":
        os.chmod(path, os.stat(path).st_mode | 0o011)
        path = os.path.dirname(path)


def test_user_namespace(box):
    own_files(box)
    lines = box.shell(
        "id -u; cat /proc/self/uid_map /proc/self/gid_map; echo ok > /dev/null; touch /made; stat -c %u /dev/null /dev/shm /dev/pts/ptmx; "
        "cat /proc/self/oom_score_adj; cat /proc/self/cgroup | grep -c :/$; ls -A /sys/firmware; wc -c < /proc/timer_list",
        namespaces=("mnt", "pid", "net", "ipc", "uts", "cgroup", "user"),
        process={"oom_score_adj": 321},
        hostname="box",
        **MAPPINGS,
    )  # fmt: skip
    assert lines[0] == "0"
    assert lines[1].split() == ["0", "200000", "65536"]
    assert lines[2].split() == ["0", "300000", "65536"]
    assert lines[3:6] == ["0", "0", "0"]
    assert lines[6] == "321"
    assert lines[-1] == "0"
    assert (box.directory / "upper/made").stat().st_uid == 200000


def test_user_namespace_with_the_hosts_network(box):
    own_files(box)
    mounts = defaults.default_mounts(user_namespace_host_net=True)
    output = box.shell(
        "id -u; ls /sys | grep -c kernel", namespaces=("mnt", "pid", "ipc", "uts", "user"), mounts=mounts, **MAPPINGS
    )
    assert output == ["0", "1"]


def test_user_namespace_needs_mappings(box):
    with pytest.raises(Exception, match="needs uid and gid mappings"):
        box.run("true", namespaces=("mnt", "user"))
    mapping = (IDMapping(inside=1, outside=200000, size=10),)
    with pytest.raises(Exception, match="must include id 0"):
        box.run("true", namespaces=("mnt", "user"), uid_mappings=mapping, gid_mappings=mapping)


def test_user_namespace_with_a_bind(box, tmp_path):
    own_files(box)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/file").write_text("host\n")
    own_files(box)
    mount = Mount(kind="bind", source=str(tmp_path / "shared"), target="/data", readonly=True)
    namespaces = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user")
    assert box.shell("cat /data/file", extra_mounts=[mount], namespaces=namespaces, **MAPPINGS) == ["host"]
