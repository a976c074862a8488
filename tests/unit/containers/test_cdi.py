"""CDI devices: which specification counts, and what it changes about a container."""

from __future__ import annotations

import json
import os

import pytest
from boxrun.container.spec import DeviceRule
from boxship.types.host import DeviceRequest
from boxshipd.containers.spec.cdi import inject, load
from boxshipd.errors import InternalError

ONE = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.com/class",
    "containerEdits": {"env": ["ALL=1"]},
    "devices": [
        {
            "name": "one",
            "containerEdits": {
                "env": ["ONE=1"],
                "deviceNodes": [
                    {"path": "/dev/one", "hostPath": "/dev/null", "fileMode": 0o640, "uid": 5, "permissions": "r"},
                    {"path": "/dev/two", "type": "b", "major": 7, "minor": 3},
                ],
                "mounts": [
                    {"hostPath": "/lib/x", "containerPath": "/usr/lib/x", "options": ["ro", "nosuid", "rbind", "rslave"]},
                    {"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs", "options": ["size=1m"]},
                ],
                "additionalGids": [0, 44],
            },
        },
        {"name": "hooked", "containerEdits": {"hooks": [{"hookName": "createRuntime", "path": "/bin/evil"}]}},
        {"name": "rdt", "containerEdits": {"intelRdt": {"closID": "x"}}},
        {"name": "gone", "containerEdits": {"deviceNodes": [{"path": "/dev/no-such-device"}]}},
        {"name": "pipe", "containerEdits": {"deviceNodes": [{"path": "/dev/p", "type": "p"}]}},
        {"name": "wrong", "containerEdits": {"deviceNodes": [{"path": "/dev/null", "type": "b"}]}},
        {"name": "ext", "containerEdits": {"mounts": [{"hostPath": "a", "containerPath": "/b", "type": "nfs"}]}},
    ],
}


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(ONE))
    return str(tmp_path)


def cdi(*names: str) -> list[DeviceRequest]:
    return [DeviceRequest(driver="cdi", device_ids=list(names))]


def test_everything_a_device_changes(directory):
    found = inject(cdi("vendor.com/class=one"), [directory])
    assert found.env == ("ALL=1", "ONE=1")
    assert found.groups == ("44",)
    null = os.stat("/dev/null").st_rdev
    first, second = found.devices
    assert (first.target, first.source, first.mode, first.uid, first.gid) == ("/dev/one", "/dev/null", 0o640, 5, -1)
    assert (first.kind, os.makedev(first.major, first.minor)) == ("c", null)
    assert (second.kind, second.major, second.minor) == ("b", 7, 3)
    assert found.rules == (
        DeviceRule(allow=True, kind="c", major=os.major(null), minor=os.minor(null), access="r"),
        DeviceRule(allow=True, kind="b", major=7, minor=3, access="rwm"),
    )
    bind, tmpfs = found.mounts
    assert (bind.kind, bind.source, bind.target, bind.readonly, bind.options, bind.propagation) == (
        "bind",
        "/lib/x",
        "/usr/lib/x",
        True,
        ("nosuid",),
        "rslave",
    )
    assert (tmpfs.kind, tmpfs.target, tmpfs.options) == ("tmpfs", "/t", ("size=1m",))


def test_a_device_named_twice_counts_once(directory):
    found = inject([*cdi("vendor.com/class=one"), *cdi("vendor.com/class=one")], [directory])
    assert (found.env, len(found.devices)) == (("ALL=1", "ONE=1"), 2)


def test_later_directories_override_and_yaml_is_read(directory, tmp_path):
    over = tmp_path / "over"
    over.mkdir()
    (over / "one.yaml").write_text(
        "cdiVersion: '0.5.0'\nkind: vendor.com/class\ndevices:\n- name: one\n  containerEdits: {env: [OTHER=1]}\n"
    )
    (over / "broken.yaml").write_text("a: [")
    (over / "broken.json").write_text("{")
    (over / "other.txt").write_text("nothing")
    assert inject(cdi("vendor.com/class=one"), [directory, str(over), "/no/such/directory"]).env == ("OTHER=1",)
    assert len(load([directory, str(over)])) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vendor.com/class=nosuch", "unresolvable CDI devices vendor.com/class=nosuch"),
        ("vendor.com/other=one", "unresolvable CDI devices vendor.com/other=one"),
        ("one", "unqualified device 'one', expecting vendor/class=name"),
        ("vendor.com/class=hooked", r"hook createRuntime \(/bin/evil\): hooks are not available"),
        ("vendor.com/class=rdt", "intelRdt is not available"),
        ("vendor.com/class=gone", "device node /dev/no-such-device: No such file or directory"),
        ("vendor.com/class=pipe", "device node /dev/p: type p is not available"),
        ("vendor.com/class=wrong", "device node /dev/null: expected type b, found c"),
        ("vendor.com/class=ext", "mount of type nfs is not available"),
    ],
)
def test_refusals_name_the_device(directory, name, message):
    with pytest.raises(InternalError, match=f"CDI device injection failed: {message}"):
        inject(cdi(name), [directory])


def test_gpus_are_cdi_devices_where_a_specification_has_them(tmp_path):
    request = DeviceRequest(count=-1, capabilities=[["gpu"]])
    with pytest.raises(InternalError, match=r'^could not select device driver "" with capabilities: \[\[gpu\]\]$'):
        inject([request], [str(tmp_path)])
    devices = [{"name": name, "containerEdits": {"env": [f"GPU={name}"]}} for name in ("all", "0", "1", "uuid")]
    (tmp_path / "n.json").write_text(json.dumps({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices}))
    assert inject([request], [str(tmp_path)]).env == ("GPU=all",)
    assert inject([DeviceRequest(count=2, capabilities=[["gpu"]])], [str(tmp_path)]).env == ("GPU=0", "GPU=1")
    named = DeviceRequest(driver="nvidia", device_ids=["uuid"], capabilities=[["gpu", "compute"]])
    assert inject([named], [str(tmp_path)]).env == ("GPU=uuid",)
    with pytest.raises(InternalError, match='could not select device driver "amd"'):
        inject([DeviceRequest(driver="amd", count=1, capabilities=[["gpu"]])], [str(tmp_path)])
    with pytest.raises(InternalError, match=r'could not select device driver "tape" with capabilities: \[\]'):
        inject([DeviceRequest(driver="tape", count=1)], [str(tmp_path)])
