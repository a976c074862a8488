"""What RUN --mount says."""

from __future__ import annotations

import pytest
from boxshipd.builder.dockerfile.mounts import MountFlag, mount_origin, parse_mount
from boxshipd.builder.dockerfile.words import Words
from boxshipd.builder.errors import DockerfileError


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/a", MountFlag(target="/a")),
        ("type=bind,source=/a,dst=/b,from=c", MountFlag(source="/a", target="/b", from_="c")),
        ("TYPE=Bind,src=a,destination=b,rw", MountFlag(source="a", target="b", readonly=False)),
        ("target=/a,readwrite=false", MountFlag(target="/a")),
        ("target=/a,ro=0", MountFlag(target="/a", readonly=False)),
        ("type=cache,target=/a", MountFlag(kind="cache", target="/a", readonly=False)),
        (
            "type=cache,target=/a,id=x,sharing=Locked,from=b,source=c,mode=0700,uid=1,gid=2,readonly",
            MountFlag(
                kind="cache",
                target="/a",
                id="x",
                sharing="locked",
                from_="b",
                source="c",
                mode=0o700,
                uid=1,
                gid=2,
            ),
        ),
        ("type=tmpfs,target=/a,size=64m", MountFlag(kind="tmpfs", target="/a", size=64 << 20, readonly=False)),
        ("type=secret,id=x", MountFlag(kind="secret", id="x")),
        (
            "type=secret,source=x,required,mode=0444,env=TOKEN",
            MountFlag(kind="secret", source="x", required=True, mode=0o444, env="TOKEN"),
        ),
        ("type=secret,target=/a,required=false,env=", MountFlag(kind="secret", target="/a", env="")),
        ("type=ssh", MountFlag(kind="ssh")),
        ("type=ssh,id=x,required=true,target=/s", MountFlag(kind="ssh", id="x", required=True, target="/s")),
        ('"target=/a,b",src=c', MountFlag(target="/a,b", source="c")),
        ('"target=/a""b"', MountFlag(target='/a"b')),
    ],
)
def test_mounts(text, mount):
    assert parse_mount(text) == mount


def test_values_are_expanded_one_by_one():
    words = Words()
    env = {"x": "a,b=c", "kind": "cache", "sharing": "private"}
    mount = parse_mount("type=$kind,target=/$x,sharing=${sharing}", lambda text: words.expand(text, env).text)
    assert mount == MountFlag(kind="cache", target="/a,b=c", sharing="private", readonly=False)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("target=/a", ""),
        ("from=a,target=/b", "a"),
        ("From=a,from=b", "b"),
        ("type=bind,'from=x'", ""),
        ("target=$x,from=" + "a" * 200_000, "a" * 200_000),
    ],
)
def test_origins_are_known_before_variables_are(text, origin):
    assert mount_origin(text) == origin


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=volume,target=/a", 'unsupported mount type "volume"'),
        ("type=cahce,target=/a", 'unsupported mount type "cahce" (did you mean cache?)'),
        ("type=cache,sharing=lock,target=/a", 'unsupported sharing value "lock" (did you mean locked?)'),
        ("targte=/a", "unexpected key 'targte' in 'targte=/a' (did you mean target?)"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("target=/a,", "invalid field '' must be a key=value pair"),
        ("target=/a,ro=maybe", "invalid value for ro: maybe"),
        ("target=/a,required", "unexpected key 'required' for mount type 'bind'"),
        ("type=cache,required=true", "unexpected key 'required' for mount type 'cache'"),
        ("type=bind,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=tmpfs,size=x", "invalid value for size: x"),
        ("type=cache,mode=8", "invalid value 8 for mode"),
        ("type=cache,mode=777777777777", "invalid value 777777777777 for mode"),
        ("type=cache,uid=-1", "invalid value -1 for uid"),
        ("type=cache,gid=4294967296", "invalid value 4294967296 for gid"),
        ("type=bind,mode=0700", 'mode not allowed for "bind" type mounts'),
        ("type=tmpfs,uid=1", 'uid not allowed for "tmpfs" type mounts'),
        ("type=bind,gid=1", 'gid not allowed for "bind" type mounts'),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,from=x,id=y", "secret mount should not have a from"),
        ("type=secret,sharing=shared,id=y", "secret mount should not define sharing"),
        ("type=secret,source=x,id=y", "both source and id can't be set"),
        ("type=bind,target=/a,sharing=shared", "invalid cache sharing set for bind mount"),
        ("type=ssh,env=X", "unexpected key 'env' for mount type 'ssh'"),
        ('target=a"b', 'failed to parse csv mounts: bare " in non-quoted-field'),
        ('"target=a', 'failed to parse csv mounts: extraneous or missing " in quoted-field'),
        ('"target=a"b', 'failed to parse csv mounts: extraneous or missing " in quoted-field'),
        ("", "invalid field '' must be a key=value pair"),
    ],
)
def test_what_is_wrong(text, message):
    with pytest.raises(DockerfileError) as error:
        parse_mount(text)
    assert error.value.message == message
