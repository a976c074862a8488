import asyncio
import gzip
import io
import os
import stat
import subprocess
import tarfile

import pytest
from boxshipd.errors import Conflict, InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.images.service import ImageUse
from support.archives import SourceImage, chunks, digest, docker_archive, join, member, oci_archive, tar

BASE = tar(
    member("etc", tarfile.DIRTYPE, mode=0o750, uid=7),
    (member("etc/keep"), b"k"),
    (member("etc/gone"), b"g"),
    (member("gone"), b"g"),
)
TOP = tar((member("etc/new"), b"n"), member("etc/.wh.gone"), member(".wh.gone"), (member("top"), b"t"))


async def load(images, archive: bytes, **more) -> list[str]:
    return [message.stream async for message in images.load(chunks(archive), quiet=True, **more)]


async def save(images, *names: str) -> bytes:
    return join([chunk async for chunk in images.get(list(names))])


def run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


def names_in(path: str) -> set[str]:
    return set(os.listdir(path))


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
@pytest.mark.parametrize("form", [docker_archive, oci_archive])
async def test_loaded_layers_become_overlay_directories(images, form, compression):
    source = SourceImage([BASE, TOP], ["docker.io/library/two:latest"], compression, {"Cmd": ["x"], "Env": ["A=b"]})
    assert await load(images, form(source)) == ["Loaded image: two:latest\n"]
    image = await images.resolve("two")
    assert (image.id, image.config.cmd, image.config.env) == (source.id, ["x"], ["A=b"])
    top, base = image.layers
    assert names_in(base) == {"etc", "gone"}
    assert names_in(f"{base}/etc") == {"keep", "gone"}
    for whiteout in (f"{top}/gone", f"{top}/etc/gone"):
        status = os.lstat(whiteout)
        assert stat.S_ISCHR(status.st_mode)
        assert status.st_rdev == 0
    # The layer doesn't describe its directory: it is as in the layer below.
    assert (os.stat(f"{top}/etc").st_uid, stat.S_IMODE(os.stat(f"{top}/etc").st_mode)) == (7, 0o750)
    assert image.size == 5


@pytest.mark.parametrize("outer", ["gzip", "xz", "zstd", "bzip2"])
async def test_an_archive_may_be_compressed_as_a_whole(images, outer, tmp_path):
    path = tmp_path / "archive.tar"
    path.write_bytes(docker_archive(SourceImage([BASE], ["whole:1"])))
    if outer == "zstd":
        import zstandard

        data = zstandard.compress(path.read_bytes())
    else:
        data = run(outer, "-c", str(path))
    assert await load(images, data) == ["Loaded image: whole:1\n"]


async def test_everything_a_layer_can_have(images):
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
    layer = tar(
        member("./", tarfile.DIRTYPE, mode=0o711, mtime=5),
        member("d", tarfile.DIRTYPE, mode=0o1777, uid=1, gid=2, mtime=100),
        (member("d/f", mode=0o6755, uid=1000, gid=1001, pax_headers={"mtime": "1700000000.123456789"}), b"data"),
        member("d/hard", tarfile.LNKTYPE, linkname="./d/f"),
        member("d/soft", tarfile.SYMTYPE, linkname="/etc/passwd", uid=3, mtime=9),
        member("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("disk", tarfile.BLKTYPE, devmajor=8, devminor=0),
        member("pipe", tarfile.FIFOTYPE),
        (member("cap", uid=5, pax_headers={"SCHILY.xattr.security.capability": capability.decode("latin-1")}), b"c"),
        (member("attr", pax_headers={"SCHILY.xattr.user.k": "v", "SCHILY.xattr.trusted.overlay.redirect": "/etc"}), b"a"),
        (member("implied/deep/x"), b"i"),
    )
    await load(images, docker_archive(SourceImage([layer], ["all:1"])))
    root = (await images.resolve("all:1")).layers[0]
    assert (stat.S_IMODE(os.stat(root).st_mode), os.stat(root).st_mtime) == (0o711, 5)
    directory, file, soft = os.stat(f"{root}/d"), os.stat(f"{root}/d/f"), os.lstat(f"{root}/d/soft")
    assert (stat.S_IMODE(directory.st_mode), directory.st_uid, directory.st_gid, directory.st_mtime) == (0o1777, 1, 2, 100)
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid, file.st_mtime_ns) == (
        0o6755,
        1000,
        1001,
        1700000000_123456789,
    )
    assert os.stat(f"{root}/d/hard").st_ino == file.st_ino
    assert (os.readlink(f"{root}/d/soft"), soft.st_uid, soft.st_mtime) == ("/etc/passwd", 3, 9)
    assert os.stat(f"{root}/null").st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE(os.stat(f"{root}/null").st_mode) == 0o666
    assert stat.S_ISBLK(os.stat(f"{root}/disk").st_mode)
    assert stat.S_ISFIFO(os.stat(f"{root}/pipe").st_mode)
    assert os.getxattr(f"{root}/cap", "security.capability") == capability
    assert os.listxattr(f"{root}/attr") == ["user.k"]
    assert stat.S_IMODE(os.stat(f"{root}/implied/deep").st_mode) == 0o755


