"""The body of ContainerCreate against what Docker's command line 28.2 sends for the same flags (recorded from it)."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from boxship.cli.container_config import create_body
from boxship.cli.container_flags import RunOptions
from boxship.cli.flags import parse
from boxship.errors import BoxshipError
from boxship.types.containers import CreateRequest


def body_of(*words: str) -> dict:
    options = RunOptions()
    image, *command = parse(options, words, interspersed=False)
    return create_body(options, image, command, detached=options.detach)


BASE = body_of("img")

# Flags, then how the body differs from that of "run img": at the top, and in HostConfig.
RECORDED = [
    (
        "-it --rm img a b",
        {"AttachStdin": True, "Tty": True, "OpenStdin": True, "StdinOnce": True, "Cmd": ["a", "b"]},
        {"AutoRemove": True},
    ),
    ("-d img", {"AttachStdout": False, "AttachStderr": False}, {}),
    (
        "-i -a stdin -a stdout img",
        {"AttachStdin": True, "AttachStderr": False, "OpenStdin": True, "StdinOnce": True},
        {},
    ),
    ("-i --attach stdout img", {"AttachStdin": True, "AttachStderr": False, "OpenStdin": True, "StdinOnce": True}, {}),
    ("-t img", {"Tty": True}, {}),
    ("-e A=1 -l a=b -l c img", {"Env": ["A=1"], "Labels": {"a": "b", "c": ""}}, {}),
    (
        "-v /a:/b:ro -v vol:/c -v /anon --mount type=bind,src=/x,dst=/y,readonly,bind-propagation=rslave "
        "--mount type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770 --tmpfs /run:size=64k --tmpfs /z img",
        {"Volumes": {"/anon": {}}},
        {
            "Binds": ["/a:/b:ro", "vol:/c"],
            "Tmpfs": {"/run": "size=64k", "/z": ""},
            "Mounts": [
                {"Type": "bind", "Source": "/x", "Target": "/y", "ReadOnly": True, "BindOptions": {"Propagation": "rslave"}},
                {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 1016}},
            ],
        },
    ),
    (
        "--ulimit nofile=10:20 --ulimit core=-1 --sysctl net.a=1 --cap-add NET_ADMIN --cap-drop all --device /dev/fuse "
        "--device /dev/a:/dev/b:r --init -m 64m --memory-swap -1 --memory-reservation 32m --memory-swappiness 10 --cpus 1.5 "
        "--cpu-shares 2 --cpu-period 1000 --cpu-quota 500 --cpuset-cpus 0 --cpuset-mems 0 --pids-limit 5 img",
        {},
        {
            "CapAdd": ["CAP_NET_ADMIN"],
            "CapDrop": ["ALL"],
            "Sysctls": {"net.a": "1"},
            "CpuShares": 2,
            "Memory": 67108864,
            "NanoCpus": 1500000000,
            "CpuPeriod": 1000,
            "CpuQuota": 500,
            "CpusetCpus": "0",
            "CpusetMems": "0",
            "Devices": [
                {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"},
                {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"},
            ],
            "MemoryReservation": 33554432,
            "MemorySwap": -1,
            "MemorySwappiness": 10,
            "PidsLimit": 5,
            "Ulimits": [{"Name": "core", "Hard": -1, "Soft": -1}, {"Name": "nofile", "Hard": 20, "Soft": 10}],
            "Init": True,
        },
    ),
    (
        "--network host --hostname h --domainname d --user u:g -w /w --entrypoint /bin/x --read-only --security-opt no-new-privileges "
        "--security-opt seccomp=unconfined --stop-signal INT --stop-timeout 3 --restart on-failure:3 --log-driver json-file "
        "--log-opt max-size=1m img",
        {
            "Hostname": "h",
            "Domainname": "d",
            "User": "u:g",
            "WorkingDir": "/w",
            "Entrypoint": ["/bin/x"],
            "StopSignal": "INT",
            "StopTimeout": 3,
        },
        {
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            "NetworkMode": "host",
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "ReadonlyRootfs": True,
            "SecurityOpt": ["no-new-privileges", "seccomp=unconfined"],
        },
    ),
    (
        "--oom-kill-disable --oom-score-adj 5 --shm-size 1g --ipc host --pid host --uts host --userns host --cgroupns host "
        "--cgroup-parent /x --group-add 1 --group-add x --add-host a:1.2.3.4 --add-host b=::1 --privileged --annotation a=b img",
        {},
        {
            "Annotations": {"a": "b"},
            "CgroupnsMode": "host",
            "ExtraHosts": ["a:1.2.3.4", "b:::1"],
            "GroupAdd": ["1", "x"],
            "IpcMode": "host",
            "OomScoreAdj": 5,
            "PidMode": "host",
            "Privileged": True,
            "UTSMode": "host",
            "UsernsMode": "host",
            "ShmSize": 1073741824,
            "CgroupParent": "/x",
            "OomKillDisable": True,
        },
    ),
    (
        "--blkio-weight 100 --blkio-weight-device /dev/sda:100 --device-read-bps /dev/sda:1mb --device-write-iops /dev/sda:10 "
        "--dns 1.1.1.1 --dns-option x --dns-search y --expose 80-81 --expose 9/udp img",
        {"ExposedPorts": {"80/tcp": {}, "81/tcp": {}, "9/udp": {}}},
        {
            "Dns": ["1.1.1.1"],
            "DnsOptions": ["x"],
            "DnsSearch": ["y"],
            "BlkioWeight": 100,
            "BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 100}],
            "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1048576}],
            "BlkioDeviceWriteIOps": [{"Path": "/dev/sda", "Rate": 10}],
        },
    ),
    (
        "--network container:abc --restart always --no-healthcheck --security-opt systempaths=unconfined "
        "--security-opt label=disable --security-opt apparmor=x img",
        {"Healthcheck": {"Test": ["NONE"]}},
        {
            "NetworkMode": "container:abc",
            "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
            "SecurityOpt": ["label=disable", "apparmor=x"],
            "MaskedPaths": [],
            "ReadonlyPaths": [],
        },
    ),
    ("--entrypoint= img c", {"Cmd": ["c"], "Entrypoint": [""]}, {}),
    ("--pids-limit -1 --init=false --sig-proxy=false img", {}, {"PidsLimit": -1, "Init": False}),
    ("--cap-drop net_raw --cap-add cap_sys_admin img", {}, {"CapAdd": ["CAP_SYS_ADMIN"], "CapDrop": ["CAP_NET_RAW"]}),
    (
        "--mount type=volume,src=v,dst=/d,volume-nocopy,volume-label=a=b img",
        {},
        {
            "Mounts": [
                {
                    "Type": "volume",
                    "Source": "v",
                    "Target": "/d",
                    "VolumeOptions": {"NoCopy": True, "Labels": {"a": "b"}, "DriverConfig": {}},
                }
            ]
        },
    ),
]


@pytest.mark.parametrize(("words", "top", "host"), RECORDED)
def test_body_is_dockers(words, top, host):
    body = body_of(*words.split())
    assert {key: value for key, value in body.items() if BASE.get(key) != value and key != "HostConfig"} == top
    config = body["HostConfig"]
    assert {key: value for key, value in config.items() if BASE["HostConfig"].get(key) != value} == host
    msgspec.json.decode(json.dumps(body).encode(), type=CreateRequest)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--mount type=bind,src=x img", "target is required"),
        ("--mount foo img", "invalid field 'foo' must be a key=value pair"),
        ("--mount type=,target=/x img", "type is required"),
        (
            "--mount type=bind,src=/a,target=/x,bind-recursive=readonly img",
            "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction",
        ),
        (
            "--mount type=bind,src=/a,target=/x,ro,bind-recursive=readonly img",
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
        ),
        ("-v name::/x img", "invalid spec: name::/x: empty section between colons"),
        ("--mount type=tmpfs,target=/x,bind-propagation=shared img", "cannot mix 'bind-*' options with mount type 'tmpfs'"),
        ("--security-opt foo img", 'Invalid --security-opt: "foo"'),
        ("--security-opt seccomp=/nope img", "opening seccomp profile (/nope) failed: open /nope: no such file or directory"),
        ("--device a:b:c:d img", "bad format for path: a:b:c:d"),
        ("--restart on-failure:x img", "invalid restart policy format: maximum retry count must be an integer"),
        ("--restart always --rm img", "conflicting options: cannot specify both --restart and --rm"),
        ("--env-file /nope img", "open /nope: no such file or directory"),
        ("--pid foo img", "--pid: invalid PID mode"),
        ("--uts foo img", "--uts: invalid UTS mode"),
        ("--userns foo img", "--userns: invalid USER mode"),
        ("--cgroupns foo img", "--cgroupns: invalid CGROUP mode"),
        ("--expose x img", "invalid range format for --expose: x"),
        ("--memory-swappiness 200 img", "invalid value: 200. Valid memory swappiness range is 0-100"),
    ],
)
def test_contradictions_are_refused(words, message):
    with pytest.raises(BoxshipError) as caught:
        body_of(*words.split())
    assert message in str(caught.value)


def test_variables_come_from_files_and_from_here(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("NOWHERE", raising=False)
    file = tmp_path / "env"
    file.write_text("X=1\n#c\n\nHERE\nNOWHERE\n  Y=2 \n")
    assert body_of("--env-file", str(file), "-e", "A=1", "-e", "HERE", "img")["Env"] == [
        "X=1",
        "HERE=yes",
        "Y=2 ",
        "A=1",
        "HERE=yes",
    ]


def test_labels_on_the_line_win_over_those_of_files(tmp_path: Path):
    file = tmp_path / "labels"
    file.write_text("k=v\nm\n")
    assert body_of("-l", "k=line", "--label-file", str(file), "img")["Labels"] == {"k": "line", "m": ""}


def test_seccomp_profile_is_read_here(tmp_path: Path):
    file = tmp_path / "profile.json"
    file.write_text('{\n "defaultAction": "SCMP_ACT_ALLOW"\n}\n')
    config = body_of("--security-opt", f"seccomp={file}", "img")["HostConfig"]
    assert config["SecurityOpt"] == ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']


def test_relative_bind_sources_become_absolute(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = body_of("-v", "./data:/data", "--mount", "type=bind,src=.,dst=/here", "img")["HostConfig"]
    assert config["Binds"] == [f"{tmp_path}/data:/data"]
    assert config["Mounts"][0]["Source"] == str(tmp_path)
