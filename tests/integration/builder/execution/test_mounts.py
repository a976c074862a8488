"""``RUN --mount``: what a command gets mounted, and that nothing of it stays in its layer."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from boxrun.supervisor.contract import Empty, Runtime
from boxshipd.builder.errors import SourceMissing, StepFailed
from boxshipd.builder.graph import Mount
from boxshipd.builder.trees.directory import DirectoryTree
from boxshipd.errors import DaemonError, NotFound
from support.building import Building
from support.engine import Engine

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def building(shared_engine: Engine) -> AsyncIterator[Building]:
    """A build on the module's engine."""
    building = Building(shared_engine)
    yield building
    building.close()


async def test_mount_targets_that_were_not_there_stay_out_of_the_layer(building: Building) -> None:
    base = await building.base()
    result = await building.run(
        "ls -d /deep/in/here /etc/odd/file /opt; touch /opt/x; echo x > /deep/in/other",
        base,
        mounts=(
            Mount(target="/deep/in/here", kind="tmpfs"),
            Mount(target="/opt/cache/dir", kind="cache", id="c"),
            Mount(target="/etc/odd/file", input=0, source="/etc/passwd", readonly=True),
        ),
    )
    assert building.printed[1].decode().splitlines() == ["/deep/in/here", "/etc/odd/file", "/opt"]
    assert building.top(result) == ["deep/", "deep/in/", "deep/in/other", "opt/", "opt/x"]


async def test_a_mount_target_leaves_its_parents_times_and_modes_alone(building: Building) -> None:
    first = await building.run("mkdir -m 1750 /own; chown 3:4 /own; touch -d @1000000000 /own")
    second = await building.run(
        "stat -c '%a %u:%g %Y' /own; stat -c '%a %u:%g' /own/new", first, mounts=(Mount(target="/own/new", kind="tmpfs"),)
    )
    assert building.printed[1] == b"1750 3:4 1000000000\n1777 0:0\n"
    assert building.top(second) == []


async def test_a_mount_target_is_found_through_links_and_through_what_hides_it(building: Building) -> None:
    first = await building.run(
        "mkdir -p /real/below; ln -s /real /link; ln -s missing/place /dangling; rm -rf /etc /tmp; mkdir /tmp"
    )
    second = await building.run(
        "echo a > /link/new/a && echo b > /dangling/b && echo c > /tmp/in/c; ls /real/new /missing/place /tmp/in",
        first,
        mounts=tuple(Mount(target=target, kind="tmpfs") for target in ("/link/new", "/dangling", "/tmp/in")),
    )
    assert building.printed[1].decode().split() == ["/missing/place:", "b", "/real/new:", "a", "/tmp/in:", "c"]
    assert building.top(second) == []


async def test_another_stages_files_are_mounted_as_they_are_through_all_their_layers(building: Building) -> None:
    base = await building.base()
    one = await building.run("mkdir -p /src/sub; echo 1 > /src/one; echo old > /src/two; echo gone > /src/sub/gone")
    two = await building.run(
        "echo 2 > /src/two; rm -r /src/sub; mkdir /src/sub; echo 3 > /src/sub/three; ln -s /src/one /way", one
    )
    mounts = (
        Mount(target="/a", input=1, source="/src", readonly=True),
        Mount(target="/b", input=1, source="/src/sub/", readonly=True),
        Mount(target="/c", input=1, source="/way", readonly=True),
        Mount(target="/all", input=1, readonly=True),
    )
    await building.run("cat /a/one /a/two /c; ls /a /b /all/src/sub; ! touch /a/y 2>/dev/null", base, two, mounts=mounts)
    assert building.printed[1].decode().split() == (
        ["1", "2", "1", "/a:", "one", "sub", "two", "/all/src/sub:", "three", "/b:", "three"]
    )


async def test_what_is_written_to_a_mount_that_can_be_goes_nowhere(building: Building) -> None:
    base = await building.base()
    other = await building.run("mkdir -m 700 /src; echo 1 > /src/one")
    mounts = (Mount(target="/dir", input=1, source="/src"), Mount(target="/file", input=1, source="/src/one"))
    script = "echo 2 > /dir/one; echo new > /dir/two; echo 3 > /file; cat /dir/one /dir/two /file; stat -c %a /dir"
    result = await building.run(script, base, other, mounts=mounts)
    assert building.printed[1].decode().split() == ["2", "new", "3", "700"]
    assert building.top(result) == []
    await building.run("cat /dir/one /file; ls /dir", base, other, mounts=mounts)
    assert building.printed[1].decode().split()[4:] == ["1", "1", "one"]


