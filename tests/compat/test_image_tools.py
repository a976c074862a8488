"""skopeo and umoci, which others made: they read what we save, and we load what they write."""

import json
import os
import shutil
import subprocess
import tarfile

import pytest
from boxshipd.images.service import Images
from boxshipd.state.store import Store
from support.archives import SourceImage, chunks, digest, docker_archive, member, oci_archive, tar

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="unpacks images"),
    pytest.mark.skipif(not (shutil.which("skopeo") and shutil.which("umoci")), reason="needs skopeo and umoci"),
]

LOWER = tar(member("etc", tarfile.DIRTYPE), (member("etc/a", uid=7, mode=0o4755), b"a" * 3000), (member("gone"), b"x"))
UPPER = tar(
    (member("b"), b"bb"),
    member("hard", tarfile.LNKTYPE, linkname="b"),
    member("s", tarfile.SYMTYPE, linkname="/etc"),
    member(".wh.gone"),
)
CONFIG = {"Cmd": ["sh", "-c", "x"], "Env": ["A=1"], "WorkingDir": "/w", "Labels": {"k": "v"}}


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
async def images(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    with Store.open(str(root / "state.db")) as store:
        images = await Images.open(str(root), store, publish=lambda *_: None, uses=lambda _: ())
        yield images
        images.close()


async def load(images: Images, path) -> list[str]:
    return [message.stream async for message in images.load(chunks(path.read_bytes()), quiet=True)]


async def save(images: Images, path, *names: str):
    with open(path, "wb") as file:
        async for chunk in images.get(list(names)):
            file.write(chunk)
    return path


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
async def test_skopeo_reads_what_is_saved_either_way(images, tmp_path, compression):
    source = SourceImage([LOWER, UPPER], ["docker.io/library/tool:1"], compression, CONFIG)
    (tmp_path / "in.tar").write_bytes(oci_archive(source))
    await load(images, tmp_path / "in.tar")
    saved = await save(images, tmp_path / "out.tar", "tool:1")
    assert json.loads(run("skopeo", "inspect", "--raw", f"oci-archive:{saved}")) == json.loads(source.manifest)
    assert run("skopeo", "inspect", "--config", "--raw", f"docker-archive:{saved}:tool:1") == source.config_data.decode()
    copied = tmp_path / "copied.tar"
    run("skopeo", "copy", f"docker-archive:{saved}:tool:1", f"docker-archive:{copied}:again:1")
    assert await load(images, copied) == ["Loaded image: again:1\n"]
    assert (await images.inspect("again:1")).root_fs.layers == [digest(LOWER), digest(UPPER)]


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
async def test_what_skopeo_writes_is_loaded(images, tmp_path, transport):
    source = SourceImage([LOWER, UPPER], ["x:1"], "gzip", CONFIG)
    (tmp_path / "in.tar").write_bytes(docker_archive(source))
    run("skopeo", "copy", f"docker-archive:{tmp_path}/in.tar", f"{transport}:{tmp_path}/out.tar:localhost/x:2")
    assert await load(images, tmp_path / "out.tar") == ["Loaded image: localhost/x:2\n"]
    image = await images.resolve("localhost/x:2")
    assert (image.config.cmd, image.config.env, image.config.working_dir) == (["sh", "-c", "x"], ["A=1"], "/w")
    assert os.stat(f"{image.layers[1]}/etc/a").st_mode & 0o7777 == 0o4755


async def test_skopeo_reads_and_writes_all_platforms_of_a_name(images, tmp_path):
    sources = [
        SourceImage([LOWER, tar((member(name), b"x"))], ["multi:1"], "gzip", CONFIG, name)
        for name in ("amd64", "arm64", "s390x")
    ]
    (tmp_path / "in.tar").write_bytes(oci_archive(*sources, nested=True))
    await load(images, tmp_path / "in.tar")
    saved = await save(images, tmp_path / "out.tar", "multi:1")
    index = json.loads(run("skopeo", "inspect", "--raw", f"oci-archive:{saved}"))
    assert [entry["digest"] for entry in index["manifests"]] == [digest(source.manifest) for source in sources]
    for source in sources:
        shown = run("skopeo", "inspect", "--override-arch", source.architecture, "--config", "--raw", f"oci-archive:{saved}")
        assert shown == source.config_data.decode()
    copied = tmp_path / "copied"
    run("skopeo", "copy", "--all", f"oci-archive:{saved}", f"oci:{copied}:again")
    run("tar", "-c", "-f", str(tmp_path / "again.tar"), "-C", str(copied), ".")
    await images.remove("multi:1")
    (message,) = {*await load(images, tmp_path / "again.tar")} & {f"Loaded image ID: {sources[0].id}\n"}
    assert (await images.inspect(message.split()[-1])).architecture == "amd64"
    assert len(await images.list(True)) == 3


async def test_umoci_unpacks_what_is_saved_to_the_same_files(images, tmp_path):
    (tmp_path / "in.tar").write_bytes(docker_archive(SourceImage([LOWER, UPPER], ["u:1"], "gzip", CONFIG)))
    await load(images, tmp_path / "in.tar")
    saved = await save(images, tmp_path / "out.tar", "u:1")
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    run("tar", "-x", "-f", str(saved), "--one-top-level=" + str(layout))
    assert run("umoci", "list", "--layout", str(layout)) == "1\n"
    run("umoci", "unpack", "--image", f"{layout}:1", str(bundle))
    root = bundle / "rootfs"
    assert sorted(os.listdir(root)) == ["b", "etc", "hard", "s"]
    assert (root / "b").stat().st_ino == (root / "hard").stat().st_ino
    assert (root / "etc/a").stat().st_uid == 7


async def test_what_umoci_makes_is_loaded(images, tmp_path):
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    run("umoci", "init", "--layout", str(layout))
    run("umoci", "new", "--image", f"{layout}:made")
    run("umoci", "unpack", "--image", f"{layout}:made", str(bundle))
    (bundle / "rootfs/dir").mkdir()
    (bundle / "rootfs/dir/file").write_text("made by umoci")
    run("umoci", "repack", "--image", f"{layout}:made", str(bundle))
    shutil.rmtree(bundle)
    run("umoci", "unpack", "--image", f"{layout}:made", str(bundle))
    shutil.rmtree(bundle / "rootfs/dir")
    run("umoci", "repack", "--image", f"{layout}:made", str(bundle))
    run("umoci", "config", "--image", f"{layout}:made", "--config.cmd", "sh")
    run("tar", "-c", "-z", "-f", str(tmp_path / "in.tar.gz"), "-C", str(layout), ".")
    (message,) = await load(images, tmp_path / "in.tar.gz")
    assert message.startswith("Loaded image ID: sha256:")
    image = await images.resolve(message.split()[-1])
    assert image.config.cmd == ["sh"]
    with open(f"{image.layers[-1]}/dir/file") as file:
        assert file.read() == "made by umoci"
    assert os.lstat(f"{image.layers[0]}/dir").st_rdev == 0
