"""Neighbours that share a volume with a container and swap what is in it while that is being started."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from boxrun.container import defaults
from boxrun.container.spec import Device, Mount
from support import boxes

harness, box = boxes.harness, boxes.box

ROUNDS = 25
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[Callable[[], int]]:
    """Exchange what two names stand for, over and over; tells how often that was done."""
    stop = threading.Event()
    aside = one.with_name(f"{one.name}-aside")
    rounds = 0

    def swap() -> None:
        nonlocal rounds
        while not stop.is_set():
            # What holds the start up for a moment must not end the attack.
            with contextlib.suppress(OSError):
                os.rename(one, aside)
                os.rename(other, one)
                os.rename(aside, other)
                rounds += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield lambda: rounds
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def sentinel(tmp_path):
    """A directory of the host in which nothing may be made, changed or mounted on."""
    directory = tmp_path / "host"
    directory.mkdir()
    (directory / "file").write_text("host")

    def fingerprint():
        return sorted((str(path), path.lstat().st_mode, path.lstat().st_mtime_ns) for path in directory.rglob("*"))

    before = fingerprint()
    yield directory
    assert fingerprint() == before
    assert str(directory) not in Path("/proc/self/mountinfo").read_text()


def attempts(start: Callable[[], list[str]]) -> list[list[str]]:
    """What the containers said that were started at all: a start that fails is a defence as well."""
    said = []
    for _ in range(ROUNDS):
        with contextlib.suppress(boxes.NotStartedError):
            said.append(start())
    return said


def said_by(box, *args: str, **options) -> list[str]:
    return box.run(*args, **options)[1].replace("\r", "").splitlines()


def with_dev_of(volume: Path) -> tuple[Mount, ...]:
    """Docker's mounts with /dev from a volume that others share."""
    kept = [mount for mount in defaults.default_mounts() if not mount.target.startswith("/dev")]
    return (*kept, Mount(kind="bind", source=str(volume), target="/dev"))


