"""A seccomp policy that kills: before the program it is the container's end that is told, never the shim's."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize("call", ["capset", "execve"])
@pytest.mark.parametrize("init", [False, True])
def test_a_policy_that_kills_the_container_on_its_way(daemon, tmp_path, call, init):
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": [call], "action": "SCMP_ACT_KILL_PROCESS"}],
    }
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile))
    flags = ["--init"] if init else []
    result = daemon.cli("boxship", "run", "--rm", *flags, "--security-opt", f"seccomp={path}", "busybox", "true", code=None)
    assert result.returncode == 128 + 31, result.stderr
    assert b"shim" not in result.stderr
    assert daemon.cli("boxship", "run", "--rm", "busybox", "echo", "still here").stdout == b"still here\n"
