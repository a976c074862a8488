"""Volumes, images and tmpfs in real containers."""

from __future__ import annotations

import json
import os
import tarfile
import threading
from pathlib import Path

import pytest
from conftest import needs_root
from support.archives import member
from support.daemon import Daemon, wait_until
from support.volumes import create, load_image, run, volume_names

pytestmark = needs_root


@pytest.fixture(scope="module")
def image(daemon: Daemon) -> str:
    """An image with a volume that has content of many kinds, and one that hasn't."""
    load_image(
        daemon,
        "volumes:1",
        [
            member("data", tarfile.DIRTYPE, mode=0o1750, uid=1000, gid=2000, mtime=1_000_000_000),
            (member("data/file", mode=0o4711, uid=1, gid=2, mtime=1_100_000_000), b"content"),
            member("data/link", tarfile.SYMTYPE, linkname="/etc/passwd"),
            member("data/again", tarfile.LNKTYPE, linkname="data/file"),
            member("data/below", tarfile.DIRTYPE, mode=0o700),
            (member("data/below/deep"), b"deep"),
            member("data/pipe", tarfile.FIFOTYPE, mode=0o600),
            (member("data/marked", pax_headers={"SCHILY.xattr.user.note": "kept"}), b""),
            member("empty", tarfile.DIRTYPE, mode=0o711, uid=33),
            member("to", tarfile.SYMTYPE, linkname="data"),
        ],
        ["/data", "/empty"],
    )
    return "volumes:1"


