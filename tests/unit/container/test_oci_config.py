"""A spec as other OCI runtimes are told it."""

from __future__ import annotations

import json
import os
import stat

import pytest
from boxrun.container import defaults
from boxrun.container.devices import Node
from boxrun.container.spec import (
    Cgroup,
    DeviceRule,
    IDMapping,
    Mount,
    Namespace,
    Process,
    Resources,
    Root,
    Seccomp,
    Spec,
)
from boxrun.container.users import Identity
from boxrun.oci.config import Facts, configuration
from boxrun.oci.seccomp import oci_profile

FACTS = Facts(
    rootfs="/bundle/rootfs",
    identity=Identity(1000, 1001, (1001, 5), "/home/me"),
    nodes=[Node("/dev/x", stat.S_IFBLK | 0o640, os.makedev(8, 1), 3, 4)],
    joins={"net": "/proc/1/fd/7"},
    trees={"/dev/shm": "/bundle/trees/0"},
    rlimits=[(7, (64, -1))],
    oom_score_adj=99,
    seccomp=b'{"defaultAction":"SCMP_ACT_ALLOW"}',
)


def spec(**fields) -> Spec:
    base = {
        "id": "a" * 64,
        "state_dir": "/state",
        "process": Process(
            args=("sh", "-c", "x"),
            env=("A=b",),
            cwd="/w",
            capabilities=("CAP_CHOWN",),
            no_new_privileges=True,
            terminal=True,
            console_height=3,
            console_width=4,
        ),
        "root": Root(lower=("/l",), upper="/u", work="/w", readonly=True, propagation="rslave"),
        "cgroup": Cgroup(parent="/p/", name="n"),
        "namespaces": (Namespace(kind="mnt"), Namespace(kind="net", container="b"), Namespace(kind="pid")),
    }
    return Spec(**(base | fields))


def document(**fields) -> dict:
    return json.loads(configuration(spec(**fields), FACTS))


def test_the_process():
    process = document()["process"]
    assert process["args"] == ["sh", "-c", "x"]
    assert process["env"] == ["A=b", "HOME=/home/me"]
    assert process["user"] == {"uid": 1000, "gid": 1001, "additionalGids": [1001, 5]}
    assert process["capabilities"] == {key: ["CAP_CHOWN"] for key in ("bounding", "effective", "permitted")}
    assert process["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": (1 << 64) - 1}]
    assert (process["cwd"], process["terminal"], process["noNewPrivileges"], process["oomScoreAdj"]) == ("/w", True, True, 99)
    assert process["consoleSize"] == {"height": 3, "width": 4}


def test_names_root_and_annotations():
    found = document(hostname="h", domainname="d", annotations={"k": "v"}, sysctls={"net.x": "1"})
    assert (found["hostname"], found["annotations"]) == ("h", {"k": "v"})
    assert found["linux"]["sysctl"] == {"net.x": "1", "kernel.domainname": "d"}
    assert found["root"] == {"path": "/bundle/rootfs", "readonly": True}
    assert found["linux"]["rootfsPropagation"] == "rslave"
    assert found["linux"]["cgroupsPath"] == "/p/n"
    assert found["linux"]["seccomp"] == {"defaultAction": "SCMP_ACT_ALLOW"}


def test_namespaces_and_mappings():
    mapping = IDMapping(inside=0, outside=5, size=6)
    linux = document(uid_mappings=(mapping,), gid_mappings=(mapping,))["linux"]
    assert linux["namespaces"] == [{"type": "mount"}, {"type": "network", "path": "/proc/1/fd/7"}, {"type": "pid"}]
    assert linux["uidMappings"] == linux["gidMappings"] == [{"containerID": 0, "hostID": 5, "size": 6}]


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        (
            Mount(kind="bind", source="/s", target="/t", readonly=True, options=("nosuid",), propagation="rslave"),
            {"type": "bind", "source": "/s", "options": ["rbind", "rslave", "nosuid", "ro", "rro"]},
        ),
        (
            Mount(kind="bind", source="/s", target="/t", recursive=False, readonly=True),
            {"type": "bind", "source": "/s", "options": ["bind", "rprivate", "ro"]},
        ),
        (
            Mount(kind="bind", source="/s", target="/t", recursive_readonly="no", readonly=True),
            {"type": "bind", "source": "/s", "options": ["rbind", "rprivate", "ro"]},
        ),
        (
            Mount(kind="tmpfs", target="/t", options=("size=1m",)),
            {"type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
        ),
        (
            Mount(kind="bind", source="/dev/shm", target="/dev/shm", container="b"),
            {"type": "bind", "source": "/bundle/trees/0", "options": ["rbind", "rprivate"]},
        ),
    ],
)
def test_mounts(mount, expected):
    assert document(mounts=(mount,))["mounts"] == [{"destination": mount.target, **expected}]


def test_devices_and_paths():
    rules = (DeviceRule(allow=False, kind="a"), DeviceRule(allow=True, kind="c", major=1, minor=-1, access="r"))
    linux = document(
        resources=Resources(devices=rules), masked_paths=("/proc/kcore", "/proc/*mem*nfo"), readonly_paths=("/x",)
    )["linux"]
    assert linux["devices"] == [{"path": "/dev/x", "type": "b", "major": 8, "minor": 1, "fileMode": 0o640, "uid": 3, "gid": 4}]
    assert linux["resources"]["devices"] == [
        {"allow": False, "type": "a", "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "access": "r"},
    ]
    assert linux["readonlyPaths"] == ["/x"]
    assert linux["maskedPaths"][0] == "/proc/kcore"
    assert not any("*" in path for path in linux["maskedPaths"])


def test_the_builtin_profile_has_nothing_conditional_left():
    profile = json.loads(oci_profile(Seccomp(), defaults.DEFAULT_CAPABILITIES))
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert {key for entry in profile["syscalls"] for key in entry} <= {"names", "action", "errnoRet", "args"}
    allowed = {name for entry in profile["syscalls"] if entry["action"] == "SCMP_ACT_ALLOW" for name in entry["names"]}
    assert "read" in allowed
    assert "mount" not in allowed
    assert [entry["errnoRet"] for entry in profile["syscalls"] if "clone3" in entry["names"]] == [38]
    more = json.loads(oci_profile(Seccomp(), (*defaults.DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN")))
    assert "mount" in {name for entry in more["syscalls"] for name in entry["names"]}


def test_profiles_of_ones_own_and_none():
    own = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 97,
                "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}],
            },
            {"names": ["ptrace"], "action": "SCMP_ACT_KILL_PROCESS"},
        ],
    }
    profile = json.loads(oci_profile(Seccomp(mode="custom", profile=json.dumps(own)), ()))
    assert profile["flags"] == ["SECCOMP_FILTER_FLAG_LOG"]
    first, second = profile["syscalls"]
    assert first == {**own["syscalls"][0], "args": [{"index": 0, "value": 40, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}
    assert second["action"] == "SCMP_ACT_KILL_PROCESS"
    assert oci_profile(Seccomp(mode="unconfined"), ()) == b""
