"""Names, options and the forms in which volumes and images are asked for, with Docker's messages."""

from __future__ import annotations

import pytest
from boxship.types.host import (
    BindOptions,
    HostConfig,
    ImageOptions,
    Mount,
    VolumeDriverConfig,
    VolumeOptions,
)
from boxshipd.containers.spec.mount_options import parse_mounts
from boxshipd.containers.volumes.options import ImageRequest, VolumeRequest, parse_volumes_from
from boxshipd.errors import InvalidParameter
from boxshipd.volumes.names import make_name, validate_name
from boxshipd.volumes.options import validate_options, volume_mount


def requests(**config):
    return parse_mounts(HostConfig(**config)).requests


@pytest.mark.parametrize("name", ["ab", "a.b-c_d", "9x", "A" * 255])
def test_names(name):
    assert validate_name(name) == name


def test_made_up_names_are_names():
    assert len(validate_name(make_name())) == 64


@pytest.mark.parametrize("name", ["-a", ".a", "a/b", "a b", "~/x", "é1", "ab\n", "../x", "A" * 256])
def test_names_that_cannot_be(name):
    with pytest.raises(InvalidParameter, match=r"^create "):
        validate_name(name)


def test_messages_are_dockers():
    with pytest.raises(InvalidParameter) as error:
        validate_name("a")
    assert str(error.value) == "create a: volume name is too short, names should be at least two alphanumeric characters"
    with pytest.raises(InvalidParameter) as error:
        validate_name("a$")
    assert str(error.value) == (
        'create a$: "a$" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. '
        "If you intended to pass a host directory, use absolute path"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"foo": "bar"}, 'create v: invalid option: "foo"'),
        ({"type": "tmpfs"}, 'create v: missing required option: "device"'),
        ({"device": "/x"}, 'create v: missing required option: "type"'),
        ({"o": "ro"}, 'create v: missing required option: "device"'),
        ({"size": "10g"}, "create v: quota size requested but no quota support"),
        ({"type": "none", "o": "bind", "device": "here"}, "create v: the device of a bind must be an absolute path: here"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InvalidParameter) as error:
        validate_options("v", options)
    assert str(error.value) == message


def test_what_options_make_of_a_volume():
    plain = volume_mount("/data/v", {}, "/x", readonly=True)
    assert (plain.kind, plain.source, plain.target, plain.readonly) == ("bind", "/data/v", "/x", True)
    shared = volume_mount("/data/v", {"type": "none", "o": "rbind,ro,noexec", "device": "/srv"}, "/x", readonly=False)
    assert (shared.kind, shared.source, shared.readonly, shared.recursive) == ("bind", "/srv", True, True)
    assert shared.options == ("noexec",)
    memory = volume_mount("/data/v", {"type": "tmpfs", "o": "size=1m", "device": "tmpfs"}, "/x", readonly=False)
    assert (memory.kind, memory.filesystem, memory.source, memory.options) == ("filesystem", "tmpfs", "tmpfs", ("size=1m",))


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("/data", VolumeRequest(name="", target="/data", mode="z")),
        ("name:/data", VolumeRequest(name="name", target="/data", mode="z")),
        ("name:/data/../d/", VolumeRequest(name="name", target="/d", mode="z")),
        ("name:/d:ro,nocopy", VolumeRequest(name="name", target="/d", mode="ro,nocopy", readonly=True, copy=False)),
    ],
)
def test_volumes_in_short(bind, expected):
    if bind.startswith("/"):
        # A bind without a source is an absolute target only.
        expected = VolumeRequest(name="", target=bind, mode="z")
    assert requests(binds=[bind]) == (expected,)


@pytest.mark.parametrize(
    ("bind", "message"),
    [
        ("/data:ro", "invalid volume specification: '/data:ro'"),
        ("name:data", "invalid mount path: 'data' mount path must be absolute"),
        ("name:/", "destination can't be '/'"),
        ("name:/x:shared", "field BindOptions must not be specified"),
        ("name:/x:z,Z", "invalid mode: z,Z"),
        ("name:/x:nocopy,nocopy", "invalid mode: nocopy,nocopy"),
    ],
)
def test_volumes_in_short_that_cannot_be(bind, message):
    with pytest.raises(InvalidParameter, match=message):
        requests(binds=[bind])


def test_volumes_at_length():
    options = VolumeOptions(
        no_copy=True, labels={"a": "b"}, subpath="x/y", driver_config=VolumeDriverConfig(name="local", options={"o": "p"})
    )
    (request,) = requests(mounts=[Mount(type="volume", source="name", target="/x", read_only=True, volume_options=options)])
    assert request == VolumeRequest(
        name="name",
        target="/x",
        mode="z",
        readonly=True,
        copy=False,
        subpath="x/y",
        driver="local",
        labels={"a": "b"},
        options={"o": "p"},
    )
    assert requests(mounts=[Mount(type="image", source="img", target="/x", image_options=ImageOptions(subpath="a"))]) == (
        ImageRequest(source="img", target="/x", subpath="a"),
    )


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ({"type": "volume", "source": "v"}, 'invalid mount config for type "volume": field Target must not be empty'),
        (
            {"type": "volume", "target": "/x", "bind_options": BindOptions(propagation="shared")},
            'invalid mount config for type "volume": field BindOptions must not be specified',
        ),
        (
            {"type": "volume", "target": "/x", "read_only": True},
            'invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes',
        ),
        (
            {"type": "volume", "target": "/x", "volume_options": VolumeOptions(subpath="a")},
            'invalid mount config for type "volume": must not set Subpath when using anonymous volumes',
        ),
        *(
            (
                {"type": "volume", "source": "v", "target": "/x", "volume_options": VolumeOptions(subpath=path)},
                'invalid mount config for type "volume": subpath must be a relative path within the volume',
            )
            for path in ("/etc", "..", "a/../../b")
        ),
        ({"type": "image", "target": "/x"}, 'invalid mount config for type "image": field Source must not be empty'),
        (
            {"type": "image", "source": "i", "target": "/x", "image_options": ImageOptions(subpath="../x")},
            'invalid mount config for type "image": subpath must be a relative path within the image',
        ),
    ],
)
def test_volumes_at_length_that_cannot_be(mount, message):
    with pytest.raises(InvalidParameter) as error:
        requests(mounts=[Mount(**mount)])
    assert str(error.value) == message


def test_a_target_is_taken_by_whatever_is_there():
    for other in ({"binds": ["/a:/x"]}, {"tmpfs": {"/x": ""}}, {"binds": ["w:/x/."]}):
        mount = Mount(type="volume", source="v", target="/x")
        with pytest.raises(InvalidParameter, match="Duplicate mount point: /x"):
            requests(**other, mounts=[mount])


def test_volumes_from():
    assert parse_volumes_from("box") == ("box", False)
    assert parse_volumes_from("box:ro,z") == ("box", True)
    for text, message in (("", "cannot be an empty string"), ("a:shared", "invalid mode: shared"), ("a:x", "invalid mode: x")):
        with pytest.raises(InvalidParameter, match=message):
            parse_volumes_from(text)