async def test_whiteouts_and_the_layer_s_own_files(images):
    base = tar(member("a", tarfile.DIRTYPE), (member("a/1"), b""), member("b", tarfile.DIRTYPE), member("c", tarfile.DIRTYPE))
    top = tar(
        (member("a/own"), b""), member("a/.wh..wh..opq"), member(".wh.b"), member("b", tarfile.DIRTYPE),
        member("c", tarfile.DIRTYPE), member(".wh.c"), member(".wh..wh.plnk"),
    )  # fmt: skip
    await load(images, docker_archive(SourceImage([base, top], ["w:1"])))
    root = (await images.resolve("w:1")).layers[0]
    assert {name: os.getxattr(f"{root}/{name}", "trusted.overlay.opaque") for name in "abc"} == dict.fromkeys("abc", b"y")
    assert names_in(root) == {"a", "b", "c"}
    assert names_in(f"{root}/a") == {"own"}


async def test_the_same_bytes_go_out_and_come_back(engine, images, tmp_path):
    source = SourceImage([BASE, TOP], ["docker.io/library/same:1"], "gzip")
    await load(images, oci_archive(source))
    await images.tag("same:1", "other/name", "2")
    first = await save(images, "same:1", "other/name:2")
    assert first == await save(images, "same:1", "other/name:2")
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        members = {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isfile()}
    for blob in (*source.blobs, source.config_data, source.manifest):
        assert members["blobs/sha256/" + digest(blob).partition(":")[2]] == blob
    await images.remove("same:1")
    await images.remove("other/name:2")
    assert engine.left() == []
    assert await load(images, first) == ["Loaded image: same:1\n", "Loaded image: other/name:2\n"]
    assert (await images.inspect("same:1")).descriptor.digest == digest(source.manifest)


async def test_several_images_share_what_they_have_in_common(engine, images):
    one, two = SourceImage([BASE], ["one:1"]), SourceImage([BASE, TOP], ["two:1"])
    await load(images, docker_archive(one, two))
    assert (await images.resolve("one:1")).layers == (await images.resolve("two:1")).layers[1:]
    rows = {row.repo_tags[0]: row for row in await images.list(shared_size=True)}
    assert (rows["one:1"].shared_size, rows["two:1"].shared_size, rows["two:1"].size) == (3, 3, 5)
    removed = await images.remove("two:1")
    assert [item.untagged or item.deleted for item in removed][:2] == ["two:1", two.id]
    assert len(removed) == 3
    assert os.path.exists((await images.resolve("one:1")).layers[0] + "/gone")
    await images.remove("one:1")
    assert engine.left() == []


async def test_a_name_moves_to_the_image_loaded_last(images):
    old, new = SourceImage([BASE], ["n:1"]), SourceImage([TOP], ["n:1"])
    await load(images, docker_archive(old))
    assert await load(images, docker_archive(new)) == [
        f"The image n:1 already exists, renaming the old one with ID {old.id} to empty string\n", "Loaded image: n:1\n"
    ]  # fmt: skip
    assert (await images.inspect(old.id)).repo_tags == []
    dangling = await images.list(filters=Filters({"dangling": ["true"]}))
    assert [row.id for row in dangling] == [old.id]
    pruned = await images.prune()
    assert old.id in [item.deleted for item in pruned.images_deleted]
    assert pruned.space_reclaimed >= len(BASE)


