"""``--userns-remap``: whose ids are meant, and what doesn't go together with it."""

from __future__ import annotations

import pwd

import pytest
from boxrun.container.spec import IDMapping, Mount
from boxship.types.host import HostConfig
from boxshipd.config import ConfigError
from boxshipd.containers.spec.remapping import NONE, Remapping, check_remapped, mapped, read_remapping
from boxshipd.errors import InvalidParameter

REMAPPED = Remapping((IDMapping(inside=0, outside=200000, size=10),), (IDMapping(inside=0, outside=300000, size=10),))


@pytest.fixture
def files(tmp_path):
    (tmp_path / "subuid").write_text("dockremap:100000:65536\nroot:200000:10\n\nbroken\nroot:400000:5\ndaemon:1:0\n")
    (tmp_path / "subgid").write_text("dockremap:100000:65536\nroot:300000:20\ndaemon:500000:7\n")
    return {"subuid": str(tmp_path / "subuid"), "subgid": str(tmp_path / "subgid")}


def test_ids_of_a_user_one_range_after_the_other(files):
    found = read_remapping("root", **files)
    assert found.uids == (IDMapping(inside=0, outside=200000, size=10), IDMapping(inside=10, outside=400000, size=5))
    assert found.gids == (IDMapping(inside=0, outside=300000, size=20),)
    assert read_remapping(f"{pwd.getpwnam('root').pw_uid}:daemon", **files).gids[0].outside == 500000
    assert read_remapping("default", **files).uids == (IDMapping(inside=0, outside=100000, size=65536),)
    assert read_remapping("", **files) is NONE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuchuser", "unable to find user nosuchuser"),
        ("root:nosuchgroup", "unable to find group nosuchgroup"),
        ("daemon", 'no subordinate ids found for "daemon" in .*subuid'),
    ],
)
def test_ids_that_are_not_there(files, text, message):
    with pytest.raises(ConfigError, match=message):
        read_remapping(text, **files)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"privileged": True}, "privileged mode is incompatible with user namespaces"),
        ({"network_mode": "host"}, "cannot share the host's network namespace when user namespaces are enabled"),
        ({"pid_mode": "host"}, "cannot share the host PID namespace when user namespaces are enabled"),
        ({"ipc_mode": "container:x"}, "--ipc container:x is not available when user namespaces are enabled"),
        ({"runtime": "runc"}, "--runtime runc is not available when user namespaces are enabled"),
    ],
)
def test_what_does_not_go_together(host, message):
    with pytest.raises(InvalidParameter, match=message):
        check_remapped(HostConfig(**host), REMAPPED)
    assert check_remapped(HostConfig(**host, userns_mode="host"), REMAPPED) is NONE
    assert check_remapped(HostConfig(**host), NONE) is NONE
    assert check_remapped(HostConfig(), REMAPPED) is REMAPPED


def test_what_is_ours_is_mapped_and_nothing_else():
    bind, tmpfs = Mount(kind="bind", source="/a", target="/a"), Mount(kind="tmpfs", target="/t")
    assert mapped([bind, tmpfs], NONE) == [bind, tmpfs]
    first, second = mapped([bind, tmpfs], REMAPPED)
    assert (first.uid_mappings, first.gid_mappings, second) == (REMAPPED.uids, REMAPPED.gids, tmpfs)
