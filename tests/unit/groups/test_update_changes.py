"""From the flags of ``update`` to a container's new configuration."""

from __future__ import annotations

import msgspec
import pytest
from boxship.cli.flags import parse
from boxship.cli.update import UpdateOptions, body
from boxship.errors import CommandError
from boxship.types.host import HostConfig, RestartPolicy, ThrottleDevice
from boxship.types.update import UpdateRequest
from boxshipd.containers.updating import merged
from boxshipd.errors import Conflict


def of(*words):
    options = UpdateOptions()
    assert parse(options, words) == []
    return body(options)


def test_only_what_is_given_is_sent():
    assert of("-m", "64m", "--cpus", "1.5") == {"Memory": 64 << 20, "NanoCpus": 1_500_000_000}
    assert of("--pids-limit", "0", "--memory-swap", "-1") == {"PidsLimit": 0, "MemorySwap": -1}
    assert of("--restart", "on-failure:3") == {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}
    with pytest.raises(CommandError, match="maximum retry count must be an integer"):
        of("--restart", "on-failure:x")
    with pytest.raises(CommandError, match="--kernel-memory is not available"):
        of("--kernel-memory", "1g")


def test_what_is_left_open_stays():
    host = HostConfig(memory=64 << 20, memory_swap=-1, cpu_shares=5, pids_limit=3, restart_policy=RestartPolicy(name="always"))
    assert merged(host, UpdateRequest()) == host
    assert merged(host, UpdateRequest(restart_policy=RestartPolicy())) == host
    changed = merged(host, UpdateRequest(cpu_shares=7, pids_limit=-1, restart_policy=RestartPolicy(name="no")))
    assert (changed.cpu_shares, changed.pids_limit, changed.restart_policy.name, changed.memory) == (7, 0, "no", 64 << 20)


def test_a_devices_rate_replaces_its_own_only():
    host = HostConfig(blkio_device_read_bps=[ThrottleDevice(path="/dev/a", rate=1), ThrottleDevice(path="/dev/b", rate=2)])
    changed = merged(host, UpdateRequest(blkio_device_read_bps=[ThrottleDevice(path="/dev/a", rate=3)]))
    assert [(one.path, one.rate) for one in changed.blkio_device_read_bps] == [("/dev/b", 2), ("/dev/a", 3)]


@pytest.mark.parametrize(
    ("host", "changes", "said"),
    [
        ({"cpu_period": 1}, {"nano_cpus": 1}, "Nano CPUs cannot be updated as CPU Period has already been set"),
        ({"cpu_quota": 1}, {"nano_cpus": 1}, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        ({"nano_cpus": 1}, {"cpu_period": 1}, "CPU Period cannot be updated as NanoCPUs has already been set"),
        ({"nano_cpus": 1}, {"cpu_quota": 1}, "CPU Quota cannot be updated as NanoCPUs has already been set"),
        ({"memory_swap": 10}, {"memory": 11}, "already set memoryswap limit"),
        ({"memory_swap": -1}, {"memory": 11}, "already set memoryswap limit"),
        ({"auto_remove": True}, {"restart_policy": RestartPolicy(name="always")}, "because AutoRemove is enabled"),
    ],
)
def test_contradictions(host, changes, said):
    with pytest.raises(Conflict, match=said):
        merged(HostConfig(**host), UpdateRequest(**changes))


def test_the_body_that_dockers_client_sends():
    text = b'{"CpuShares":0,"Memory":0,"NanoCpus":500000000,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":null,"BlkioDeviceReadBps":null,"BlkioDeviceWriteBps":null,"BlkioDeviceReadIOps":null,"BlkioDeviceWriteIOps":null,"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":null,"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":null,"OomKillDisable":null,"PidsLimit":null,"Ulimits":null,"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"RestartPolicy":{"Name":"","MaximumRetryCount":0}}'
    changes = msgspec.json.decode(text, type=UpdateRequest)
    assert merged(HostConfig(), changes) == HostConfig(nano_cpus=500_000_000)
