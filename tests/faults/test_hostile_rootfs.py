"""Root file systems made by an attacker: nothing of the host is changed, read or run; the start is refused or harmless."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from boxrun.container import defaults
from boxrun.container.spec import Device, Mount
from support import boxes

harness, box = boxes.harness, boxes.box


@pytest.fixture
def sentinel(tmp_path):
    """A directory of the host that must stay as it is."""
    directory = tmp_path / "host"
    directory.mkdir()
    (directory / "file").write_text("host")

    def fingerprint():
        return [(str(path), path.lstat().st_mode, path.lstat().st_mtime_ns) for path in sorted(directory.rglob("*"))], os.stat(
            directory
        ).st_mtime_ns

    before = fingerprint()
    yield directory
    assert fingerprint() == before


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_kernel_file_systems_are_not_mounted_through_links(box, sentinel, name):
    (box.rootfs / name).symlink_to(sentinel)
    with pytest.raises(boxes.NotStartedError, match="must be mounted on ordinary directory"):
        box.run("true")


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_kernel_file_systems_are_not_mounted_through_relative_links(box, name):
    (box.rootfs / name).symlink_to("../../../tmp")
    with pytest.raises(boxes.NotStartedError, match="must be mounted on ordinary directory"):
        box.run("true")


def test_proc_that_is_a_file(box):
    (box.rootfs / "proc").write_text("")
    with pytest.raises(boxes.NotStartedError, match="must be mounted on ordinary directory"):
        box.run("true")


@pytest.mark.parametrize("target", ["/proc", "/proc/self", "/proc/sys", "/proc/../proc/1", "/proc/self/attr"])
def test_volumes_over_proc_are_refused(box, sentinel, target):
    with pytest.raises(
        boxes.NotStartedError, match=r"must be mounted on ordinary directory|cannot be mounted because it is inside /proc"
    ):
        box.run("true", extra_mounts=[Mount(kind="bind", source=str(sentinel), target=target)])
    with pytest.raises(
        boxes.NotStartedError, match=r"must be mounted on ordinary directory|cannot be mounted because it is inside /proc"
    ):
        box.run("true", extra_mounts=[Mount(kind="tmpfs", target=target)])


@pytest.mark.parametrize("link", ["/proc/self/attr", "/proc", "../proc/sys"])
def test_volumes_do_not_reach_proc_through_a_link(box, sentinel, link):
    (box.rootfs / "data").symlink_to(link)
    with pytest.raises(boxes.NotStartedError, match="inside /proc"):
        box.run("true", extra_mounts=[Mount(kind="bind", source=str(sentinel), target="/data")])


def test_files_of_proc_that_programs_provide_may_be_bound(box, tmp_path):
    (tmp_path / "meminfo").write_text("mine\n")
    mount = Mount(kind="bind", source=str(tmp_path / "meminfo"), target="/proc/meminfo")
    assert box.shell("cat /proc/meminfo", extra_mounts=[mount]) == ["mine"]


def test_volume_targets_that_lead_out_stay_in(box, sentinel):
    (box.rootfs / "absolute").symlink_to(sentinel)
    (box.rootfs / "relative").symlink_to("../../../../../../../../.." + str(sentinel))
    (sentinel.parent / "source").mkdir()
    for name in ("absolute", "relative"):
        mount = Mount(kind="bind", source=str(sentinel.parent / "source"), target=f"/{name}/made")
        # The link points to nothing inside the root, so there is no directory to make the target in.
        with pytest.raises(boxes.NotStartedError):
            box.run("true", extra_mounts=[mount])
    assert not (sentinel / "made").exists()


def test_magic_links_are_not_followed(box, sentinel):
    mount = Mount(kind="bind", source=str(sentinel), target="/link/x")
    (box.rootfs / "link").symlink_to("/proc/self/root")
    with pytest.raises(boxes.NotStartedError, match="too many levels of symbolic links"):
        box.run("true", extra_mounts=[mount])


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_false_null_device_is_not_what_masks(box, kind):
    """With /dev from a volume, /dev/null there may be anything (CVE-2025-31133)."""
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    volume = box.directory / "volume"
    volume.mkdir()
    if kind == "link":
        (volume / "null").symlink_to("/proc/sys/kernel/core_pattern")
    else:
        (volume / "null").write_text("attacker")
    kept = [mount for mount in defaults.default_mounts() if not mount.target.startswith("/dev")]
    mounts = (*kept, Mount(kind="bind", source=str(volume), target="/dev"))
    lines = box.shell(
        "stat -c '%F %t:%T' /proc/timer_list; wc -c < /proc/timer_list; grep /proc/timer_list /proc/self/mounts", mounts=mounts
    )
    assert lines[:2] == ["character special file 1:3", "0"]
    assert "ro" in lines[2].split()[3].split(",")
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_masked_paths_that_are_links_mask_what_they_lead_to_inside(box, sentinel):
    (box.rootfs / "secret").symlink_to(sentinel)
    assert box.shell("echo started", masked_paths=("/secret", "/secret/file")) == ["started"]
    assert (sentinel / "file").read_text() == "host"


def test_devices_do_not_reach_through_links(box, sentinel):
    (box.rootfs / "opt").symlink_to(sentinel)
    with pytest.raises(boxes.NotStartedError):
        box.run("true", devices=(Device(source="/dev/null", target="/opt/null"),))


@pytest.mark.parametrize("number", [*range(3, 40), 63, 255])
def test_no_working_directory_leads_out_by_a_descriptor(box, number):
    """CVE-2024-21626: WORKDIR /proc/self/fd/N, where N is a directory of the host."""
    before = "import os; [os.set_inheritable(os.open('/', os.O_PATH), True) for _ in range(20)]"
    with pytest.raises(boxes.NotStartedError, match=r"chdir to cwd|outside of container") as failure:
        box.run("true", process={"cwd": f"/proc/self/fd/{number}"}, before=before)
    assert failure.value.step == "cwd"


def test_a_link_as_working_directory_stays_inside(box, sentinel):
    (box.rootfs / "work").symlink_to(sentinel)
    with pytest.raises(boxes.NotStartedError, match="chdir to cwd"):
        box.run("true", process={"cwd": "/work"})


def test_the_images_python_is_not_run(box):
    """Modules that the interpreter might look for after pivot_root, at every place it might look."""
    places = {Path(sys.prefix), Path(sys.base_prefix), *(Path(entry) for entry in sys.path if entry)}
    libraries = {place / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" for place in places} | places
    for library in libraries:
        target = box.rootfs / str(library).lstrip("/")
        (target / "encodings").mkdir(parents=True, exist_ok=True)
        for name in (
            "encodings/__init__",
            "encodings/idna",
            "encodings/latin_1",
            "traceback",
            "linecache",
            "tokenize",
            "pwd",
            "grp",
            "ctypes",
        ):
            path = target / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("open('/executed', 'w').close()\n")
    for arguments, options in (
        (("true",), {}),
        (("nosuch",), {}),
        (("true",), {"process": {"user": "nobody"}}),
        (("true",), {"init": True}),
    ):
        try:
            box.run(*arguments, **options)
        except boxes.NotStartedError:
            pass
        assert not (box.directory / "upper/executed").exists()


def test_no_import_is_needed_after_the_clone(box):
    before = "import sys; sys.path.clear(); sys.meta_path.clear(); sys.path_hooks.clear(); sys.path_importer_cache.clear()"
    assert box.run("sh", "-c", "exit 3", before=before)[0] == 3
    assert box.run("sh", "-c", "exit 3", before=before, init=True)[0] == 3
    assert box.run("sh", "-c", "exit 3", before=before, process={"terminal": True})[0] == 3
    for arguments in (("nosuch",), ("/etc",), ()):
        with pytest.raises(boxes.NotStartedError) as failure:
            box.run(*arguments, before=before)
        assert failure.value.step == "exec"
    with pytest.raises(boxes.NotStartedError, match="unable to find user"):
        box.run("true", before=before, process={"user": "nobody"})
    with pytest.raises(boxes.NotStartedError, match="sysctl"):
        box.run("true", before=before, sysctls={"net.nosuch": "1"})


@pytest.mark.parametrize(
    "passwd",
    [
        b"\0" * 100_000,
        b"evil:x:" + b"9" * 100_000 + b":0::/:\n",
        b"evil:x:0x0:0::/:\nevil:x:-1:0::/:\nevil:x:4294967296:0::/:\nevil:x: 0:0::/:\nevil:x:\xd9\xa0:0::/:\n",
        b"evil",
        b"evil:x:0\n" * 1000,
        b"\xff\xfeevil\n",
    ],
)
def test_senseless_passwd_files(box, passwd):
    (box.rootfs / "etc").mkdir()
    (box.rootfs / "etc/passwd").write_bytes(passwd)
    with pytest.raises(boxes.NotStartedError, match="unable to find user evil: no matching entries in passwd file"):
        box.run("true", process={"user": "evil"})
    assert box.run("true", process={"user": "1"})[0] == 0


def test_a_huge_passwd_file(box):
    (box.rootfs / "etc").mkdir()
    with open(box.rootfs / "etc/passwd", "wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(boxes.NotStartedError, match="more than the 8388608 allowed"):
        box.run("true", process={"user": "evil"})


def test_a_passwd_file_that_would_block(box):
    (box.rootfs / "etc").mkdir()
    os.mkfifo(box.rootfs / "etc/passwd")
    with pytest.raises(boxes.NotStartedError, match="/etc/passwd: not a regular file"):
        box.run("true", process={"user": "evil"})


def test_a_passwd_file_that_is_a_link_to_the_hosts(box):
    (box.rootfs / "etc").mkdir()
    (box.rootfs / "etc/passwd").symlink_to("../../../../../../../../../etc/passwd")
    with pytest.raises(boxes.NotStartedError, match=r"/etc/passwd|unable to find user"):
        box.run("true", process={"user": "daemon"})


def test_the_process_cannot_be_looked_into_before_its_program(box):
    """The child and, with --init, process 1 stay non-dumpable: nobody inside reads their memory, descriptors or executable."""
    script = "for f in exe cwd root mem environ fd/0; do ls -l /proc/1/$f > /dev/null 2>&1 && cat /proc/1/$f > /dev/null 2>&1 && echo $f; done; exit 0"
    code, output = box.run("sh", "-c", script, init=True, process={"user": "0"})
    assert (code, output) == (0, "")


def test_the_interpreter_cannot_be_overwritten_through_proc(box):
    interpreter = Path(sys.executable).resolve()
    before = hashlib.sha256(interpreter.read_bytes()).hexdigest()
    box.run("sh", "-c", "echo x >> /proc/1/exe; echo x > /proc/1/exe; exit 0", init=True)
    assert hashlib.sha256(interpreter.read_bytes()).hexdigest() == before
    (box.rootfs / "self").symlink_to("/proc/self/exe")
    try:
        box.run("/self")
        box.run("/proc/self/exe")
    except boxes.NotStartedError:
        pass
    assert hashlib.sha256(interpreter.read_bytes()).hexdigest() == before


def test_targets_swapped_while_containers_start(box, sentinel):
    """CVE-2021-30465: a neighbour that shares a volume swaps a mount's target for a link while it is being mounted."""
    volume = box.directory / "volume"
    (volume / "target/deep/er").mkdir(parents=True)
    (volume / "link").symlink_to(sentinel)
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            try:
                os.rename(volume / "target", volume / "aside")
                os.rename(volume / "link", volume / "target")
                os.rename(volume / "target", volume / "link")
                os.rename(volume / "aside", volume / "target")
            except OSError:
                pass

    thread = threading.Thread(target=swap)
    thread.start()
    extra = [
        Mount(kind="bind", source=str(volume), target="/volume"),
        Mount(kind="tmpfs", target="/volume/target/deep/er"),
    ]
    started = 0
    try:
        for _ in range(60):
            try:
                code, output = box.run("cat", "/proc/self/mountinfo", extra_mounts=extra)
            except boxes.NotStartedError:
                continue
            started += 1
            assert code == 0
            assert str(sentinel) not in output
    finally:
        stop.set()
        thread.join()
    assert started
    assert not (sentinel / "deep").exists()
    with open("/proc/self/mountinfo") as file:
        assert str(sentinel) not in file.read()


def test_nothing_stays_behind(box):
    def state():
        mounts = subprocess.run(["cat", f"/proc/{box._harness.pid}/mountinfo"], capture_output=True, check=True).stdout
        return mounts, sorted(os.listdir(f"/proc/{box._harness.pid}/fd"))

    before = state()
    for arguments, options in ((("true",), {}), (("nosuch",), {}), (("true",), {"process": {"terminal": True}})):
        try:
            box.run(*arguments, **options)
        except boxes.NotStartedError:
            pass
    assert state() == before


def test_a_failed_start_leaves_no_descriptor(box):
    box.run("true")
    first = box.fds
    for options in (
        {"devices": (Device(source="/no", target="/dev/no"),)},
        {"extra_mounts": [Mount(kind="bind", source="/no", target="/no")]},
    ):
        with pytest.raises(boxes.NotStartedError):
            box.run("true", **options)
    box.run("true")
    assert box.fds == first
