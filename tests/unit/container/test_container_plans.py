"""What can be worked out of a spec without a kernel: options, environment, capabilities, limits, sysctls, namespaces, cgroups."""

import resource

import pytest
from boxrun.container import capabilities, cgroupfs, defaults, namespaces, options, paths, report, rlimits, sysctls
from boxrun.container.exec import environment
from boxrun.container.spec import Cgroup, IDMapping, Namespace, Process, Rlimit, Root, Spec
from boxrun.errors import SetupError, StartError
from boxrun.linux import mounts


def spec(**fields):
    base = {
        "id": "0" * 64,
        "state_dir": "/",
        "process": Process(args=("true",)),
        "root": Root(lower=("/l",), upper="/u", work="/w"),
        "cgroup": Cgroup(parent="/p", name="n"),
        "namespaces": (Namespace(kind="mnt"),),
    }
    return Spec(**(base | fields))


def test_options_are_split_and_later_ones_win():
    parsed = options.parse(("ro", "nosuid", "rw", "size=1m", "noatime", "size=2m", "huge"))
    assert parsed.set_flags == mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOATIME
    assert parsed.clear_flags == mounts.MOUNT_ATTR_RDONLY | mounts.MOUNT_ATTR_ATIME
    assert parsed.data == (("size", "2m"), ("huge", None))


def test_readonly_wins_over_options():
    parsed = options.parse(("rw",), readonly=True)
    assert (parsed.set_flags, parsed.clear_flags) == (mounts.MOUNT_ATTR_RDONLY, 0)


@pytest.mark.parametrize(
    ("path", "expected"), [("a", "/a"), ("/a/../../b", "/b"), ("//a//b/.", "/a/b"), ("/", "/"), ("..", "/"), ("", "/")]
)
def test_normalised_paths(path, expected):
    assert paths.normalise(path) == expected


def test_environment():
    assert environment(("A=1", "B", "A=2", "=x", "C=a=b")) == {"A": "2", "C": "a=b"}


def test_capabilities_match_the_kernels_numbers():
    assert capabilities.CAPABILITIES["CAP_SYS_ADMIN"] == 21
    assert capabilities.CAPABILITIES["CAP_SYS_RESOURCE"] == 24
    assert capabilities.CAPABILITIES["CAP_CHECKPOINT_RESTORE"] == 40
    assert capabilities.mask_of(defaults.DEFAULT_CAPABILITIES) == 0xA80425FB


def test_all_capabilities_are_those_that_can_be_handed_on():
    with open("/proc/self/status") as file:
        bounding = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd"))
    assert capabilities.mask_of(defaults.ALL_CAPABILITIES) == bounding & (1 << len(capabilities.CAPABILITIES)) - 1


def test_rlimits_above_the_present_ones_are_clamped_with_a_warning():
    number = resource.RLIMIT_NOFILE
    present = resource.getrlimit(number)[1]
    planned, warnings = rlimits.plan((Rlimit(name="nofile", soft=-1, hard=-1),), may_raise=False)
    assert planned == [(number, (present, present))]
    assert len(warnings) == (0 if present == resource.RLIM_INFINITY else 1)
    planned, warnings = rlimits.plan((Rlimit(name="nofile", soft=-1, hard=-1),), may_raise=True)
    assert (planned, warnings) == ([(number, (-1, -1))], [])


def test_rlimits_of_docker_are_all_known():
    names = "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
    assert set(names.split()) <= set(rlimits.RLIMITS)
    with pytest.raises(SetupError, match="invalid ulimit type: nosuch"):
        rlimits.plan((Rlimit(name="nosuch", soft=1, hard=1),), may_raise=False)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "sys/net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0/100.forwarding", "sys/net/ipv4/conf/eth0.100/forwarding"),
        ("net/ipv4/conf/eth0.100/forwarding", "sys/net/ipv4/conf/eth0.100/forwarding"),
        ("kernel.shmmax", "sys/kernel/shmmax"),
        ("fs.mqueue.msg_max", "sys/fs/mqueue/msg_max"),
    ],
)
def test_sysctl_paths(name, path):
    assert sysctls.plan({name: "1"}, ("net", "ipc")) == [(name, path, b"1")]


