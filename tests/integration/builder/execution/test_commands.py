"""RUN: commands in containers, and the layers that come of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from boxshipd.builder.errors import StepFailed
from boxshipd.builder.graph import Exec, Mount
from boxshipd.builder.results import Snapshot
from boxshipd.errors import Forbidden
from support.building import Building
from support.engine import Engine

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def building(shared_engine: Engine) -> AsyncIterator[Building]:
    """A build on the module's engine."""
    building = Building(shared_engine)
    yield building
    building.close()


async def test_what_a_command_writes_becomes_a_layer_and_nothing_else(building: Building) -> None:
    result = await building.run("echo out; echo err >&2; mkdir /made; echo text > /made/file")
    assert building.top(result) == ["made/", "made/file"]
    assert building.printed == {1: b"out\n", 2: b"err\n"}
    base = await building.base()
    assert result.layers[:-1] == base.layers


async def test_a_command_sees_what_the_one_before_has_made(building: Building) -> None:
    first = await building.run("echo one > /state; rm /bin/true")
    second = await building.run("cat /state; [ -e /bin/true ] || echo gone", first)
    assert building.printed[1] == b"one\ngone\n"
    assert building.top(first) == ["bin/", "bin/.wh.true", "state"]
    assert building.top(second) == []


async def test_a_command_has_its_user_directory_and_variables(building: Building) -> None:
    await building.run(
        "id -u; id -g; pwd; echo $A $HOSTNAME $http_proxy $HOME; hostname",
        user="1234:5678",
        cwd="/tmp",
        env=("A=1",),
        proxy=("http_proxy=http://proxy",),
    )
    assert building.printed[1] == b"1234\n5678\n/tmp\n1 buildkitsandbox http://proxy /\nbuildkitsandbox\n"


async def test_a_failing_command_is_named_with_its_code_in_dockers_words(building: Building) -> None:
    with pytest.raises(StepFailed) as caught:
        await building.run("exit 3")
    assert str(caught.value) == "The command '/bin/sh -c exit 3' returned a non-zero code: 3"
    assert caught.value.code == 3


async def test_a_command_that_is_not_there_fails_with_127(building: Building) -> None:
    op = Exec(args=("/nowhere",), network="none")
    with pytest.raises(StepFailed, match="/nowhere") as caught:
        await building.executor.run(op, building.work(op, [await building.base()]))
    assert caught.value.code == 127


async def test_a_command_that_runs_out_of_memory_is_said_to(building: Building) -> None:
    with pytest.raises(StepFailed, match="out of memory") as caught:
        await building.run("tail /dev/zero", limits={"memory": 16 << 20, "memory_swap": 16 << 20})
    assert caught.value.code == 137


async def test_no_byte_of_much_output_is_lost_and_its_order_is_kept(building: Building) -> None:
    await building.run("i=0; while [ $i -lt 20000 ]; do echo line $i of many; i=$((i+1)); done; head -c 3000000 /dev/zero >&2")
    assert building.printed[1] == b"".join(b"line %d of many\n" % number for number in range(20000))
    assert building.printed[2] == bytes(3000000)


async def test_a_cancelled_command_is_killed_at_once_and_leaves_nothing(building: Building) -> None:
    running = asyncio.create_task(building.run("echo begun; echo x > /written; trap '' TERM INT; while :; do sleep 1; done"))
    await building.until_printed(b"begun")
    running.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await running
    engine = building.engine
    listed = await _listing(building)
    assert listed == []
    disk, run = engine.containers.transients.directories
    await engine.until(lambda: os.listdir(disk) + os.listdir(run) == [], "its directories are removed")


async def _listing(building: Building) -> list[str]:
    """The ids of the containers that the runtime has, once those that have ended are released."""
    from boxrun.supervisor.contract import Empty, Runtime

    ids: list[str] = ["unknown"]
    async with asyncio.timeout(10):
        while ids:
            found = await building.engine.link.call(Runtime.list, Empty(), "list")
            ids = [status.id for status in found.containers]
            await asyncio.sleep(0)
    return ids


