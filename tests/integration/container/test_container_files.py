"""What the program sees as its file system: root, /dev, /proc, /sys, cgroups, binds, tmpfs, masks."""

import os
import subprocess

import msgspec
import pytest
from boxrun.container import defaults
from boxrun.container.spec import Device, Mount


def mounts(box, **options):
    """Mount point to (type, options) as /proc/self/mounts has it; the last mount of a point counts."""
    found = {}
    for line in box.shell("cat /proc/self/mounts", **options):
        _, point, kind, flags, *_ = line.split(" ")
        found[point] = (kind, flags.split(","))
    return found


def test_root_is_the_overlay_and_nothing_else_is_left(box):
    found = mounts(box)
    assert found["/"][0] == "overlay"
    assert set(found) - {"/"} == {point for point in found if point.split("/")[1] in ("proc", "sys", "dev")}
    assert box.shell("cat /proc/self/mountinfo | grep -c ' / / '") == ["1"]


def test_the_host_never_has_the_overlay(box):
    pid = box.start(box.spec("sleep", "1000"))
    try:
        with open("/proc/self/mountinfo") as file:
            assert str(box.directory) not in file.read()
    finally:
        os.kill(pid, 9)
        box.wait()


def test_writes_go_to_the_upper_directory(box):
    box.shell("echo new > /file; rm /bin/wc")
    assert (box.directory / "upper/file").read_text() == "new\n"
    assert (box.rootfs / "bin/wc").is_symlink()


def test_many_layers_and_long_paths(box, tmp_path):
    layers = []
    for number in range(40):
        layer = tmp_path / ("long" * 50) / ("er" * 40) / str(number)
        layer.mkdir(parents=True)
        (layer / "which").write_text(f"{number}\n")
        layers.append(str(layer))
    spec = box.spec("sh", "-c", "cat /which")
    spec = msgspec.structs.replace(spec, root=msgspec.structs.replace(spec.root, lower=(*layers, *spec.root.lower)))
    box.start(spec)
    assert box.wait() == 0
    assert box.output.read_text() == "0\n"


def test_readonly_root(box):
    code, output = box.run(
        "sh",
        "-c",
        "touch /file; touch /dev/shm/file && touch /dev/file && pwd",
        root={"readonly": True},
        process={"cwd": "/made"},
    )
    assert (code, output.splitlines()) == (0, ["touch: /file: Read-only file system", "/made"])


def test_device_nodes(box):
    script = "cd /dev; for n in null zero full random urandom tty; do stat -c '%n %F %t:%T %a %u:%g' $n; done"
    assert box.shell(script) == [
        f"{name} character special file {numbers} 666 0:0"
        for name, numbers in (
            ("null", "1:3"),
            ("zero", "1:5"),
            ("full", "1:7"),
            ("random", "1:8"),
            ("urandom", "1:9"),
            ("tty", "5:0"),
        )
    ]
    links = box.shell("cd /dev; for n in fd stdin stdout stderr ptmx core; do ls -l $n | grep -o ' [a-z]* ->.*'; done")
    assert links == [
        " fd -> /proc/self/fd",
        " stdin -> /proc/self/fd/0",
        " stdout -> /proc/self/fd/1",
        " stderr -> /proc/self/fd/2",
        " ptmx -> pts/ptmx",
        " core -> /proc/kcore",
    ]
    assert box.shell("ls /dev") == [
        *(
            "core",
            "fd",
            "full",
            "mqueue",
            "null",
            "ptmx",
            "pts",
            "random",
            "shm",
            "stderr",
            "stdin",
            "stdout",
            "tty",
            "urandom",
            "zero",
        ),
    ]


def test_devices_are_added_with_their_permissions(box):
    devices = (Device(source="/dev/null", target="/dev/sub/own"), Device(source="/dev/zero", target="/opt/zero"))
    script = "stat -c '%F %t:%T %a' /dev/sub/own /opt/zero"
    mode = f"{os.stat('/dev/null').st_mode & 0o7777:o}"
    assert box.shell(script, devices=devices) == [
        f"character special file 1:3 {mode}",
        f"character special file 1:5 {mode}",
    ]


def test_what_is_no_device_is_refused(box, tmp_path):
    with pytest.raises(
        Exception, match=r'gathering device information while adding custom device "/nosuch": no such file'
    ) as failure:
        box.run("true", devices=(Device(source="/nosuch", target="/dev/x"),))
    assert (failure.value.kind, failure.value.exit_code) == ("SetupError", 128)
    with pytest.raises(Exception, match="not a device node"):
        box.run("true", devices=(Device(source=str(tmp_path), target="/dev/x"),))


