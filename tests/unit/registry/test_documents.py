"""Manifests and indexes: whatever comes is read as one thing or refused."""

import json

import pytest
from boxshipd.errors import InvalidParameter
from boxshipd.registry.documents import RemoteIndex, RemoteManifest, read
from hypothesis import given
from hypothesis import strategies as st
from support.remote_images import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, RemoteImage, index, layer, sha256

IMAGE = RemoteImage([layer({"a": b"a"})])
DIGEST = "sha256:" + "0" * 64
TYPES = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST, "application/json", "", "text/html", "application/vnd.other"]
DESCRIPTOR = {"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 2}


@pytest.mark.parametrize("docker", [False, True])
def test_what_is_meant(docker):
    image = RemoteImage([layer({"a": b"a"})], docker=docker)
    document = read(image.manifest, image.media_type + "; charset=utf-8")
    assert (document.digest, document.media_type) == (image.digest, image.media_type)
    assert isinstance(document.content, RemoteManifest)
    listed = read(index(image, docker=docker), "application/json")
    assert listed.media_type == (DOCKER_INDEX if docker else OCI_INDEX)
    assert isinstance(listed.content, RemoteIndex)
    assert listed.content.manifests[0].platform.architecture == "amd64"


def test_what_is_not_known_is_left_alone():
    document = json.loads(IMAGE.manifest) | {"annotations": {"x": "y"}, "future": [1, 2]}
    assert read(json.dumps(document).encode(), OCI_MANIFEST).content.annotations == {"x": "y"}


def test_schema_1_is_refused_by_name():
    with pytest.raises(InvalidParameter, match="schema 1, which is not supported"):
        read(b'{"schemaVersion": 1}', "application/vnd.docker.distribution.manifest.v1+prettyjws")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.just(DESCRIPTOR),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "Manifests", "LAYERS", "fsLayers", "x"])
values = st.sampled_from([2, 1, OCI_INDEX, OCI_MANIFEST, DESCRIPTOR, [DESCRIPTOR], []]) | anything


@given(st.dictionaries(names, values, max_size=7), st.sampled_from(TYPES))
def test_documents_are_one_thing_or_refused(fields, served_as):
    data = json.dumps(fields).encode()
    try:
        document = read(data, served_as)
    except InvalidParameter:
        return
    assert document.digest == sha256(data)
    assert ("manifests" in fields) == isinstance(document.content, RemoteIndex)
    assert ("layers" in fields and "config" in fields) == isinstance(document.content, RemoteManifest)
    assert not {"Manifests", "LAYERS", "fsLayers"} & fields.keys()
    assert fields.get("mediaType", document.media_type) == document.media_type


@given(st.binary(max_size=200), st.sampled_from(TYPES))
def test_bytes_are_refused(data, served_as):
    with pytest.raises(InvalidParameter):
        read(data, served_as)


def test_deep_documents_are_refused():
    with pytest.raises(InvalidParameter):
        read(b'{"schemaVersion":2,"manifests":' + b"[" * 100_000 + b"]" * 100_000 + b"}", OCI_INDEX)