def test_the_null_device_swapped_while_paths_are_masked(box):
    """CVE-2025-31133: masking by whatever /dev/null is at that moment would mount a link's target over /proc, writable."""
    before = CORE_PATTERN.read_text()
    volume = box.directory / "volume"
    volume.mkdir()
    os.mknod(volume / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (volume / "evil").symlink_to(CORE_PATTERN)
    script = "stat -c '%F %t:%T' /proc/timer_list; wc -c < /proc/timer_list; echo x > /proc/timer_list; true"
    with swapping(volume / "null", volume / "evil") as rounds:
        said = attempts(lambda: box.shell(script, mounts=with_dev_of(volume)))
        assert rounds() > ROUNDS
    assert said
    assert {tuple(lines[:2]) for lines in said} == {("character special file 1:3", "0")}
    assert CORE_PATTERN.read_text() == before


@pytest.mark.parametrize("name", ["console", "pts"])
def test_the_console_swapped_while_the_terminal_is_mounted(box, sentinel, name):
    """CVE-2025-52565: with a path in between, the terminal would be mounted on, or taken from, what a link leads to."""
    volume = box.directory / "volume"
    (volume / "pts").mkdir(parents=True)
    (volume / "console").write_text("")
    (volume / "evil").symlink_to(sentinel / "file" if name == "console" else sentinel)
    (volume / "ptmx").symlink_to("pts/ptmx")
    os.mknod(volume / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    devpts = next(mount for mount in defaults.default_mounts() if mount.kind == "devpts")
    mounts = (*with_dev_of(volume), devpts)
    script = "stat -c '%F %t' /proc/self/fd/0 -L; grep -E ' devpts ' /proc/self/mounts | cut -d ' ' -f 2"
    with swapping(volume / name, volume / "evil") as rounds:
        said = attempts(lambda: said_by(box, "sh", "-c", script, mounts=mounts, process={"terminal": True}))
        assert rounds() > ROUNDS
    assert said
    for lines in said:
        assert lines[0] == "character special file 88"
        assert set(lines[1:]) <= {"/dev/pts", "/dev/console", "/dev/console-aside", "/dev/evil", "/dev/pts-aside"}
    assert (sentinel / "file").read_text() == "host"


def test_a_target_swapped_for_procfs_while_it_is_mounted_on(box, sentinel):
    """CVE-2025-52881, CVE-2019-19921: what is covered in /proc would redirect the writes that configure a container."""
    before = CORE_PATTERN.read_text()
    volume = box.directory / "volume"
    (volume / "target/kernel").mkdir(parents=True)
    (volume / "evil").symlink_to("/proc/sys")
    extra = [
        Mount(kind="bind", source=str(volume), target="/volume"),
        Mount(kind="bind", source=str(sentinel), target="/volume/target/kernel"),
    ]
    script = "cat /proc/sys/kernel/domainname; ls /proc/sys/kernel | grep -c '^file$'; grep -c ' /proc/sys/kernel ' /proc/self/mounts"
    with swapping(volume / "target", volume / "evil") as rounds:
        said = attempts(
            lambda: said_by(box, "sh", "-c", script, extra_mounts=extra, sysctls={"kernel.domainname": "mine"}, masked_paths=())
        )
        assert rounds() > ROUNDS
    assert said
    assert {tuple(lines) for lines in said} == {("mine", "0", "0")}
    assert CORE_PATTERN.read_text() == before


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_targets_made_while_their_parents_are_swapped(box, sentinel, kind):
    """CVE-2024-45310: directories and files that mounts lack would be made in the host."""
    volume = box.directory / "volume"
    (volume / "target").mkdir(parents=True)
    (volume / "evil").symlink_to(sentinel)
    source = box.directory / "source"
    source.mkdir()
    (source / "f").write_text("f")
    numbers = iter(range(ROUNDS))
    shared = Mount(kind="bind", source=str(volume), target="/volume")

    def start() -> list[str]:
        target = f"/volume/target/made{next(numbers)}/deep/er"
        made = str(source / "f") if kind == "file" else str(source)
        extra = [shared, Mount(kind="bind", source=made, target=target)]
        return said_by(box, "cat", "/proc/self/mountinfo", extra_mounts=extra)

    with swapping(volume / "target", volume / "evil") as rounds:
        said = attempts(start)
        assert rounds() > ROUNDS
    assert said
    assert not any(str(sentinel) in line for lines in said for line in lines)


def test_a_device_made_while_its_directory_is_swapped(box, sentinel):
    """The same with device nodes, which in the host would be open to everybody."""
    volume = box.directory / "volume"
    (volume / "target").mkdir(parents=True)
    (volume / "evil").symlink_to(sentinel)
    shared = Mount(kind="bind", source=str(volume), target="/volume")
    device = Device(source="/dev/zero", target="/volume/target/node")
    with swapping(volume / "target", volume / "evil") as rounds:
        said = attempts(lambda: said_by(box, "echo", "started", extra_mounts=[shared], devices=(device,)))
        assert rounds() > ROUNDS
    assert said


BORROW = """
import os, sys
from boxrun.container import neighbours
from boxrun.container.spec import Mount
from boxrun.errors import SetupError
own = os.readlink("/proc/self/ns/mnt")
shared = Mount(kind="bind", source="/dev/shm", target="/dev/shm", container="donor")
try:
    neighbours.borrow([shared], {"ipc": os.pidfd_open(int(sys.argv[1]))})
except SetupError as error:
    print(error)
assert os.readlink("/proc/self/ns/mnt") == own
"""


NO_WAY_BACK = """
import json, os, sys
from boxrun.container import joining, neighbours
from boxrun.container.namespaces import Namespaces, around_clone
from boxrun.container.seccomp.compiler import compile_profile
from boxrun.container.seccomp.load import load_program
from boxrun.container.spec import Mount, Seccomp

donor = os.pidfd_open(int(sys.argv[1]))
os.dup2(donor, 200)
# The kernel lets nobody enter anything by another descriptor than the donor's.
refused = {
    "names": ["setns"], "action": "SCMP_ACT_ERRNO", "errnoRet": 12, "args": [{"index": 0, "value": 200, "op": "SCMP_CMP_LT"}]
}
profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [refused]}
load_program(compile_profile(Seccomp(mode="custom", profile=json.dumps(profile)), ()), False)
print("begun", flush=True)
try:
    if sys.argv[2] == "borrow":
        shared = Mount(kind="bind", source="/dev/shm", target="/dev/shm", container="donor")
        neighbours.borrow([shared], {"ipc": 200})
    else:
        with around_clone(Namespaces(0, frozenset(), frozenset(), (("net", 200),), (), b"")):
            pass
finally:
    print("went on with the container's files at", os.listdir("/"), flush=True)
"""


@pytest.mark.parametrize("step", ["borrow", "clone"])
def test_who_cannot_return_from_a_container_ends(box, step):
    """Whatever came next would be done in the container's namespaces, with what it has in the host's files' places."""
    donor = box.start(box.spec("sleep", "1000"))
    try:
        # A process of its own: only one without threads can step into another mount namespace.
        done = subprocess.run(
            [sys.executable, "-c", NO_WAY_BACK, str(donor), step],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
    finally:
        os.kill(donor, 9)
        box.wait()
    assert (done.stdout, done.returncode) == ("begun\n", 1)


@pytest.mark.parametrize(("evil", "reason"), [("link", "too many levels of symbolic links"), ("directory", "it is no tmpfs")])
def test_shared_memory_that_is_something_else_is_not_taken(box, evil, reason):
    """Whoever joins a container's ipc namespace gets the tmpfs of /dev/shm; the donor could have anything there."""
    if evil == "link":
        (box.rootfs / "dev").mkdir()
        (box.rootfs / "dev/shm").symlink_to("/proc/self/root")
    else:
        (box.rootfs / "dev/shm").mkdir(parents=True)
    kept = tuple(mount for mount in defaults.default_mounts() if not mount.target.startswith("/dev"))
    donor = box.start(box.spec("sleep", "1000", mounts=kept, masked_paths=()))
    try:
        # A process of its own: only one without threads can step into another mount namespace.
        said = subprocess.check_output(
            [sys.executable, "-c", BORROW, str(donor)], text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        )
        assert said == f"take /dev/shm of container donor: {reason}\n"
    finally:
        os.kill(donor, 9)
        box.wait()
