"""Containers whose ids are others on the host, on files that have the container's ids on the disk."""

import os

import pytest
from boxrun.container import defaults
from boxrun.container.spec import IDMapping, Mount
from boxrun.linux.files import TMPFS_MAGIC, filesystem_magic

NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user")
UIDS = (IDMapping(inside=0, outside=200000, size=65536),)
GIDS = (IDMapping(inside=0, outside=300000, size=65536),)
MAPPED = {"uid_mappings": UIDS, "gid_mappings": GIDS}
KERNEL = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


@pytest.fixture(autouse=True)
def disk(tmp_path):
    """Before Linux 6.3 a tmpfs can't be mapped; the file systems that data roots are on can."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if filesystem_magic(fd) == TMPFS_MAGIC and KERNEL < (6, 3):
            pytest.skip("a tmpfs that this kernel can't map: say --basetemp=/var/somewhere")
    finally:
        os.close(fd)


def test_layers_and_what_is_written_keep_the_containers_ids_on_the_disk(box):
    (box.rootfs / "owned").write_text("owned")
    os.chown(box.rootfs / "owned", 1000, 1001)
    lines = box.shell(
        "id -u; stat -c '%u %g' / /bin/busybox /owned; touch /made /owned; chown 33:44 /made; stat -c '%u %g' /made",
        namespaces=NAMESPACES,
        root=MAPPED,
        **MAPPED,
    )
    assert lines == ["0", "0 0", "0 0", "1000 1001", "33 44"]
    made, copied = (box.directory / "upper" / name for name in ("made", "owned"))
    assert (made.stat().st_uid, made.stat().st_gid) == (33, 44)
    assert (copied.stat().st_uid, copied.stat().st_gid) == (1000, 1001)


def test_it_is_somebody_else_on_the_host(box):
    pid = box.start(box.spec("sleep", "1000", namespaces=NAMESPACES, root=MAPPED, **MAPPED))
    try:
        assert os.stat(f"/proc/{pid}/root/bin/busybox").st_uid == 200000
        with open(f"/proc/{pid}/status") as file:
            assert "Uid:\t200000\t200000" in file.read()
    finally:
        os.kill(pid, 9)
        box.wait()


@pytest.mark.parametrize("mapped", [True, False])
def test_a_bind_is_mapped_where_that_is_asked_for(box, mapped):
    volume = box.directory / "volume"
    volume.mkdir()
    (volume / "file").write_text("")
    mount = Mount(kind="bind", source=str(volume), target="/volume", **(MAPPED if mapped else {}))
    code, output = box.run(
        "sh",
        "-c",
        "stat -c %u /volume/file; touch /volume/made",
        namespaces=NAMESPACES,
        root=MAPPED,
        mounts=(*defaults.default_mounts(), mount),
        **MAPPED,
    )
    if mapped:
        assert (code, output) == (0, "0\n")
        assert (volume / "made").stat().st_uid == 0
    else:
        assert code == 1
        assert output.startswith("65534\n")


def test_one_that_nobody_lets_go_on_any_more_says_so(box):
    # Who was to plug the network in has died with its end of the pipe.
    dead = "import boxrun.container.spawn as spawn; spawn._let_go = lambda prepared, spawned, go_fd, plug: os.close(go_fd)"
    with pytest.raises(Exception, match="nobody was there any more to let the container go on"):
        box.run("true", namespaces=NAMESPACES, before=dead, root=MAPPED, **MAPPED)
