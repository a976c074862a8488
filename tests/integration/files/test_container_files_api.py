"""Archives in and out of real containers, over the API."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import time
from pathlib import Path

import pytest
from conftest import needs_root
from support.archives import COMPRESSIONS, files, member, tar
from support.archiving import Connection, call, content, get, head, members, put
from support.daemon import Daemon, wait_until

pytestmark = needs_root


def made(daemon: Daemon, *flags: str, command: str = "exec sleep 1000", start: bool = True) -> str:
    id_ = (
        daemon.cli("docker", "create", "--network", "none", "--stop-signal", "KILL", *flags, "busybox", "sh", "-c", command)
        .stdout.decode()
        .strip()
    )
    if start:
        daemon.cli("docker", "start", id_)
    return id_


@pytest.fixture(params=["running", "stopped"])
def container(daemon: Daemon, request: pytest.FixtureRequest, tmp_path: Path):
    (tmp_path / "bind").mkdir()
    (tmp_path / "readonly").mkdir()
    flags = ("-v", f"{tmp_path}/bind:/bind", "-v", f"{tmp_path}/readonly:/ro:ro", "-v", "/anonymous", "--tmpfs", "/ram")
    id_ = made(daemon, *flags, start=request.param == "running")
    yield id_
    daemon.cli("docker", "rm", "-fv", id_)


def test_in_and_out_again(daemon, container):
    status, message = put(daemon, container, "/tmp", files(**{"a": b"content", "sub/b": b"below"}))
    assert (status, message) == (200, "")
    status, archive = get(daemon, container, "/tmp")
    assert status == 200
    assert content(archive, "tmp/sub/b") == b"below"
    assert head(daemon, container, "/tmp/a")["size"] == 7
    assert get(daemon, container, "/tmp/none")[0] == 404
    assert head(daemon, container, "/tmp/none") == 404


def test_binds_and_volumes_are_what_is_copied_to(daemon, container, tmp_path):
    assert put(daemon, container, "/bind", files(f=b"into the bind"))[0] == 200
    assert (tmp_path / "bind/f").read_bytes() == b"into the bind"
    (tmp_path / "bind/g").write_text("from the host")
    assert content(get(daemon, container, "/bind/g")[1], "g") == b"from the host"
    assert put(daemon, container, "/anonymous", files(v=b"volume"))[0] == 200
    daemon.cli("docker", "start", container)
    assert daemon.cli("docker", "exec", container, "cat", "/anonymous/v").stdout == b"volume"


def test_a_read_only_mount_is_refused_by_its_name(daemon, container, tmp_path):
    assert put(daemon, container, "/ro", files(f=b"x")) == (403, "mounted volume is marked read-only")
    assert not os.listdir(tmp_path / "readonly")


def test_a_read_only_root_takes_only_what_goes_into_volumes(daemon):
    for start in (True, False):
        id_ = made(daemon, "--read-only", "-v", "/data", start=start)
        assert put(daemon, id_, "/tmp", files(f=b"x")) == (403, "container rootfs is marked read-only")
        assert put(daemon, id_, "/data", files(f=b"x"))[0] == 200
        daemon.cli("docker", "rm", "-fv", id_)


def test_a_running_containers_tmpfs_is_seen(daemon):
    id_ = made(daemon, "--tmpfs", "/ram", command="echo volatile > /ram/f; exec sleep 1000")
    wait_until(lambda: get(daemon, id_, "/ram/f")[0] == 200, "the file is there")
    assert content(get(daemon, id_, "/ram/f")[1], "f") == b"volatile\n"
    assert put(daemon, id_, "/ram", files(g=b"into it"))[0] == 200
    assert daemon.cli("docker", "exec", id_, "cat", "/ram/g").stdout == b"into it"
    daemon.cli("docker", "rm", "-f", id_)


def test_the_kernels_file_systems_are_not_files(daemon):
    id_ = made(daemon)
    found = members(get(daemon, id_, "/")[1])
    assert "/proc" in found
    assert not any(name.startswith(("/proc/", "/sys/")) for name in found)
    assert found["/bin/busybox"].size > 100_000
    assert get(daemon, id_, "/proc/1/root/etc/passwd")[0] == 404
    daemon.cli("docker", "rm", "-f", id_)


@pytest.mark.parametrize("compression", ["", "gzip", "zstd", "xz", "bzip2"])
def test_any_compression_without_running_anything(daemon, container, compression):
    import bz2
    import lzma

    pack = {**COMPRESSIONS, "xz": lzma.compress, "bzip2": bz2.compress}[compression]
    assert put(daemon, container, "/tmp", pack(files(f=b"packed")))[0] == 200
    assert content(get(daemon, container, "/tmp/f")[1], "f") == b"packed"


def test_metadata_survives(daemon, container):
    directory = member("d", tarfile.DIRTYPE, mode=0o2750, uid=7, gid=8, mtime=1_000_000)
    file = member("d/f", mode=0o4711, uid=12, gid=13, mtime=1_234_567, pax_headers={"SCHILY.xattr.user.note": "kept"})
    link = member("d/l", tarfile.SYMTYPE, linkname="/etc/passwd", uid=5)
    hard = member("d/h", tarfile.LNKTYPE, linkname="d/f")
    pipe = member("d/p", tarfile.FIFOTYPE, mode=0o600)
    null = member("d/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    assert put(daemon, container, "/tmp", tar(directory, (file, b"x"), link, hard, pipe, null)) == (200, "")
    found = members(get(daemon, container, "/tmp/d")[1])
    told = {name: (i.type, i.mode, i.uid, i.gid, i.linkname) for name, i in found.items()}
    assert told["d"] == (tarfile.DIRTYPE, 0o2750, 7, 8, "")
    assert told["d/f"] == (tarfile.REGTYPE, 0o4711, 12, 13, "")
    assert told["d/h"][::4] == (tarfile.LNKTYPE, "d/f")
    assert told["d/l"][::4] == (tarfile.SYMTYPE, "/etc/passwd")
    assert told["d/p"][0] == tarfile.FIFOTYPE
    assert (found["d/null"].devmajor, found["d/null"].devminor) == (1, 3)
    assert found["d/f"].mtime == 1_234_567
    assert found["d"].mtime == 1_000_000
    assert found["d/f"].pax_headers["SCHILY.xattr.user.note"] == "kept"


def test_whiteouts_are_ordinary_names(daemon, container):
    assert put(daemon, container, "/tmp", files(**{".wh.x": b"plain"}))[0] == 200
    assert content(get(daemon, container, "/tmp/.wh.x")[1], ".wh.x") == b"plain"


def test_owners_by_request(daemon):
    id_ = made(daemon, "--user", "box", start=False)
    archive = tar((member("f", uid=5, gid=6), b"x"))
    put(daemon, id_, "/tmp", archive, copyUIDGID="1")
    assert members(get(daemon, id_, "/tmp/f")[1])["f"].uid == 1000
    put(daemon, id_, "/tmp", archive)
    assert members(get(daemon, id_, "/tmp/f")[1])["f"].uid == 5
    daemon.cli("docker", "rm", id_)


def test_files_and_directories_in_each_others_place(daemon, container):
    directory, file = tar(member("x", tarfile.DIRTYPE)), files(x=b"file")
    assert put(daemon, container, "/tmp", directory)[0] == 200
    status, message = put(daemon, container, "/tmp", file, noOverwriteDirNonDir="1")
    assert (status, message) == (400, 'cannot overwrite directory "/tmp/x" with non-directory "/tmp"')
    assert put(daemon, container, "/tmp", file)[0] == 200
    status, message = put(daemon, container, "/tmp", directory, noOverwriteDirNonDir="true")
    assert (status, message) == (400, 'cannot overwrite non-directory "/tmp/x" with directory "/tmp"')
    assert put(daemon, container, "/tmp", directory)[0] == 200


def test_refusals(daemon, container):
    assert put(daemon, container, "/none", files(f=b"")) == (404, f"Could not find the file /none in container {container}")
    assert put(daemon, container, "/etc/passwd", files(f=b"")) == (400, "extraction point is not a directory")
    assert put(daemon, container, "/tmp", b"no archive at all" * 100)[0] == 400
    assert put(daemon, container, "/tmp", files(f=b"x" * 5000)[:2000])[0] == 400
    assert get(daemon, container, "/tmp/f")[0] == 404
    for method in ("GET", "HEAD", "PUT"):
        status, body, _ = call(daemon, method, f"/containers/{container}/archive", {}, b"")
        assert status == 400
        assert method == "HEAD" or json.loads(body)["message"] == "bad parameter: 'path' cannot be empty"
        assert call(daemon, method, "/containers/none/archive", {"path": "/"}, b"")[0] == 404


def test_links_in_the_container_lead_inside_it(daemon, container):
    links = tar(member("run", tarfile.DIRTYPE), member("varrun", tarfile.SYMTYPE, linkname="/tmp/run"))
    assert put(daemon, container, "/tmp", links)[0] == 200
    assert put(daemon, container, "/tmp/varrun", files(pid=b"1"))[0] == 200
    assert content(get(daemon, container, "/tmp/run/pid")[1], "pid") == b"1"
    assert put(daemon, container, "/tmp", files(**{"varrun/more": b"2"}))[0] == 200
    assert content(get(daemon, container, "/tmp/run/more")[1], "more") == b"2"


def test_a_mounted_file_is_written_to_where_it_is(daemon, container):
    assert put(daemon, container, "/etc", files(hosts=b"1.2.3.4 there\n"))[0] == 200
    assert content(get(daemon, container, "/etc/hosts")[1], "hosts") == b"1.2.3.4 there\n"
    # It is still what was mounted there that is written to.
    directory = Path(daemon.inspect(container)["HostsPath"])
    assert directory.read_bytes() == b"1.2.3.4 there\n"
    assert not [name for name in members(get(daemon, container, "/etc")[1]) if ".boxship-" in name]


def test_holes_stay_holes(daemon, container, tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"in the middle")
    daemon.cli("boxship", "cp", str(tmp_path / "sparse"), f"{container}:/tmp/s")
    daemon.cli("boxship", "cp", f"{container}:/tmp/s", str(tmp_path / "back"))
    status = (tmp_path / "back").stat()
    assert (status.st_size, status.st_blocks < 10_000) == (1 << 30, True)
    with open(tmp_path / "back", "rb") as file:
        file.seek(1 << 29)
        assert file.read(13) == b"in the middle"
    upper = daemon.inspect(container)["GraphDriver"]["Data"]["UpperDir"]
    assert os.stat(f"{upper}/tmp/s").st_blocks < 10_000


def test_an_export_has_no_mounts(daemon, container):
    put(daemon, container, "/bind", files(f=b"x"))
    put(daemon, container, "/tmp", files(own=b"mine"))
    status, archive, headers = call(daemon, "GET", f"/containers/{container}/export")
    found = members(archive)
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert {"bin/busybox", "tmp/own", "bind", "proc", "etc/hosts"} <= set(found)
    assert found["etc/hosts"].size == 0
    assert not any(name.startswith(("bind/", "proc/", "sys/", "dev/")) for name in found)


def test_changes_and_sizes(daemon):
    id_ = made(daemon, command="echo 12345 > /new; rm /etc/group; rm -r /home; mkdir /home; touch /tmp/t; exec sleep 1000")
    wait_until(lambda: get(daemon, id_, "/tmp/t")[0] == 200, "the last file is there")
    changes = {change["Path"]: change["Kind"] for change in daemon.get(f"/containers/{id_}/changes")}
    assert changes == {"/etc": 0, "/etc/group": 2, "/home": 0, "/new": 1, "/tmp": 0, "/tmp/t": 1}
    assert daemon.get(f"/containers/{id_}/json?size=1")["SizeRw"] >= 6
    untouched = made(daemon, start=False)
    assert daemon.get(f"/containers/{untouched}/changes") is None
    daemon.cli("docker", "rm", "-f", id_, untouched)


def test_events(daemon):
    id_ = made(daemon, start=False)
    put(daemon, id_, "/tmp", files(f=b"x"))
    get(daemon, id_, "/tmp/f")
    call(daemon, "GET", f"/containers/{id_}/export")
    image = json.loads(call(daemon, "POST", "/commit", {"container": id_, "comment": "why", "repo": "seen", "tag": "1"})[1])[
        "Id"
    ]
    query = {"since": "1", "until": f"{time.time():.9f}", "filters": json.dumps({"container": [id_]})}
    events = [json.loads(line) for line in call(daemon, "GET", "/events", query)[1].splitlines()]
    told = {event["Action"]: event["Actor"]["Attributes"] for event in events}
    assert {"extract-to-dir", "archive-path", "export", "commit"} <= set(told)
    assert told["commit"]["imageID"] == image
    assert told["commit"]["imageRef"] == "seen:1"
    assert told["commit"]["comment"] == "why"
    daemon.cli("docker", "rm", id_)
    daemon.cli("docker", "rmi", "seen:1")


def test_a_commit(daemon):
    id_ = made(daemon, "--label", "of=container", command="echo kept > /kept; rm /etc/group; exec sleep 1000")
    wait_until(lambda: get(daemon, id_, "/kept")[0] == 200, "the file is there")
    changes = ["CMD cat /kept", "ENV A=1 B=2", "LABEL x=y", "EXPOSE 80", "USER box", "WORKDIR /tmp", "VOLUME /v"]
    flags = [word for change in changes for word in ("-c", change)]
    out = daemon.cli("boxship", "commit", *flags, "-a", "me", "-m", "why", id_, "made:1")
    image = daemon.get("/images/made:1/json")
    assert out.stdout.decode().strip() == image["Id"]
    config = image["Config"]
    assert (image["Author"], image["Comment"], config["User"], config["WorkingDir"]) == ("me", "why", "box", "/tmp")
    assert config["Cmd"] == ["/bin/sh", "-c", "cat /kept"]
    assert {"A=1", "B=2"} <= set(config["Env"])
    assert config["Labels"] == {"of": "container", "x": "y"}
    assert (list(config["ExposedPorts"]), list(config["Volumes"])) == (["80/tcp"], ["/v"])
    assert len(image["RootFS"]["Layers"]) == 2
    history = daemon.get("/images/made:1/history")
    assert history[0]["Comment"] == "why"
    assert history[0]["CreatedBy"].startswith("sh -c echo kept")
    assert daemon.cli("docker", "run", "--rm", "--network", "none", "made:1").stdout == b"kept\n"
    gone = daemon.cli("docker", "run", "--rm", "--network", "none", "-u", "0", "made:1", "ls", "/etc/group", code=1)
    assert b"No such file" in gone.stderr
    assert daemon.inspect(id_)["State"]["Status"] == "running"
    # The same files make the same layer.
    again = json.loads(call(daemon, "POST", "/commit", {"container": id_, "pause": "0"})[1])["Id"]
    assert daemon.get(f"/images/{again}/json")["RootFS"] == image["RootFS"]
    daemon.cli("docker", "rm", "-f", id_)
    daemon.cli("docker", "rmi", "made:1", again)


def test_a_commit_of_nothing_adds_no_layer(daemon):
    id_ = made(daemon, start=False)
    image = json.loads(call(daemon, "POST", "/commit", {"container": id_})[1])["Id"]
    assert len(daemon.get(f"/images/{image}/json")["RootFS"]["Layers"]) == 1
    assert daemon.get(f"/images/{image}/history")[0]["Size"] == 0
    daemon.cli("docker", "rm", id_)
    daemon.cli("docker", "rmi", image)


def test_a_commit_of_a_container_whose_image_has_no_name_any_more(daemon):
    daemon.cli("docker", "tag", "busybox", "passing:1")
    first = made(daemon, start=False)
    put(daemon, first, "/tmp", files(f=b"1"))
    image = json.loads(call(daemon, "POST", "/commit", {"container": first, "repo": "base"})[1])["Id"]
    second = daemon.cli("docker", "create", "--network", "none", "base", "true").stdout.decode().strip()
    daemon.cli("docker", "rmi", "-f", "base")
    put(daemon, second, "/tmp", files(g=b"2"))
    child = json.loads(call(daemon, "POST", "/commit", {"container": second})[1])["Id"]
    assert child != image
    assert len(daemon.get(f"/images/{child}/json")["RootFS"]["Layers"]) == 3
    daemon.cli("docker", "rm", first, second)
    daemon.cli("docker", "rmi", child, "passing:1")


def test_bad_commits(daemon):
    id_ = made(daemon, start=False)
    for query, status in (
        ({"container": "none"}, 404),
        ({"container": id_, "changes": "RUN rm -rf /"}, 400),
        ({"container": id_, "repo": "UPPER"}, 400),
    ):
        assert call(daemon, "POST", "/commit", query)[0] == status
    daemon.cli("docker", "rm", id_)


def test_a_start_waits_for_a_copy_and_a_removal_does_not(daemon):
    id_ = made(daemon, start=False)
    sent, go_on = threading.Event(), threading.Event()

    def slowly():
        archive = files(big=b"x" * 300_000)
        yield archive[:200_000]
        sent.set()
        assert go_on.wait(30)
        yield archive[200_000:]

    results: list[tuple[int, str]] = []
    copying = threading.Thread(target=lambda: results.append(put(daemon, id_, "/tmp", slowly())))
    copying.start()
    assert sent.wait(10)
    starting = threading.Thread(target=lambda: daemon.cli("docker", "start", id_))
    starting.start()
    starting.join(0.3)
    assert starting.is_alive()
    go_on.set()
    copying.join()
    starting.join()
    assert results == [(200, "")]
    assert daemon.cli("docker", "exec", id_, "wc", "-c", "/tmp/big").stdout.split()[0] == b"300000"
    # A client that sends nothing more is no reason to keep a container.
    sent.clear(), go_on.clear()
    copying = threading.Thread(target=lambda: results.append(put(daemon, id_, "/tmp", slowly())))
    copying.start()
    assert sent.wait(10)
    daemon.cli("docker", "rm", "-f", id_)
    go_on.set()
    copying.join()
    assert results[1][0] in (409, 404)


def test_copies_of_a_stopped_container_take_turns(daemon):
    id_ = made(daemon, start=False)
    sent, go_on = threading.Event(), threading.Event()

    def slowly():
        archive = files(big=b"x" * 300_000)
        yield archive[:200_000]
        sent.set()
        assert go_on.wait(30)
        yield archive[200_000:]

    results: list[tuple[int, object]] = []
    first = threading.Thread(target=lambda: results.append(put(daemon, id_, "/tmp", slowly())))
    first.start()
    assert sent.wait(10)
    # Of the second overlay on the same upper directory, what the first has written might not be seen.
    second = threading.Thread(target=lambda: results.append(get(daemon, id_, "/tmp/big")))
    second.start()
    second.join(0.3)
    assert second.is_alive()
    go_on.set()
    first.join()
    second.join()
    assert results[0] == (200, "")
    assert results[1][0] == 200
    assert len(content(results[1][1], "big")) == 300_000
    daemon.cli("docker", "rm", "-f", id_)


def test_a_client_that_stops_reading_holds_nothing_up(daemon):
    id_ = made(daemon, start=False)
    put(daemon, id_, "/tmp", files(big=os.urandom(8 << 20)))
    connection = Connection(str(daemon.socket))
    connection.request("GET", f"/containers/{id_}/archive?path=/tmp/big")
    answer = connection.getresponse()
    assert answer.read(10)
    daemon.cli("docker", "rm", id_)
    connection.close()
    assert call(daemon, "GET", f"/containers/{id_}/archive", {"path": "/"})[0] == 404


def test_memory_stays_bounded(daemon):
    id_ = made(daemon, start=False)
    info = member("zeros")
    info.size = 400 << 20

    def stream():
        yield info.tobuf()
        for _ in range(400):
            yield bytes(1 << 20)
        yield bytes(1024)

    def peak() -> int:
        text = Path(f"/proc/{daemon.process.pid}/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0])

    Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")
    before = peak()
    assert put(daemon, id_, "/tmp", stream())[0] == 200
    connection = Connection(str(daemon.socket))
    connection.request("GET", f"/containers/{id_}/archive?path=/tmp/zeros")
    answer = connection.getresponse()
    total = 0
    while piece := answer.read(1 << 20):
        total += len(piece)
    connection.close()
    assert total == (400 << 20) + 3 * 512
    assert peak() - before < 40_000
    daemon.cli("docker", "rm", id_)


def test_reading_archives_is_for_tar(daemon):
    id_ = made(daemon, start=False)
    with tarfile.open(fileobj=io.BytesIO(get(daemon, id_, "/etc/.")[1])) as archive:
        assert archive.getnames()[0] == "."
    daemon.cli("docker", "rm", id_)