async def test_a_command_without_a_base_has_only_what_is_mounted(building: Building) -> None:
    base = await building.base()
    mounts = tuple(Mount(target=f"/{name}", input=0, source=f"/{name}", readonly=True) for name in ("bin", "lib", "usr"))
    result = await building.run("echo made > /file; ls /", base, scratch=True, mounts=mounts)
    assert building.top(result) == ["file"]
    assert len(result.layers) == 1


async def test_what_needs_an_entitlement_is_refused_by_its_name(building: Building) -> None:
    with pytest.raises(Forbidden, match=r"security\.insecure"):
        await building.run("true", security="insecure")
    with pytest.raises(Forbidden, match=r"network\.host"):
        await building.run("true", network="host")
    await building.run("grep CapEff /proc/self/status", security="insecure", entitlements=frozenset({"security.insecure"}))
    await building.run("grep CapEff /proc/self/status")
    insecure, sandboxed = (int(line.split()[1], 16) for line in building.printed[1].splitlines())
    assert sandboxed == 0xA80425FB
    assert insecure & sandboxed == sandboxed
    assert insecure > sandboxed


async def test_limits_hosts_and_shared_memory_are_the_builds(building: Building) -> None:
    await building.run(
        "ulimit -n; cat /etc/hosts; df -k /dev/shm | tail -1",
        ulimits=("nofile=100:200",),
        extra_hosts=("there:10.1.2.3",),
        shm_size=8 << 20,
    )
    printed = building.printed[1].decode()
    assert printed.startswith("100\n")
    assert "10.1.2.3\tthere\n" in printed
    assert printed.splitlines()[-1].split()[1] == "8192"


async def test_parallel_commands_do_not_see_each_other(building: Building) -> None:
    base = await building.base()
    results = await asyncio.gather(*(building.run(f"echo {n} > /number; ls / | grep -c number", base) for n in range(6)))
    assert [building.file(result, "number") for result in results] == [b"%d\n" % n for n in range(6)]
    assert building.printed[1] == b"1\n" * 6


async def test_the_key_is_of_the_command_and_what_it_begins_from(building: Building) -> None:
    base = await building.base()
    changed = await building.run("echo x > /x")

    async def key(*inputs: Snapshot, **fields) -> str:
        op = Exec(args=("a",), **fields)
        return await building.executor.key(op, building.work(op, inputs))

    plain = await key(base)
    assert plain == await key(base)
    assert plain == await key(base, proxy=("http_proxy=http://x",))
    assert await key(base, extra_hosts=("a:1.2.3.4",)) == await key(base, extra_hosts=("a:4.3.2.1",))
    different = [
        plain,
        await key(changed),
        await key(base, env=("A=1",)),
        await key(base, user="x"),
        await key(base, network="none"),
    ]
    assert len(set(different)) == len(different)


async def test_nobody_waits_for_a_disk_that_a_commands_files_are_on(building: Building) -> None:
    """Unmounting any other overlay, as a command's end does, puts everything on its file system on the disk first."""
    await building.run("grep ' / overlay ' /proc/self/mounts")
    # Newer kernels call it fsync=volatile.
    assert building.printed[1].decode().split()[3].split(",")[-1].endswith("volatile")


async def test_of_what_is_only_mounted_the_part_that_is_seen_is_in_the_key(building: Building) -> None:
    base = await building.base()
    one = await building.run("mkdir /out /own; echo same > /out/file; echo 1 > /other")
    two = await building.run("mkdir /out /own; echo same > /out/file; echo 2 > /other; touch -d @1 /out/file")
    other = await building.run("mkdir /out; echo different > /out/file")

    async def key(stage: Snapshot, **mount) -> str:
        op = Exec(args=("a",), mounts=(Mount(target="/x", input=1, **mount),))
        return await building.executor.key(op, building.work(op, (base, stage)))

    part = {"source": "/out", "readonly": True}
    assert await key(one, **part) == await key(two, **part)
    assert await key(one, **part) != await key(other, **part)
    for whole in ({"readonly": True}, {"source": "/out"}, {"source": "/own", "kind": "cache"}):
        assert await key(one, **whole) != await key(two, **whole)
