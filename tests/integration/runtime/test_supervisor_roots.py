"""Containers' roots as descriptors: of running ones, of others, and what happens when a start or a death comes between."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from boxrun.bus import BusError, Code
from boxrun.container.spec import IDMapping, Mount, Spec
from boxrun.supervisor.contract import RootRequest, Runtime, TreeRequest, UsageRequest
from support.hung import hung_file_system
from support.runtime import SupervisorProcess, children, command_line, eventually, processes


async def opened(supervisor: SupervisorProcess, spec: Spec, *mounts: Mount, below: bool = False) -> tuple[bool, list[int]]:
    request = RootRequest(id=spec.id, root=spec.root, mounts=mounts, below=below)
    reply, fds = await supervisor.bus.unary_with_fds(Runtime.root, request, timeout=30)
    return reply.running, fds


@contextmanager
def closing(fds: list[int]):
    try:
        yield fds[0]
    finally:
        for fd in fds:
            os.close(fd)


def read(root: int, path: str) -> str:
    with open(os.open(path, os.O_RDONLY, dir_fd=root), encoding="utf-8") as file:
        return file.read()


def holders(spec: Spec) -> list[int]:
    return [pid for pid in processes() if command_line(pid).startswith(b"boxrun-holder " + spec.id[:20].encode())]


THREADS = min(32, (os.cpu_count() or 1) + 4)
"""How many threads an event loop has."""


def waiting(spec: Spec) -> bool:
    """Whether a holder waits for a file system's server."""
    working = [worker for keeper in holders(spec) for worker in children(keeper)]
    return any(b"fuse" in Path(f"/proc/{pid}/wchan").read_bytes() for pid in working)


def stuck(process: int) -> int:
    """How many of a process's threads do."""
    return sum(b"fuse" in path.read_bytes() for path in Path(f"/proc/{process}/task").glob("*/wchan"))


def descriptors(process: int) -> int:
    """How many descriptors of processes and directories a process has; its sockets come and go with the spare shims."""
    found = 0
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += os.readlink(link).startswith(("anon_inode:[pidfd]", "pidfd:", "/"))
    return found