def test_joined_namespaces_need_their_descriptors_and_keep_their_order():
    joined = tuple(Namespace(kind=kind, container="x") for kind in ("net", "pid", "ipc", "uts"))
    planned = namespaces.plan(spec(namespaces=(Namespace(kind="mnt"), *joined)), {"net": 3, "pid": 4, "ipc": 5, "uts": 6})
    assert planned.caller_joins == (("pid", 4),)
    assert planned.child_joins == (("ipc", 5), ("uts", 6), ("net", 3))
    assert planned.new == {"mnt"}
    with pytest.raises(SetupError, match="no descriptor for the ipc namespace"):
        namespaces.plan(spec(namespaces=(Namespace(kind="mnt"), *joined)), {"net": 3, "pid": 4, "uts": 6})


def test_time_offsets_need_a_time_namespace_and_a_known_clock():
    with pytest.raises(SetupError, match="time offsets need a new time namespace"):
        namespaces.plan(spec(time_offsets={"monotonic": 1}), {})
    kinds = (Namespace(kind="mnt"), Namespace(kind="time"))
    assert namespaces.plan(spec(namespaces=kinds, time_offsets={"boottime": -1}), {}).offsets == b"boottime -1 999999999\n"
    with pytest.raises(SetupError, match="no such clock"):
        namespaces.plan(spec(namespaces=kinds, time_offsets={"realtime": 1}), {})


def test_ids_outside():
    mappings = (IDMapping(inside=0, outside=1000, size=1), IDMapping(inside=1, outside=100000, size=65535))
    assert [namespaces.outside(mappings, number) for number in (0, 1, 6, 70000)] == [1000, 100000, 100005, 1000]


MOUNTINFO = """\
20 1 0:19 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
21 1 0:20 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
22 1 0:21 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
23 1 0:21 /other /elsewhere rw - cgroup cgroup rw,xattr,name=systemd
24 1 0:22 / / rw - ext4 /dev/vda rw
"""


def test_hierarchies_of_a_mixed_machine():
    found = cgroupfs.parse_mountinfo(MOUNTINFO.splitlines())
    assert [(hierarchy.directory, hierarchy.controllers) for hierarchy in found] == [
        ("unified", ""),
        ("cpu,cpuacct", "cpu,cpuacct"),
        ("systemd", "name=systemd"),
    ]
    assert cgroupfs.aliases(found) == [("cpu", "cpu,cpuacct"), ("cpuacct", "cpu,cpuacct")]


def test_groups_of_a_process():
    assert cgroupfs.parse_groups("5:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\n") == {
        "cpu,cpuacct": "/a",
        "name=systemd": "/b:c",
        "": "/d",
    }


@pytest.mark.parametrize("kind", [SetupError, StartError])
def test_reports_arrive_as_they_were_sent(kind):
    import os

    reader, writer = os.pipe()
    report.send(writer, kind("user", 2, "no such\0user " + "x" * 9000, 127))
    os.close(writer)
    received = report.receive(reader)
    assert report.receive(reader) is None
    os.close(reader)
    assert type(received) is kind
    assert (received.step, received.errno, received.exit_code) == ("user", 2, 127)
    assert received.message.startswith("no such\0user xxx")


def test_default_mounts_follow_their_arguments():
    plain = {mount.target: mount for mount in defaults.default_mounts(shm_size=123)}
    assert plain["/sys"].readonly
    assert plain["/sys/fs/cgroup"].readonly
    assert "size=123" in plain["/dev/shm"].options
    privileged = {mount.target: mount for mount in defaults.default_mounts(privileged=True, ipc="none")}
    assert not privileged["/sys"].readonly
    assert not privileged["/sys/fs/cgroup"].readonly
    assert "/dev/shm" not in privileged
    assert defaults.default_mounts(user_namespace_host_net=True)[3].kind == "bind"


def test_default_device_rules_begin_by_refusing_everything():
    rules = defaults.default_device_rules()
    assert (rules[0].allow, rules[0].kind) == (False, "a")
    assert all(rule.allow for rule in rules[1:])
    assert [rule.kind for rule in defaults.default_device_rules(privileged=True)] == ["a"]