def mounted_here(*names: str) -> list[str]:
    """The mounts of this namespace that have one of ``names`` in their source or target; other tests have theirs meanwhile."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if any(name in line for name in names)]


def content(daemon: Daemon, name: str) -> Path:
    return Path(daemon.get(f"/volumes/{name}")["Mountpoint"])


def test_an_images_content_comes_with_the_volume(daemon, image):
    ident = create(daemon, image, "true", host={"Binds": ["copied:/data"]})
    place = content(daemon, "copied")
    assert sorted(os.listdir(place)) == ["again", "below", "file", "link", "marked", "pipe"]
    top, file = place.lstat(), (place / "file").lstat()
    assert (top.st_mode & 0o7777, top.st_uid, top.st_gid, top.st_mtime) == (0o1750, 1000, 2000, 1_000_000_000)
    assert (file.st_mode & 0o7777, file.st_uid, file.st_gid, file.st_mtime) == (0o4711, 1, 2, 1_100_000_000)
    assert (place / "again").lstat().st_ino == file.st_ino
    assert os.readlink(place / "link") == "/etc/passwd"
    assert (place / "below" / "deep").read_text() == "deep"
    assert os.getxattr(place / "marked", "user.note") == b"kept"
    mounts = {mount["Destination"]: mount for mount in daemon.inspect(ident)["Mounts"]}
    assert mounts["/data"] == {
        "Type": "volume",
        "Name": "copied",
        "Source": str(place),
        "Destination": "/data",
        "Driver": "local",
        "Mode": "z",
        "RW": True,
        "Propagation": "",
    }
    empty = mounts["/empty"]
    assert (len(empty["Name"]), empty["Mode"]) == (64, "")
    assert Path(empty["Source"]).lstat().st_uid == 33
    assert daemon.get(f"/volumes/{empty['Name']}")["Labels"] == {"com.docker.volume.anonymous": ""}
    daemon.request("DELETE", f"/containers/{ident}?v=1")
    assert "copied" in volume_names(daemon)
    assert empty["Name"] not in volume_names(daemon)
    assert daemon.request("DELETE", "/volumes/copied")[0] == 204
    assert not place.exists()


def test_what_is_in_a_volume_stays(daemon, image):
    status, _ = run(
        daemon, create(daemon, image, "sh", "-c", "rm -r /data/*; echo mine > /data/mine", host={"Binds": ["kept:/data"]})
    )
    assert status == 0
    assert run(daemon, create(daemon, image, "ls", "/data", host={"Binds": ["kept:/data"]})) == (0, "mine\n")
    daemon.request("DELETE", "/volumes/kept")


def test_an_empty_volume_that_exists_is_filled_too_unless_told_not_to(daemon, image):
    daemon.request("POST", "/volumes/create", {"Name": "later"})
    assert run(daemon, create(daemon, image, "ls", "/x", host={"Binds": ["later:/x"]})) == (0, "")
    assert run(daemon, create(daemon, image, "ls", "/data", host={"Binds": ["later:/data:nocopy"]})) == (0, "")
    assert run(daemon, create(daemon, image, "ls", "/data", host={"Binds": ["later:/data"]}))[1].startswith("again\n")
    daemon.request("DELETE", "/volumes/later")


def test_an_empty_volume_in_use_is_filled_under_its_users_eyes(daemon, image):
    user = create(daemon, "busybox", "sleep", "1000", host={"Binds": ["live:/seen"]})
    daemon.request("POST", f"/containers/{user}/start")
    pid = daemon.inspect(user)["State"]["Pid"]
    filler = create(daemon, image, "true", host={"Binds": ["live:/data"]})
    assert sorted(os.listdir(f"/proc/{pid}/root/seen"))[:2] == ["again", "below"]
    for ident in (user, filler):
        daemon.request("DELETE", f"/containers/{ident}?force=1&v=1")
    assert daemon.request("DELETE", "/volumes/live")[0] == 204


def test_ours_lie_inside_a_volume_on_etc(daemon):
    ident = create(daemon, "busybox", "sh", "-c", "cat /etc/hostname; grep -c localhost /etc/hosts; ls /etc", Hostname="inside",
                   host={"Binds": ["etc:/etc"]})  # fmt: skip
    assert run(daemon, ident) == (0, "inside\n2\ngroup\nhostname\nhosts\npasswd\nresolv.conf\n")
    daemon.request("DELETE", "/volumes/etc")


def test_a_file_where_a_volume_is_to_be(daemon):
    message = create(daemon, "busybox", "true", status=400, Volumes={"/bin/busybox": {}})
    assert message == "cannot mount volume over existing file, file exists /bin/busybox"


def test_subpaths(daemon):
    script = "mkdir -p /v/a/b; echo deep > /v/a/b/file; ln -s /a/b /v/link; ln -s ../../../../../../etc /v/out; mkdir /v/etc"
    assert run(daemon, create(daemon, "busybox", "sh", "-c", script, host={"Binds": ["parts:/v"]}))[0] == 0

    def part(subpath: str, *command: str) -> tuple[int, str]:
        mount = {"Type": "volume", "Source": "parts", "Target": "/m", "VolumeOptions": {"Subpath": subpath}}
        return run(daemon, create(daemon, "busybox", *command, host={"Mounts": [mount]}))

    assert part("a/b", "ls", "/m") == (0, "file\n")
    assert part("a/b/file", "cat", "/m") == (0, "deep\n")
    assert part("link", "ls", "/m") == (0, "file\n")
    assert part("out", "ls", "/m") == (0, "")
    mount = {"Type": "volume", "Source": "parts", "Target": "/m", "VolumeOptions": {"Subpath": "missing"}}
    ident = create(daemon, "busybox", "true", host={"Mounts": [mount]})
    status, answer = daemon.request("POST", f"/containers/{ident}/start")
    assert status >= 400
    assert "cannot access path" in answer["message"]
    daemon.request("DELETE", f"/containers/{ident}")
    daemon.request("DELETE", "/volumes/parts")


def test_options_of_the_local_driver(daemon, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    make = {"Name": "shared", "DriverOpts": {"type": "none", "o": "bind", "device": str(shared)}}
    assert daemon.request("POST", "/volumes/create", make)[0] == 201
    assert run(daemon, create(daemon, "busybox", "sh", "-c", "echo x > /s/file", host={"Binds": ["shared:/s"]}))[0] == 0
    assert (shared / "file").read_text() == "x\n"
    make = {"Name": "memory", "DriverOpts": {"type": "tmpfs", "o": "size=1m,uid=7,nosuid", "device": "tmpfs"}}
    assert daemon.request("POST", "/volumes/create", make)[0] == 201
    first = create(daemon, "busybox", "sh", "-c", "grep ' /m ' /proc/mounts; stat -c %u /m; exec sleep 1000",
                   host={"Binds": ["memory:/m"]})  # fmt: skip
    daemon.request("POST", f"/containers/{first}/start")
    shown = wait_until(
        lambda: (text := daemon.cli("docker", "logs", first).stdout.decode()).count("\n") == 2 and text, "it ran"
    )
    assert shown.startswith("tmpfs /m tmpfs rw,nosuid,relatime,size=1024k,uid=7")
    second = create(daemon, "busybox", "true", host={"Binds": ["memory:/m"]})
    status, answer = daemon.request("POST", f"/containers/{second}/start")
    assert status == 409
    assert "only one container at a time can use it" in answer["message"]
    assert not mounted_here(daemon.name, tmp_path.name)
    for ident in (first, second):
        daemon.request("DELETE", f"/containers/{ident}?force=1")
    for name in ("memory", "shared"):
        assert daemon.request("DELETE", f"/volumes/{name}")[0] == 204
    assert (shared / "file").exists()


def test_a_shared_directory_is_filled_and_never_removed(daemon, image, tmp_path):
    make = {"Name": "outside", "DriverOpts": {"type": "none", "o": "bind", "device": str(tmp_path)}}
    daemon.request("POST", "/volumes/create", make)
    ident = create(daemon, image, "ls", "/data", host={"Binds": ["outside:/data"]})
    assert "below" in os.listdir(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    assert run(daemon, ident)[0] == 0
    daemon.request("DELETE", "/volumes/outside")
    assert "below" in os.listdir(tmp_path)


def test_volumes_from_others(daemon, image, tmp_path):
    (tmp_path / "host").touch()
    first = create(daemon, image, "true", host={"Binds": [f"{tmp_path}:/bound", "given:/data"]})
    names = {mount["Destination"]: mount.get("Name") for mount in daemon.inspect(first)["Mounts"]}
    script = "ls /data/file /bound/host; echo x > /empty/x; touch /data/y"
    assert run(daemon, create(daemon, "busybox", "sh", "-c", script, host={"VolumesFrom": [first]})) == (
        0,
        "/bound/host\n/data/file\n",
    )
    assert (content(daemon, names["/empty"]) / "x").exists()
    readonly = create(daemon, "busybox", "touch", "/empty/z", host={"VolumesFrom": [f"{first}:ro"]})
    assert not any(mount["RW"] for mount in daemon.inspect(readonly)["Mounts"])
    assert run(daemon, readonly)[0] == 1
    # The one mount of its own goes before the others'.
    own = create(daemon, "busybox", "ls", "/data", host={"VolumesFrom": [first], "Binds": [f"{tmp_path}:/data"]})
    assert run(daemon, own) == (0, "host\n")
    heir = create(daemon, "busybox", "true", host={"VolumesFrom": [first]})
    daemon.request("DELETE", f"/containers/{first}?v=1")
    assert names["/empty"] in volume_names(daemon)
    daemon.request("DELETE", f"/containers/{heir}?v=1")
    assert names["/empty"] not in volume_names(daemon)
    daemon.request("DELETE", "/volumes/given")
    assert create(daemon, "busybox", "true", status=400, host={"VolumesFrom": ["nobody"]}) == "No such container: nobody"


def test_anonymous_volumes_go_with_a_container_that_removes_itself(daemon):
    before = set(volume_names(daemon))
    ident = create(daemon, "busybox", "true", host={"AutoRemove": True}, Volumes={"/x": {}})
    (made,) = set(volume_names(daemon)) - before
    daemon.request("POST", f"/containers/{ident}/start")
    wait_until(lambda: made not in volume_names(daemon), "the volume went too")


def test_volumes_in_use(daemon):
    ident = create(daemon, "busybox", "true", host={"Binds": ["busy:/busy-place"]})
    for query in ("", "?force=1"):
        status, answer = daemon.request("DELETE", f"/volumes/busy{query}")
        assert (status, answer["message"]) == (409, f"remove busy: volume is in use - [{ident}]")
    dangling = json.dumps({"dangling": ["true"]}, separators=(",", ":"))
    assert "busy" not in [v["Name"] for v in daemon.get(f"/volumes?filters={dangling}")["Volumes"]]
    shown = [c["Id"] for c in daemon.get('/containers/json?all=1&filters={"volume":["busy"]}')]
    assert shown == [c["Id"] for c in daemon.get('/containers/json?all=1&filters={"volume":["/busy-place"]}')] == [ident]
    daemon.request("DELETE", f"/containers/{ident}")
    assert daemon.request("DELETE", "/volumes/busy")[0] == 204


def test_events_of_a_volumes_life(daemon):
    follower = daemon.popen("docker", "events", "--filter", "type=volume", "--format", "{{json .}}", stdout=-1)
    try:
        # Until the follower is there, there is nothing to see.
        wait_until(lambda: daemon.get("/info")["NEventsListener"], "the follower is there")
        ident = create(daemon, "busybox", "true", host={"Binds": ["told:/x:ro"]})
        run(daemon, ident)
        daemon.request("DELETE", "/volumes/told")
        told = [json.loads(follower.stdout.readline()) for _ in range(4)]
    finally:
        follower.kill()
        follower.communicate()
    assert [(event["Action"], event["Actor"]["ID"]) for event in told] == [
        ("create", "told"),
        ("mount", "told"),
        ("unmount", "told"),
        ("destroy", "told"),
    ]
    assert told[1]["Actor"]["Attributes"] == {
        "container": ident,
        "destination": "/x",
        "driver": "local",
        "propagation": "",
        "read/write": "false",
    }
    assert told[2]["Actor"]["Attributes"] == {"container": ident, "driver": "local"}


def test_images_as_mounts(daemon, image):
    def mount(**options: object) -> dict[str, object]:
        return {"Type": "image", "Source": image, "Target": "/i", **options}

    ident = create(daemon, "busybox", "sh", "-c", "cat /i/to/below/deep; ls /i; echo x > /i/data/x", host={"Mounts": [mount()]})
    (point,) = daemon.inspect(ident)["Mounts"]
    assert (point["Type"], point["Name"], point["RW"]) == ("image", image, False)
    status, text = run(daemon, ident)
    assert status == 1
    assert text.startswith("deepbin\ndata\ndev\nempty\n")
    assert "Read-only file system" in text
    part = create(daemon, "busybox", "cat", "/i", host={"Mounts": [mount(ImageOptions={"Subpath": "to/below/deep"})]})
    assert run(daemon, part) == (0, "deep")
    missing = {"Type": "image", "Source": "nobodys", "Target": "/i"}
    assert "No such image: nobodys" in create(daemon, "busybox", "true", status=400, host={"Mounts": [missing]})


def test_an_image_that_is_mounted_stays(daemon):
    load_image(daemon, "mounted:1", [(member("only"), b"here")])
    ident = create(
        daemon, "busybox", "cat", "/i/only", host={"Mounts": [{"Type": "image", "Source": "mounted:1", "Target": "/i"}]}
    )
    status, answer = daemon.request("DELETE", "/images/mounted:1")
    assert status == 409, answer
    assert run(daemon, ident) == (0, "here")
    assert daemon.request("DELETE", "/images/mounted:1")[0] == 200


@pytest.mark.parametrize("path", ["/../../../../../../etc", "../../../../etc", "/up", "/absolute"])
def test_declared_volumes_never_read_the_host(daemon, path):
    load_image(
        daemon,
        "climbing:1",
        [
            member("up", tarfile.SYMTYPE, linkname="../../../../../../../etc"),
            member("absolute", tarfile.SYMTYPE, linkname="/etc"),
            (member("etc/only-in-the-image"), b""),
        ],
        [path],
    )
    ident = create(daemon, "climbing:1", "sh", "-c", "ls /etc")
    (point,) = daemon.inspect(ident)["Mounts"]
    assert sorted(os.listdir(point["Source"]))[:2] == ["group", "hostname"]
    assert "only-in-the-image" in os.listdir(point["Source"])
    assert not {"debian_version", "shadow", "fstab", "apt"} & set(os.listdir(point["Source"]))
    assert run(daemon, ident) == (0, "group\nhostname\nhosts\nonly-in-the-image\npasswd\nresolv.conf\n")
    daemon.request("DELETE", "/images/climbing:1?force=1")


def test_a_target_that_a_neighbour_keeps_replacing_never_leads_out(daemon, tmp_path):
    """Two containers share a volume; one swaps the other's mount target for a link to the host while it starts."""
    (tmp_path / "secret").write_text("host")
    ident = create(
        daemon, "busybox", "sh", "-c",
        "cd /v; while :; do mkdir t; rmdir t; ln -s /../../../../../../proc/1/root/tmp t; rm t; ln -s ../../../../etc t; rm t; done",
        host={"Binds": ["raced:/v"]},
    )  # fmt: skip
    daemon.request("POST", f"/containers/{ident}/start")
    outcomes = []

    def victim() -> None:
        for _ in range(15):
            name = create(daemon, "busybox", "cat", "/v/t/secret", host={"Binds": ["raced:/v", f"{tmp_path}:/v/t"]})
            status, answer = daemon.request("POST", f"/containers/{name}/start")
            outcomes.append((status, answer))
            daemon.request("POST", f"/containers/{name}/wait")
            daemon.request("DELETE", f"/containers/{name}?force=1")

    threads = [threading.Thread(target=victim) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 30
    assert not mounted_here(daemon.name, tmp_path.name)
    assert os.listdir(tmp_path) == ["secret"]
    assert {status for status, _ in outcomes} <= {204, 400, 500}
    daemon.request("DELETE", f"/containers/{ident}?force=1")
    daemon.request("DELETE", "/volumes/raced")