async def test_a_tree_is_mounted_whole_or_in_part(building: Building, tmp_path: Path) -> None:
    base = await building.base()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_text("in the tree\n")
    (tmp_path / "link").symlink_to("/sub/file")
    tree = DirectoryTree(str(tmp_path))
    mounts = (
        Mount(target="/all", input=1, readonly=True),
        Mount(target="/part", input=1, source="sub", readonly=False),
        Mount(target="/one", input=1, source="/link", readonly=True),
    )
    result = await building.run("cat /all/sub/file /part/file /one; echo x > /part/x; rm /part/file", base, tree, mounts=mounts)
    assert building.printed[1] == b"in the tree\n" * 3
    assert building.top(result) == []
    assert (tmp_path / "sub/file").read_text() == "in the tree\n"
    assert os.listdir(tmp_path / "sub") == ["file"]


async def test_a_source_that_is_not_there_is_named(building: Building) -> None:
    base = await building.base()
    with pytest.raises(SourceMissing, match='"/nowhere" not found'):
        await building.run("true", base, mounts=(Mount(target="/x", input=0, source="/nowhere", readonly=True),))


async def test_a_cache_keeps_what_is_left_in_it_and_is_filled_from_a_stage(building: Building) -> None:
    base = await building.base()
    cache = Mount(target="/cache", kind="cache", id="mine", mode=0o750, uid=5, gid=6)
    await building.run("stat -c '%a %u:%g' /cache; echo kept > /cache/file", base, mounts=(cache,))
    result = await building.run("cat /cache/file", base, mounts=(cache,))
    assert building.printed[1] == b"750 5:6\nkept\n"
    assert building.top(result) == []
    stage = await building.run("mkdir -m 711 /seed; echo seed > /seed/file; echo other > /other")
    seeded = Mount(target="/cache", kind="cache", id="mine", input=1, source="/seed")
    await building.run("cat /cache/file; ls /cache; rm /cache/file", base, stage, mounts=(seeded,))
    await building.run("ls /cache | wc -l", base, stage, mounts=(seeded,))
    assert building.printed[1] == b"750 5:6\nkept\nseed\nfile\n0\n"


async def test_a_cache_mounted_twice_is_taken_once(building: Building) -> None:
    mounts = (
        Mount(target="/a", kind="cache", id="same", sharing="locked"),
        Mount(target="/b", kind="cache", id="same", sharing="locked", readonly=True),
    )
    await building.run("echo x > /a/x; cat /b/x; ! touch /b/y 2>/dev/null", mounts=mounts)
    assert building.printed[1] == b"x\n"
    assert building.caches.asked == [("same", "locked", "")]


async def test_a_tmpfs_is_as_large_as_it_may_be(building: Building) -> None:
    await building.run("df -k /t | tail -1", mounts=(Mount(target="/t", kind="tmpfs", size=4 << 20),))
    assert building.printed[1].split()[1] == b"4096"


async def test_a_secret_is_a_file_or_a_variable_and_nowhere_else(building: Building) -> None:
    secret = b"very secret text"
    building.client.secrets["s"] = secret
    mounts = (
        Mount(target="/run/secrets/s", kind="secret", id="s"),
        Mount(target="/own", kind="secret", id="s", mode=0o444, uid=7, gid=8),
        Mount(target="", kind="secret", id="s", env="SECRET"),
    )
    result = await building.run(
        "cat /run/secrets/s /own | md5sum; stat -c '%a %u:%g' /run/secrets/s /own; echo ${#SECRET}; grep -c '/own' /proc/mounts; "
        "! echo x > /own",
        mounts=mounts,
    )
    assert building.printed[1].decode().splitlines()[1:] == ["400 0:0", "444 7:8", "16", "1"]
    assert building.top(result) == []
    engine = building.engine
    disk, run = engine.containers.transients.directories
    await engine.until(lambda: os.listdir(disk) + os.listdir(run) == [], "its directories are removed")
    for top, _, names in os.walk(engine.home):
        for name in names:
            path = Path(top, name)
            if path.is_file() and not path.is_symlink():
                assert secret not in path.read_bytes(), path


async def test_a_secret_that_is_not_there_is_only_missed_where_it_is_required(building: Building) -> None:
    optional = Mount(target="/run/secrets/s", kind="secret", id="s")
    await building.run("[ ! -e /run/secrets/s ]", mounts=(optional,))
    with pytest.raises(NotFound, match="secret s: not found"):
        await building.run("true", mounts=(Mount(target="/s", kind="secret", id="s", required=True),))


