"""``--device`` and ``--gpus`` against what Docker's command line sends for them."""

from __future__ import annotations

import pytest
from boxship.cli.container_config import create_body
from boxship.cli.container_flags import RunOptions
from boxship.cli.devices import gpu_request
from boxship.cli.flags import parse
from boxship.errors import CommandError, InvalidValue


def host_config(*words: str) -> dict:
    options = RunOptions()
    image, *command = parse(options, [*words, "img"], interspersed=False)
    return create_body(options, image, command)["HostConfig"]


def test_paths_and_cdi_names_are_told_apart():
    config = host_config("--device", "/dev/null", "--device", "vendor.com/class=name", "--device", "v.com/c=two")
    assert [device["PathOnHost"] for device in config["Devices"]] == ["/dev/null"]
    assert config["DeviceRequests"] == [{"Driver": "cdi", "DeviceIDs": ["vendor.com/class=name", "v.com/c=two"]}]
    assert host_config("--device", "/dev/a=b")["DeviceRequests"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", {"Count": -1, "Capabilities": [["gpu"]]}),
        ("2", {"Count": 2, "Capabilities": [["gpu"]]}),
        ('"device=0,1"', {"Count": 0, "DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]]}),
        (
            'count=3,driver=nvidia,"capabilities=compute,utility"',
            {"Count": 3, "Driver": "nvidia", "Capabilities": [["compute", "utility", "gpu"]]},
        ),
        ('driver=x,"options=a=b,c"', {"Driver": "x", "Count": 1, "Options": {"a": "b", "c": ""}, "Capabilities": [["gpu"]]}),
    ],
)
def test_gpus(text, expected):
    assert gpu_request(text) == {"Driver": "", "DeviceIDs": None, "Options": {}, **expected}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("some", 'invalid count (some): value must be either "all" or an integer'),
        ("colour=red", "unexpected key 'colour' in 'colour=red'"),
        ("count=1,count=2", "gpu request key 'count' can be specified only once"),
    ],
)
def test_gpus_that_cannot_be(text, message):
    with pytest.raises(InvalidValue) as caught:
        gpu_request(text)
    assert str(caught.value) == message
    with pytest.raises(CommandError, match=r'^invalid argument ".*" for "--gpus" flag: '):
        host_config("--gpus", text)


def test_runtime_and_storage_options():
    config = host_config("--runtime", "runc", "--storage-opt", "size=1g")
    assert (config["Runtime"], config["StorageOpt"]) == ("runc", {"size": "1g"})
    assert "Runtime" not in host_config()
    with pytest.raises(CommandError, match=r"^invalid storage option$"):
        host_config("--storage-opt", "size")