async def test_how_images_are_found(images):
    source = SourceImage([BASE], ["docker.io/library/f:1"])
    await load(images, oci_archive(source))
    hexadecimal = source.id.partition(":")[2]
    for text in (
        "f:1",
        "docker.io/f:1",
        source.id,
        hexadecimal,
        hexadecimal[:12],
        source.id[:20],
        f"f@{digest(source.manifest)}",
    ):
        assert (await images.resolve(text)).id == source.id
    for text, shown in (
        ("f", "f:latest"),
        ("x/y:1", "x/y:1"),
        ("0" * 64, f"sha256:{'0' * 64}"),
        ("deadbeef", "deadbeef:latest"),
    ):
        with pytest.raises(NotFound) as caught:
            await images.inspect(text)
        assert str(caught.value) == f"No such image: {shown}"
    with pytest.raises(InvalidParameter, match=r"^invalid reference format"):
        await images.inspect("No Name")


async def test_removal_by_docker_s_rules(engine, images):
    source = SourceImage([BASE], ["docker.io/library/r:1"])
    await load(images, oci_archive(source))
    short, container = source.id[7:19], "c" * 64
    engine.uses[source.id] = [ImageUse(container, "box", running=False)]
    with pytest.raises(Conflict) as caught:
        await images.remove("r:1")
    assert str(caught.value) == (
        f'conflict: unable to remove repository reference "r:1" (must force) - container {container[:12]} is using its '
        f"referenced image {short}"
    )
    with pytest.raises(
        Conflict, match=rf"unable to delete {short} \(must be forced\) - image is being used by stopped container"
    ):
        await images.remove(short)
    engine.uses[source.id] = [ImageUse(container, "box", running=True)]
    with pytest.raises(Conflict, match=rf"unable to delete {short} \(cannot be forced\) - image is being used by running"):
        await images.remove(short, force=True)
    engine.uses.clear()
    await images.tag("r:1", "s", "2")
    with pytest.raises(
        Conflict, match=rf"unable to delete {short} \(must be forced\) - image is referenced in multiple repositories"
    ):
        await images.remove(source.id)
    assert [item.untagged for item in await images.remove("s:2")] == ["s:2"]
    removed = await images.remove(short)
    assert [(item.untagged or None, item.deleted or None) for item in removed] == [
        ("r:1", None), (None, source.id), (None, digest(BASE))
    ]  # fmt: skip
    assert [action for _, action, _, _ in engine.events] == ["load", "tag", "untag", "untag", "delete"]


async def test_a_removed_image_lasts_as_long_as_its_containers(engine, images):
    source = SourceImage([BASE], ["docker.io/library/k:1"])
    await load(images, oci_archive(source))
    layer = (await images.resolve("k:1")).layers[0]
    engine.uses[source.id] = [ImageUse("c" * 64, "box", running=False)]
    assert [item.untagged for item in await images.remove("k:1", force=True)] == ["k:1"]
    assert [item.deleted for item in await images.remove(source.id, force=True)] == [source.id]
    with pytest.raises(NotFound):
        await images.resolve(source.id)
    assert os.path.exists(f"{layer}/gone")
    engine.uses.clear()
    await images.collect()
    assert engine.left() == []


async def test_an_image_can_t_go_while_a_container_is_made_of_it(engine, images):
    await load(images, docker_archive(SourceImage([BASE], ["h:1"])))
    image = await images.resolve("h:1")
    with images.holding(image.id), pytest.raises(Conflict, match="cannot be forced"):
        await images.remove(image.id, force=True)
    await images.remove("h:1")
    assert engine.left() == []


