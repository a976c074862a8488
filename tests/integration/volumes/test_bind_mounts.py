"""Every option of a bind, in real containers."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon, wait_until
from support.volumes import create, run

pytestmark = needs_root


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A shared mount with another one below it, both in memory."""
    top = tmp_path / "top"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", top], check=True)
    try:
        subprocess.run(["mount", "--make-shared", top], check=True)
        (top / "sub").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", top / "sub"], check=True)
        (top / "sub" / "file").write_text("below\n")
        yield top
    finally:
        subprocess.run(["umount", "-R", top], check=True)


def bound(source: Path, **options: object) -> dict[str, object]:
    return {"Mounts": [{"Type": "bind", "Source": str(source), "Target": "/x", **options}]}


def touch(daemon: Daemon, path: str, host: dict[str, object]) -> int:
    return run(daemon, create(daemon, "busybox", "touch", path, host=host))[0]


def test_reading_only_reaches_what_is_mounted_below(daemon, shared):
    assert touch(daemon, "/x/sub/new", bound(shared)) == 0
    assert touch(daemon, "/x/sub/new", bound(shared, ReadOnly=True)) == 1
    assert touch(daemon, "/x/sub/new", {"Binds": [f"{shared}:/x:ro"]}) == 1
    assert touch(daemon, "/x/sub/new", bound(shared, ReadOnly=True, BindOptions={"ReadOnlyForceRecursive": True})) == 1
    only_top = bound(shared, ReadOnly=True, BindOptions={"ReadOnlyNonRecursive": True})
    assert touch(daemon, "/x/sub/newer", only_top) == 0
    assert touch(daemon, "/x/new", only_top) == 1
    assert run(daemon, create(daemon, "busybox", "ls", "/x/sub", host=bound(shared, BindOptions={"NonRecursive": True}))) == (
        0,
        "",
    )


@pytest.mark.parametrize(
    ("word", "inwards", "outwards"),
    [("rprivate", False, False), ("private", False, False), ("rslave", True, False), ("slave", True, False), ("rshared", True, True),
     ("shared", True, True)],
)  # fmt: skip
def test_propagation(daemon, shared, word, inwards, outwards):
    (shared / "in").mkdir()
    (shared / "out").mkdir()
    script = "mount -t tmpfs tmpfs /x/out && touch /x/out/seen && touch /x/ready; exec sleep 1000"
    ident = create(
        daemon, "busybox", "sh", "-c", script,
        host={"Binds": [f"{shared}:/x:{word}"], "CapAdd": ["SYS_ADMIN"], "SecurityOpt": ["apparmor=unconfined"]},
    )  # fmt: skip
    assert daemon.inspect(ident)["Mounts"][0]["Propagation"] == word
    status, answer = daemon.request("POST", f"/containers/{ident}/start")
    assert status == 204, answer
    wait_until((shared / "ready").exists, "the container has mounted")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared / "in"], check=True)
    (shared / "in" / "seen").touch()
    pid = daemon.inspect(ident)["State"]["Pid"]
    assert Path(f"/proc/{pid}/root/x/in/seen").exists() is inwards
    assert (shared / "out" / "seen").exists() is outwards
    daemon.request("DELETE", f"/containers/{ident}?force=1")


def test_propagation_that_the_source_cannot_have(daemon, tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        subprocess.run(["mount", "--make-private", tmp_path], check=True)
        for word, kind in (("shared", "shared"), ("rslave", "shared or slave")):
            ident = create(daemon, "busybox", "true", host={"Binds": [f"{tmp_path}:/x:{word}"]})
            status, answer = daemon.request("POST", f"/containers/{ident}/start")
            assert status >= 400
            assert f"path {tmp_path} is mounted on {tmp_path} but it is not a {kind} mount" in answer["message"]
            daemon.request("DELETE", f"/containers/{ident}")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_sources_of_other_kinds(daemon, tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        binds = [f"{tmp_path}/socket:/run/it.sock", "/dev/zero:/etc/zero:ro"]
        assert run(
            daemon, create(daemon, "busybox", "sh", "-c", "test -S /run/it.sock && test -e /etc/zero", host={"Binds": binds})
        ) == (0, "")
    (tmp_path / "file").write_text("here\n")
    (tmp_path / "link").symlink_to("file")
    assert run(daemon, create(daemon, "busybox", "cat", "/a/b/c", host={"Binds": [f"{tmp_path}/link:/a/b/c"]})) == (0, "here\n")


def test_a_missing_source_is_made_only_where_that_is_asked_for(daemon, tmp_path):
    missing = tmp_path / "missing" / "deep"
    message = create(daemon, "busybox", "true", status=400, host=bound(missing))
    assert message == f'invalid mount config for type "bind": bind source path does not exist: {missing}'
    assert touch(daemon, "/x/file", bound(missing, BindOptions={"CreateMountpoint": True})) == 0
    assert (missing / "file").exists()
    gone = tmp_path / "gone"
    gone.mkdir()
    ident = create(daemon, "busybox", "true", host=bound(gone))
    gone.rmdir()
    status, answer = daemon.request("POST", f"/containers/{ident}/start")
    assert status == 400
    assert "bind source path does not exist" in answer["message"]
    daemon.request("DELETE", f"/containers/{ident}")


def test_a_file_and_a_directory_do_not_go_together(daemon, tmp_path):
    (tmp_path / "file").touch()
    for bind, place in ((f"{tmp_path}/file:/etc", "/etc"), (f"{tmp_path}:/etc/passwd", "/etc/passwd")):
        ident = create(daemon, "busybox", "true", host={"Binds": [bind]})
        _, answer = daemon.request("POST", f"/containers/{ident}/start")
        assert f'to rootfs at "{place}"' in answer["message"]
        assert "Are you trying to mount a directory onto a file (or vice-versa)?" in answer["message"]
        daemon.request("DELETE", f"/containers/{ident}")