def _echoing_agent() -> int:
    """A connection to an agent that answers with what it is told, in upper case, once all has been said."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with ours:
            said = b""
            while piece := ours.recv(65536):
                said += piece
            ours.sendall(said.upper())

    threading.Thread(target=serve, daemon=True).start()
    return theirs.detach()


async def test_an_agent_is_a_socket_that_leads_to_the_clients(building: Building) -> None:
    building.client.agents["default"] = _echoing_agent
    mount = Mount(target="/run/buildkit/ssh_agent.0", kind="ssh", id="default", mode=0o666, uid=3, gid=4)
    script = "echo $SSH_AUTH_SOCK; stat -c '%F %a %u:%g' $SSH_AUTH_SOCK; while [ ! -e /said ]; do sleep 0.01; done"
    running = asyncio.create_task(building.run(script, mounts=(mount,)))
    await building.until_printed(b"3:4")
    (container,) = (await building.engine.link.call(Runtime.list, Empty(), "list")).containers
    root = f"/proc/{container.pid}/root"
    answers = await asyncio.gather(*(asyncio.to_thread(_ask, f"{root}{mount.target}", b"hello " * 50000) for _ in range(3)))
    assert answers == [b"HELLO " * 50000] * 3
    Path(root, "said").touch()
    result = await running
    assert building.printed[1].decode().splitlines() == ["/run/buildkit/ssh_agent.0", "socket 666 3:4"]
    assert building.top(result) == ["said"]


def _ask(path: str, said: bytes) -> bytes:
    """What an agent answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


async def test_an_agent_that_is_not_there_is_only_missed_where_it_is_required(building: Building) -> None:
    await building.run("[ -z $SSH_AUTH_SOCK ]", mounts=(Mount(target="/a", kind="ssh"),))
    with pytest.raises(NotFound, match="no SSH agent default"):
        await building.run("true", mounts=(Mount(target="/a", kind="ssh", required=True),))


async def test_no_path_of_a_mount_leads_to_the_host(building: Building, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "file").write_text("the host's\n")
    base = await building.base()
    evil = await building.run(
        f"ln -s {host} /abs; ln -s ../../../../../../..{host} /rel; ln -s / /root-link; mkdir /d; ln -s ../../..{host}/file /d/f"
    )
    for source in ("/abs", "/rel/file", f"../../../../..{host}", f"/root-link{host}", "/d/f"):
        with pytest.raises(SourceMissing):
            await building.run("true", base, evil, mounts=(Mount(target="/x", input=1, source=source, readonly=True),))
    cache = Mount(target="/c", kind="cache", id="evil")
    await building.run(f"ln -s {host} /c/out; ln -s /etc /c/etc", base, mounts=(cache,))
    for source in ("/out", "../..", "etc"):
        try:
            await building.run("ls -a /c", base, mounts=(Mount(target="/c", kind="cache", id="evil", source=source),))
        except DaemonError:
            continue
    assert b"file" not in building.printed[1]
    assert b"passwd" not in building.printed[1]
    # Links among the targets lead to places in the root, which is where things are mounted and nothing is made on the host.
    result = await building.run(
        "echo in > /abs/new/file",
        evil,
        mounts=(Mount(target="/abs/new", kind="cache", id="in"), Mount(target="/rel/x", kind="tmpfs")),
    )
    assert os.listdir(host) == ["file"]
    assert building.top(result) == []


async def test_a_link_that_is_swapped_in_a_cache_meanwhile_leads_nowhere(building: Building, tmp_path: Path) -> None:
    """While one command exchanges a directory and a link to the host without end, others mount by that name."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "file").write_text("the host's\n")
    cache = Mount(target="/c", kind="cache", id="swapped")
    base = await building.base()
    await building.run("mkdir /c/dir; echo ours > /c/dir/file", base, mounts=(cache,))
    swapping = asyncio.create_task(
        building.run(
            f"echo swapping; while :; do mv -T /c/dir /c/kept; ln -s {host} /c/dir; rm /c/dir; mv -T /c/kept /c/dir; done",
            base,
            mounts=(cache,),
        )
    )
    await building.until_printed(b"swapping")
    part = Mount(target="/p", kind="cache", id="swapped", source="dir")
    outcomes = set()
    try:
        for _ in range(15):
            try:
                await building.run("echo seen: $(cat /p/file)", base, mounts=(part,))
                outcomes.add("mounted")
            except (DaemonError, StepFailed):
                outcomes.add("refused")
    finally:
        swapping.cancel()
        await asyncio.wait([swapping])
    assert b"host's" not in building.printed[1]
    assert outcomes <= {"mounted", "refused"}
    assert (host / "file").read_text() == "the host's\n"