async def test_lists_and_histories(images):
    await load(
        images,
        docker_archive(SourceImage([BASE, TOP], ["docker.io/library/l:1", "ghcr.io/o/l:2"], config={"Labels": {"a": "b"}})),
    )
    await load(images, docker_archive(SourceImage([TOP], ["m:1"])))
    names = {
        filters: sorted(tag for row in await images.list(filters=Filters.parse(filters)) for tag in row.repo_tags)
        for filters in (
            '{"reference":["l"]}', '{"reference":["l:*"]}', '{"reference":["*/*/*"]}', '{"label":["a=b"]}', '{"label":["a=c"]}',
            '{"reference":["[a-m]:1"]}', '{"until":["1h"],"label":["a"]}', '{"since":["m:1"]}',
        )
    }  # fmt: skip
    assert list(names.values()) == [["l:1"], ["l:1"], ["ghcr.io/o/l:2"], ["ghcr.io/o/l:2", "l:1"], [], ["l:1", "m:1"],
                                    ["ghcr.io/o/l:2", "l:1"], []]  # fmt: skip
    with pytest.raises(InvalidParameter, match=r"^invalid filter 'nope'$"):
        await images.list(filters=Filters({"nope": ["x"]}))
    steps = await images.history("l:1")
    assert [(step.created_by, step.size, step.created) for step in steps] == [
        ("layer 1", 2, 1714979289),
        ("layer 0", 3, 1714979289),
    ]
    assert steps[0].tags == ["ghcr.io/o/l:2", "l:1"]
    assert steps[1].id == "<missing>"
    shown = await images.inspect("l:1")
    assert shown.root_fs.layers == [digest(BASE), digest(TOP)]
    assert shown.graph_driver.data["LowerDir"].endswith("/fs")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_import_makes_an_image_of_a_root_file_system(engine, images, pack):
    archive = pack(BASE)
    messages = [m async for m in images.import_(chunks(archive), "imp", "1", "why", ['CMD ["sh"]'], "linux/arm64")]
    image = await images.inspect("imp:1")
    assert [message.status for message in messages] == [image.id]
    assert (image.config.cmd, image.architecture, image.comment, image.size) == (["sh"], "arm64", "why", 3)
    assert image.root_fs.layers == [digest(BASE)]
    if pack is gzip.compress:
        assert os.path.exists(f"{engine.root}/content/blobs/{digest(archive).replace(':', '/')}")
    with pytest.raises(InvalidParameter, match="run is not a valid change command"):
        await anext(images.import_(chunks(archive), changes=["RUN x"]))


async def test_the_base_image_runs_a_shell(engine, images):
    first, second = await asyncio.gather(images.resolve("boxship/base"), images.resolve("docker.io/boxship/base:latest"))
    assert first == second
    root = first.layers[0]
    assert run("chroot", root, *first.config.cmd, "-c", "echo hello; ls /etc").startswith(b"hello\n")
    assert stat.S_IMODE(os.stat(f"{root}/tmp").st_mode) == 0o1777
    await images.remove("boxship/base")
    assert engine.left() == []
    assert (await images.resolve("boxship/base")).id == first.id


async def test_the_base_image_without_a_busybox(images, monkeypatch):
    from boxshipd.images import base

    monkeypatch.setattr(base, "_BUSYBOX", ())
    root = (await images.resolve("boxship/base")).layers[0]
    script = "echo hello | cat; ls / | wc -l; id -u"
    assert run("chroot", root, "/bin/sh", "-c", script).splitlines()[0::2] == [b"hello", b"0"]


async def test_the_loop_goes_on_while_an_image_is_loaded(images):
    layer = tar(*((member(f"d{n // 100}/f{n}"), b"x" * 200) for n in range(6000)))
    longest, running = 0.0, True
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        nonlocal longest
        while running:
            before = loop.time()
            await asyncio.sleep(0)
            longest = max(longest, loop.time() - before)

    watching = asyncio.ensure_future(watch())
    await load(images, docker_archive(SourceImage([layer], ["big:1"])))
    running = False
    await watching
    assert longest < 0.25


async def test_nobody_but_root_sees_into_the_data(engine, images):
    await load(images, docker_archive(SourceImage([BASE], ["p:1"])))
    for directory, _, _ in os.walk(engine.root):
        if directory.startswith(f"{engine.root}/") and "/fs" not in directory:
            assert stat.S_IMODE(os.stat(directory).st_mode) & 0o027 == 0 or directory.startswith(
                f"{engine.root}/content/blobs"
            ), directory
    assert stat.S_IMODE(os.stat(f"{engine.root}/content").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(f"{engine.root}/snapshots").st_mode) == 0o710


async def test_the_kernel_s_overlay_shows_the_image(images, tmp_path):
    opaque = tar(member("etc/", tarfile.DIRTYPE), member("etc/.wh..wh..opq"), (member("etc/only"), b""))
    await load(images, docker_archive(SourceImage([BASE, TOP, opaque], ["o:1"])))
    layers = (await images.resolve("o:1")).layers
    script = 'mount -t overlay overlay -o "lowerdir=$1" "$2" && cd "$2" && find . | sort && stat -c %u etc'
    shown = run("unshare", "--mount", "sh", "-c", script, "sh", ":".join(layers), str(tmp_path))
    assert shown.decode().split() == [".", "./etc", "./etc/only", "./top", "0"]
    shown = run("unshare", "--mount", "sh", "-c", script, "sh", ":".join(layers[1:]), str(tmp_path))
    assert shown.decode().split() == [".", "./etc", "./etc/keep", "./etc/new", "./top", "7"]