def test_kernel_file_systems(box):
    found = mounts(box)
    assert found["/proc"][0] == "proc"
    assert {"nosuid", "nodev", "noexec", "rw"} <= set(found["/proc"][1])
    assert found["/sys"][0] == "sysfs"
    assert {"nosuid", "nodev", "noexec", "ro"} <= set(found["/sys"][1])
    assert found["/dev/pts"][0] == "devpts"
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= set(found["/dev/pts"][1])
    assert found["/dev/mqueue"][0] == "mqueue"
    assert "size=65536k" in found["/dev/shm"][1]
    assert box.shell("stat -c %a /dev/shm /dev/mqueue") == ["1777", "1777"]


def test_shm_size(box):
    assert "size=1024k" in mounts(box, mounts=defaults.default_mounts(shm_size=1 << 20))["/dev/shm"][1]


def test_cgroups_are_the_containers_own_and_read_only(box):
    found = {point: value for point, value in mounts(box).items() if point.startswith("/sys/fs/cgroup")}
    assert found
    assert all("ro" in flags for _, flags in found.values())
    assert {line.split(":", 2)[2] for line in box.shell("cat /proc/self/cgroup")} == {"/"}
    code, output = box.run("sh", "-c", "for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/x && exit 1; done; exit 0")
    assert code == 0, output


def test_cgroups_are_writable_for_privileged_ones(box):
    found = mounts(box, mounts=defaults.default_mounts(privileged=True), masked_paths=(), readonly_paths=())
    assert all("rw" in flags for point, (_, flags) in found.items() if point.startswith("/sys"))


def test_masked_paths(box):
    script = "for p in /proc/timer_list /proc/keys /proc/interrupts; do stat -c '%t:%T' $p; wc -c < $p; done; ls -A /proc/acpi /sys/firmware"
    assert box.shell(script) == ["1:3", "0"] * 3 + ["/proc/acpi:", "", "/sys/firmware:"]
    code, output = box.run("sh", "-c", "chmod 600 /proc/keys; touch /sys/firmware/x; exit 0")
    assert code == 0
    assert output.count("Read-only file system") == 2
    found = mounts(box)
    assert "ro" in found["/proc/keys"][1]
    assert "ro" in found["/sys/firmware"][1]


def test_masked_paths_with_a_wildcard(box):
    for name in ("cpu0", "cpu1", "other"):
        (box.rootfs / "tree" / name / "secret").mkdir(parents=True)
        (box.rootfs / "tree" / name / "secret/file").write_text("")
    script = "cd /tree; for d in *; do echo $d $(ls $d/secret); done"
    assert box.shell(script, masked_paths=("/tree/cpu*/secret", "/tree/*/nosuch", "/nosuch*/x")) == [
        "cpu0",
        "cpu1",
        "other file",
    ]


def test_readonly_paths(box):
    found = mounts(box)
    for path in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"):
        assert "ro" in found[path][1]
    code, output = box.run("sh", "-c", "echo 1 > /proc/sys/kernel/shmmni")
    assert code != 0
    assert "Read-only file system" in output


def test_nothing_is_masked_when_nothing_is_asked_for(box):
    assert box.shell("wc -l < /proc/timer_list", masked_paths=(), readonly_paths=()) != ["0"]


