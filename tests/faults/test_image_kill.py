"""kill -9 at many moments of a load: an image is there whole or not at all, and nothing is left over."""

import os
import random
import signal
import subprocess
import sys

import pytest
from boxshipd.images.service import Images
from boxshipd.state.store import Store
from support.archives import SourceImage, digest, files, oci_archive

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacks images")

LOADER = """
import asyncio, sys
from boxshipd.images.service import Images
from boxshipd.state.store import Store

async def chunks():
    with open(sys.argv[2], "rb") as file:
        while data := file.read(20_000):
            print("read", flush=True)
            sys.stdin.readline()
            yield data

async def main():
    store = Store.open(sys.argv[1] + "/state.db")
    images = await Images.open(sys.argv[1], store, publish=lambda *_: None, uses=lambda _: ())
    async for message in images.load(chunks()):
        print("told" if "Loaded" in str(message) else "step", flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""
NOISE = random.Random(1).randbytes(90_000)
SOURCE = SourceImage([files(a=NOISE), files(b=NOISE[::-1])], ["docker.io/library/kill:1"], "gzip")


def load_until_killed(data: str, archive: str, last: int) -> str:
    """Load an archive in another process, and kill it after so many steps; the last step it told of."""
    loader = subprocess.Popen(
        [sys.executable, "-c", LOADER, data, archive],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    told = ""
    with loader:
        for _ in range(last):
            told = loader.stdout.readline().strip()
            if told in ("", "told"):
                break
            loader.stdin.write("\n")
            loader.stdin.flush()
        loader.send_signal(signal.SIGKILL)
    return told


@pytest.mark.parametrize("last", [0, 3, 6, 9, 10, 11, 12, 13, 1000])
async def test_killed_after_so_many_steps(tmp_path, last):
    data, archive = tmp_path / "data", tmp_path / "archive.tar"
    data.mkdir()
    archive.write_bytes(oci_archive(SOURCE))
    told = load_until_killed(str(data), str(archive), last)
    with Store.open(str(data / "state.db")) as store:
        images = await Images.open(str(data), store, publish=lambda *_: None, uses=lambda _: ())
        rows = await images.list()
        assert rows or told != "told"
        assert last < 1000 or told == "told"
        blobs = {digest(blob) for blob in (*SOURCE.blobs, SOURCE.config_data, SOURCE.manifest)} if rows else set()
        snapshots = 2 if rows else 0
        if rows:
            assert rows[0].repo_tags == ["kill:1"]
            assert [os.listdir(layer) for layer in (await images.resolve("kill:1")).layers] == [["b"], ["a"]]
        images.close()
    assert {f"sha256:{name}" for name in os.listdir(data / "content/blobs/sha256")} == blobs
    assert len(os.listdir(data / "snapshots")) == snapshots
    assert os.listdir(data / "content/ingest") == []