async def test_a_container_that_does_not_run(supervisor, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/f").write_text("of the bind")
    spec = supervisor.spec("true")
    running, fds = await opened(supervisor, spec, Mount(kind="bind", source=str(tmp_path / "data"), target="/mnt/data"))
    with closing(fds) as root:
        assert (running, len(fds)) == (False, 2)
        assert read(root, "mnt/data/f") == "of the bind"
        assert "root" in read(root, "etc/passwd")
        with open(os.open("made", os.O_WRONLY | os.O_CREAT, dir_fd=root), "w", encoding="utf-8") as file:
            file.write("from outside")
        assert holders(spec)
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    await eventually(lambda: not holders(spec), "the holder has ended with its lease")
    assert Path(spec.root.upper, "made").read_text() == "from outside"
    await supervisor.launch(spec)
    assert (await supervisor.exited(spec.id)).exit_code == 0


async def test_a_container_that_runs(supervisor):
    spec = supervisor.spec("sh", "-c", "echo inside > /dev/shm/f; echo own > /f; exec sleep 1000")
    await supervisor.launch(spec)
    written = Path(spec.root.upper, "f")
    await eventually(lambda: written.exists() and written.read_text() == "own\n", "it has written")
    running, fds = await opened(supervisor, spec)
    with closing(fds) as root:
        assert (running, len(fds)) == (True, 1)
        assert read(root, "dev/shm/f") == "inside\n"
        assert os.path.basename(os.readlink(f"/proc/self/fd/{root}")) == ""
    running, fds = await opened(supervisor, spec, below=True)
    with closing(fds) as root:
        assert (running, len(fds)) == (True, 1)
        assert read(root, "f") == "own\n"
        assert not os.listdir(os.open("proc", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root))
    await eventually(lambda: not holders(spec), "nobody holds what a process has")


async def test_an_ended_container_is_assembled_again(supervisor):
    spec = supervisor.spec("sh", "-c", "echo last > /f")
    await supervisor.launch(spec)
    await supervisor.exited(spec.id)
    running, fds = await opened(supervisor, spec)
    with closing(fds) as root:
        assert (running, read(root, "f")) == (False, "last\n")


async def test_a_start_waits_for_the_lease(supervisor):
    spec = supervisor.spec("true")
    _, fds = await opened(supervisor, spec)
    starting = asyncio.create_task(supervisor.launch(spec))
    done, _ = await asyncio.wait([starting], timeout=0.3)
    assert not done
    for fd in fds:
        os.close(fd)
    assert (await starting).pid
    await supervisor.exited(spec.id)


async def test_what_cannot_be_had(supervisor, tmp_path):
    spec = supervisor.spec("true")
    missing = Mount(kind="bind", source=str(tmp_path / "none"), target="/x")
    with pytest.raises(BusError, match="bind source path does not exist") as caught:
        await opened(supervisor, spec, missing)
    assert caught.value.code is Code.FAILED_PRECONDITION
    with pytest.raises(BusError, match="is not running"):
        await supervisor.bus.unary(Runtime.root, RootRequest(id="f" * 64), timeout=10)
    await eventually(lambda: not holders(spec), "no holder is left")


@pytest.mark.parametrize("victim", ["supervisor", "zygote", "holder"])
async def test_the_root_stays_whoever_dies(supervisor, victim):
    spec = supervisor.spec("true")
    _, fds = await opened(supervisor, spec)
    with closing(fds) as root:
        if victim == "supervisor":
            await supervisor.kill()
        else:
            for pid in holders(spec) if victim == "holder" else [supervisor.zygote()]:
                os.kill(pid, signal.SIGKILL)
                break
        assert "root" in read(root, "etc/passwd")
    await eventually(lambda: not holders(spec), "no holder is left")
    if victim == "supervisor":
        await supervisor.start()
    await supervisor.launch(spec)
    assert (await supervisor.exited(spec.id)).exit_code == 0


async def test_a_start_waits_for_a_root_whose_asker_has_gone(supervisor, tmp_path):
    """The daemon dies while the root is being assembled: its overlay is there already, and nobody waits for it."""
    spec = supervisor.spec("true")
    with hung_file_system(tmp_path / "hung") as hung:
        asking = asyncio.create_task(opened(supervisor, spec, Mount(kind="bind", source=str(hung), target="/mnt")))
        await eventually(lambda: waiting(spec), "it is being assembled")
        asking.cancel()
        await asyncio.wait([asking])
        starting = asyncio.create_task(supervisor.launch(spec))
        done, _ = await asyncio.wait([starting], timeout=0.3)
        assert not done
        assert holders(spec)
    assert (await starting).pid
    await supervisor.exited(spec.id)
    assert not holders(spec)


@pytest.mark.parametrize("state", ["held", "assembling"])
async def test_a_start_waits_for_a_root_that_an_earlier_supervisor_gave_away(supervisor, tmp_path, state):
    spec = supervisor.spec("true")
    with ExitStack() as stack:
        if state == "held":
            _, fds = await opened(supervisor, spec)
            stack.enter_context(closing(fds))
            await supervisor.kill()
        else:
            hung = stack.enter_context(hung_file_system(tmp_path / "hung"))
            asking = asyncio.create_task(opened(supervisor, spec, Mount(kind="bind", source=str(hung), target="/mnt")))
            await eventually(lambda: waiting(spec), "it is being assembled")
            await supervisor.kill()
            with pytest.raises(BusError):
                await asking
        await supervisor.start()
        starting = asyncio.create_task(supervisor.launch(spec))
        done, _ = await asyncio.wait([starting], timeout=0.3)
        assert not done
        assert holders(spec)
    assert (await starting).pid
    await supervisor.exited(spec.id)


async def test_askers_that_leave_cost_no_descriptors(supervisor, tmp_path):
    """With all threads taken by directories that don't answer, samples wait for one; then everybody leaves."""
    running = [supervisor.spec("sleep", "1000") for _ in range(2)]
    for spec in running:
        await supervisor.launch(spec)
    process = supervisor.process.pid
    usage = UsageRequest(ids=tuple(spec.id for spec in running))
    # The first one opens the groups' parents, which stay open.
    await supervisor.bus.unary(Runtime.usage, usage, timeout=30)
    before = descriptors(process)
    with hung_file_system(tmp_path / "hung") as hung:
        # Of different names: those who look for the same one wait for each other.
        views = [Mount(kind="overlay", target="/", lower=(f"{hung}{number}",)) for number in range(THREADS)]
        calls = [
            asyncio.create_task(supervisor.bus.unary_with_fds(Runtime.tree, TreeRequest(mount=view), timeout=30))
            for view in views
        ]
        await eventually(lambda: stuck(process) == THREADS, "all threads wait")
        calls += [asyncio.create_task(supervisor.bus.unary(Runtime.usage, usage, timeout=30)) for _ in range(10)]
        await eventually(lambda: descriptors(process) >= before + 20, "the samples have begun")
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
    reply = await supervisor.bus.unary(Runtime.usage, usage, timeout=30)
    assert len(reply.containers) == 2
    await eventually(lambda: descriptors(process) == before, "nothing is left open")
    # What was asked for in vain is had by the next one.
    _, fds = await supervisor.bus.unary_with_fds(
        Runtime.tree, TreeRequest(mount=Mount(kind="overlay", target="/", lower=(str(supervisor.root),))), timeout=10
    )
    with closing(fds) as tree:
        assert "root" in read(tree, "etc/passwd")


@pytest.mark.parametrize(
    ("mount", "what"),
    [
        (Mount(kind="filesystem", target="/", source="tmpfs", filesystem="tmpfs"), "a mount of the kind filesystem"),
        (
            Mount(
                kind="overlay",
                target="/",
                lower=("/",),
                uid_mappings=(IDMapping(inside=0, outside=100000, size=65536),),
                gid_mappings=(IDMapping(inside=0, outside=100000, size=65536),),
            ),
            "id mappings",
        ),
    ],
)
async def test_trees_that_are_for_containers_only(supervisor, mount, what):
    with pytest.raises(BusError, match=what) as caught:
        await supervisor.bus.unary(Runtime.tree, TreeRequest(mount=mount), timeout=10)
    assert caught.value.code is Code.INVALID_ARGUMENT