def test_binds_of_directories_and_files(box, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("host\n")
    extra = (
        Mount(kind="bind", source=str(source), target="/data"),
        Mount(kind="bind", source=str(source / "file"), target="/etc/new/file", readonly=True),
    )
    code, output = box.run("sh", "-c", "cat /etc/new/file; echo box > /data/made; echo x > /etc/new/file", extra_mounts=extra)
    assert (code, output.splitlines()[0]) == (1, "host")
    assert "Read-only file system" in output
    assert (source / "made").read_text() == "box\n"


def test_bind_of_a_missing_source(box):
    with pytest.raises(Exception, match="bind source path does not exist: /no/such") as failure:
        box.run("true", extra_mounts=[Mount(kind="bind", source="/no/such", target="/x")])
    assert failure.value.kind == "SetupError"


def test_bind_of_a_directory_onto_a_file(box, tmp_path):
    (box.rootfs / "file").write_text("")
    with pytest.raises(Exception, match="Are you trying to mount a directory onto a file"):
        box.run("true", extra_mounts=[Mount(kind="bind", source=str(tmp_path), target="/file")])


@pytest.fixture
def nested(tmp_path):
    """A directory with a tmpfs mounted in it."""
    below = tmp_path / "tree/below"
    below.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    (below / "file").write_text("")
    try:
        yield tmp_path / "tree"
    finally:
        subprocess.run(["umount", below], check=True)


def test_binds_take_mounts_below_along_only_when_recursive(box, nested):
    assert box.shell("ls /data/below", extra_mounts=[Mount(kind="bind", source=str(nested), target="/data")]) == ["file"]
    assert (
        box.shell("ls /data/below", extra_mounts=[Mount(kind="bind", source=str(nested), target="/data", recursive=False)])
        == []
    )


@pytest.mark.parametrize(("recursive", "flag"), [("if-possible", "ro"), ("required", "ro"), ("no", "rw")])
def test_recursively_readonly_binds(box, nested, recursive, flag):
    mount = Mount(kind="bind", source=str(nested), target="/data", readonly=True, recursive_readonly=recursive)
    found = mounts(box, extra_mounts=[mount])
    assert "ro" in found["/data"][1]
    assert flag in found["/data/below"][1]


def test_mounts_do_not_propagate_unless_asked_to(box, tmp_path):
    source = tmp_path / "shared"
    source.mkdir()
    subprocess.run(["mount", "--bind", source, source], check=True)
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        for propagation, visible in (("rprivate", False), ("rslave", True), ("rshared", True)):
            (source / "sub").mkdir(exist_ok=True)
            mount = Mount(kind="bind", source=str(source), target="/data", propagation=propagation)
            pid = box.start(box.spec("sleep", "1000", extra_mounts=[mount]))
            try:
                subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "sub"], check=True)
                try:
                    with open(f"/proc/{pid}/mountinfo") as file:
                        assert (" /data/sub " in file.read()) is visible
                finally:
                    subprocess.run(["umount", source / "sub"], check=True)
            finally:
                os.kill(pid, 9)
                box.wait()
    finally:
        subprocess.run(["umount", source], check=True)


def test_tmpfs(box):
    (box.rootfs / "cache").mkdir()
    os.chmod(box.rootfs / "cache", 0o1770)
    extra = [
        Mount(kind="tmpfs", target="/run", options=("nosuid", "noexec", "size=1m", "mode=1777")),
        Mount(kind="tmpfs", target="/cache"),
    ]
    found = mounts(box, extra_mounts=extra)
    assert {"nosuid", "noexec", "size=1024k"} <= set(found["/run"][1])
    assert box.shell("stat -c %a /run /cache", extra_mounts=extra) == ["1777", "1770"]


def test_tmpfs_with_an_unknown_option(box):
    with pytest.raises(Exception, match="tmpfs: Unknown parameter 'colour'"):
        box.run("true", extra_mounts=[Mount(kind="tmpfs", target="/run", options=("colour=red",))])


def test_targets_through_links_stay_inside(box, tmp_path):
    (box.rootfs / "run").mkdir()
    (box.rootfs / "var").mkdir()
    (box.rootfs / "var/run").symlink_to("/run")
    (tmp_path / "source").mkdir()
    found = mounts(box, extra_mounts=[Mount(kind="bind", source=str(tmp_path / "source"), target="/var/run/made")])
    assert "/run/made" in found


def test_nothing_can_be_mounted_on_the_root(box, tmp_path):
    with pytest.raises(Exception, match="can't be the root directory"):
        box.run("true", extra_mounts=[Mount(kind="bind", source=str(tmp_path), target="/a/..")])


def test_the_hosts_dev_can_be_bound(box):
    extra = [mount for mount in defaults.default_mounts(privileged=True) if not mount.target.startswith("/dev")]
    extra.append(Mount(kind="bind", source="/dev", target="/dev"))
    assert box.shell("[ -c /dev/null ] && echo yes", mounts=tuple(extra)) == ["yes"]
    assert os.path.exists("/dev/null")


def test_etc_passwd_that_is_mounted_counts(box, tmp_path):
    (box.rootfs / "etc").mkdir()
    (tmp_path / "passwd").write_text("bob:x:77:88::/:/bin/sh\n")
    mount = Mount(kind="bind", source=str(tmp_path / "passwd"), target="/etc/passwd")
    assert box.shell("id -u", process={"user": "bob"}, extra_mounts=[mount]) == ["77"]
