"""Devices: their nodes, and what the device controller lets be done with them."""

from __future__ import annotations

import json
import os
import stat

import pytest

KMSG = "c 1:11"


def mapping(source: str, target: str = "", access: str = "rwm") -> dict:
    return {"PathOnHost": source, "PathInContainer": target or source, "CgroupPermissions": access}


def test_a_device_has_its_node(isolated):
    script = "stat -c '%F %t:%T' /dev/nought; head -c 1 /dev/nought | wc -c"
    assert isolated.run(script, Devices=[mapping("/dev/zero", "/dev/nought")]) == ["character special file 1:5", "1"]


def test_permissions_are_the_controllers(isolated):
    """A device that isn't among the defaults: only what was allowed is."""
    script = "exec 3< /dev/kmsg && echo read; exec 3>&-; (exec 4> /dev/kmsg) 2>/dev/null && echo written; true"
    assert isolated.run(script, Devices=[mapping("/dev/kmsg", access="r")], CapAdd=["SYSLOG"]) == ["read"]


def test_rules_without_a_node(isolated):
    script = (
        "mknod /tmp/k c 1 11; (exec 3< /tmp/k) 2> /dev/null && echo read; (exec 3> /tmp/k) 2>/dev/null && echo written; true"
    )
    assert isolated.run(script) == []
    assert isolated.run(script, DeviceCgroupRules=[f"{KMSG} r"], CapAdd=["SYSLOG"]) == ["read"]
    assert isolated.run(script, DeviceCgroupRules=["c *:11 rw"], CapAdd=["SYSLOG"]) == ["read", "written"]
    assert isolated.run(script, DeviceCgroupRules=["a *:* rwm"], CapAdd=["SYSLOG"]) == ["read", "written"]


def test_a_directory_means_the_devices_below_it(isolated, tmp_path):
    directory = tmp_path / "devices"
    (directory / "deep").mkdir(parents=True)
    os.mknod(directory / "one", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(directory / "deep/two", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    (directory / "file").write_text("no device")
    lines = isolated.run("cd /dev/mine; find . -type c | sort; ls", Devices=[mapping(str(directory), "/dev/mine")])
    assert lines == ["./deep/two", "./one", "deep", "one"]


def test_a_link_is_what_it_leads_to(isolated, tmp_path):
    (tmp_path / "link").symlink_to("/dev/zero")
    lines = isolated.run("stat -c '%F %t:%T' /dev/linked", Devices=[mapping(str(tmp_path / "link"), "/dev/linked")])
    assert lines == ["character special file 1:5"]


@pytest.mark.parametrize(
    ("source", "reason"), [("/dev/no-such-device", "no such file or directory"), ("/etc/passwd", "not a device node")]
)
def test_what_is_no_device_is_refused_in_dockers_words(isolated, source, reason):
    expected = f'error gathering device information while adding custom device "{source}": {reason}'
    assert isolated.refused(Devices=[mapping(source)]) == expected


def test_permissions_that_cannot_be(isolated):
    assert isolated.refused(Devices=[mapping("/dev/null", access="z")]) == "invalid device mode: z"


def test_a_privileged_container_has_them_all_and_some_by_another_name(isolated):
    lines = isolated.run(
        "stat -c %t:%T /dev/kmsg /dev/second; (exec 3< /dev/kmsg) && echo read",
        Privileged=True,
        Devices=[mapping("/dev/kmsg", "/dev/second")],
    )
    assert lines == ["1:b", "1:b", "read"]


def test_cdi_devices(isolated, daemon, tmp_path):
    """The specification is looked for at each start, where the daemon was told to look."""
    specification = {
        "cdiVersion": "0.6.0",
        "kind": "boxship.test/thing",
        "devices": [
            {
                "name": "one",
                "containerEdits": {
                    "env": ["THING=one"],
                    "deviceNodes": [{"path": "/dev/thing", "hostPath": "/dev/kmsg", "permissions": "r", "fileMode": 0o604}],
                    "mounts": [{"hostPath": str(tmp_path), "containerPath": "/thing", "options": ["ro", "rbind"]}],
                    "additionalGids": [4242],
                },
            }
        ],
    }
    request = [{"Driver": "cdi", "DeviceIDs": ["boxship.test/thing=one"]}]
    message = "CDI device injection failed: unresolvable CDI devices boxship.test/thing=one"
    assert isolated.refused(DeviceRequests=request) == message
    directory = daemon.home / "cdi"
    directory.mkdir(exist_ok=True)
    (directory / "thing.json").write_text(json.dumps(specification))
    script = (
        "echo $THING; stat -c '%t:%T %a' /dev/thing; (exec 3< /dev/thing) && echo read; "
        "(exec 3> /dev/thing) 2> /dev/null || echo not written; id -G; touch /thing/x 2> /dev/null || echo read-only"
    )
    try:
        lines = isolated.run(script, DeviceRequests=request, CapAdd=["SYSLOG"])
    finally:
        (directory / "thing.json").unlink()
    assert lines == ["one", "1:b 604", "read", "not written", "0 4242", "read-only"]


def test_gpus_without_a_specification_are_refused(isolated):
    request = [{"Count": -1, "Capabilities": [["gpu"]]}]
    assert isolated.refused(DeviceRequests=request) == 'could not select device driver "" with capabilities: [[gpu]]'
