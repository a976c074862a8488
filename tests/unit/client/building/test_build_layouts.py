"""OCI layouts as build contexts: which image is meant, and what of it is sent."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from boxship.building.layouts import Layout
from boxship.errors import CommandError


class Maker:
    """A layout in the making."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.listed: list[dict] = []
        (directory / "blobs/sha256").mkdir(parents=True)

    def blob(self, data: bytes) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        (self.directory / "blobs/sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def document(self, kind: str, **fields) -> dict:
        return {"mediaType": f"application/vnd.oci.image.{kind}.v1+json", **self.blob(json.dumps(fields).encode())}

    def image(self, word: str) -> dict:
        config, layer = self.blob(json.dumps({"config": word}).encode()), self.blob(f"layer {word}".encode())
        return self.document("manifest", config=config, layers=[layer])

    def add(self, descriptor: dict, tag: str = "") -> None:
        named = {"annotations": {"org.opencontainers.image.ref.name": tag}} if tag else {}
        self.listed.append({**descriptor, **named})
        (self.directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.listed}))


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "layout")


def sent(reference: str) -> tuple[list[str], dict[str, bytes]]:
    """The digests that the archive's index lists, and all that it holds."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(Layout(reference).chunks()))) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    return [each["digest"] for each in json.loads(files["index.json"])["manifests"]], files


def test_an_image_is_found_by_tag_by_digest_or_as_the_only_one(maker: Maker) -> None:
    one, two = maker.image("one"), maker.image("two")
    maker.add(one, "first")
    place = f"oci-layout://{maker.directory}"
    assert sent(place)[0] == [one["digest"]], "the only one, whatever its tag"
    maker.add(two, "latest")
    assert sent(place)[0] == [two["digest"]]
    assert sent(f"{place}:first")[0] == [one["digest"]]
    assert sent(f"{place}@{one['digest']}")[0] == [one["digest"]]
    assert sent(f"{place}:latest@{one['digest']}")[0] == [one["digest"]], "the digest counts"
    with pytest.raises(CommandError, match="no image is tagged none"):
        sent(f"{place}:none")


def test_only_what_belongs_to_it_is_sent(maker: Maker) -> None:
    maker.add(maker.image("one"), "one")
    maker.add(maker.image("two"), "two")
    _, files = sent(f"oci-layout://{maker.directory}:one")
    assert {b'{"config": "one"}', b"layer one"} < set(files.values())
    assert not {b'{"config": "two"}', b"layer two"} & set(files.values())


def test_an_index_comes_with_what_is_there_of_it(maker: Maker) -> None:
    here, gone = maker.image("here"), maker.image("gone")
    index = maker.document("index", manifests=[here, gone])
    (maker.directory / "blobs" / gone["digest"].replace(":", "/")).unlink()
    maker.add(index)
    listed, files = sent(f"oci-layout://{maker.directory}")
    assert listed == [index["digest"]]
    assert b"layer here" in files.values()
    assert b"layer gone" not in files.values()
    assert sent(f"oci-layout://{maker.directory}@{here['digest']}")[0] == [here["digest"]], "one of those that it lists"


@pytest.mark.parametrize("digest", ["sha256:../../../../etc/passwd", "sha256:" + "a" * 63, "../x", "sha256:" + "A" * 64])
def test_a_digest_leads_nowhere_else(maker: Maker, digest: str) -> None:
    maker.add({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1})
    with pytest.raises(CommandError, match="which can't be"):
        Layout(f"oci-layout://{maker.directory}")
    with pytest.raises(CommandError, match="is not a digest"):
        Layout(f"oci-layout://{maker.directory}@{digest}")


def test_what_is_no_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no such file or directory"):
        Layout(f"oci-layout://{tmp_path}/none")
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(CommandError, match="isn't an object"):
        Layout(f"oci-layout://{tmp_path}")
