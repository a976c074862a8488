"""``--security-opt`` and its kin, as the program sees them."""

from __future__ import annotations

import json

import pytest

STATUS = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | cut -f 2 | tr '\\n' ' '"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "0 2"),
        (["no-new-privileges"], "1 2"),
        (["no-new-privileges=true"], "1 2"),
        (["no-new-privileges:true"], "1 2"),
        (["no-new-privileges=false"], "0 2"),
        (["seccomp=unconfined"], "0 0"),
        (["seccomp=builtin"], "0 2"),
    ],
)
def test_no_new_privileges_and_seccomp(isolated, options, expected):
    assert isolated.run(STATUS, SecurityOpt=options)[0].strip() == expected


def test_a_seccomp_profile_of_its_own(isolated):
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    }
    lines = isolated.run("mkdir /made || true; touch /file && echo touched", SecurityOpt=[f"seccomp={json.dumps(profile)}"])
    assert lines == ["mkdir: can't create directory '/made': No space left on device", "touched"]
    assert "Decoding seccomp profile failed" in isolated.refused(SecurityOpt=["seccomp={"])


def test_system_paths_as_the_command_line_asks_for_them(isolated):
    script = "wc -c < /proc/keys; touch /proc/sys/kernel/domainname 2> /dev/null && echo writable; true"
    assert isolated.run(script) == ["0"]
    lines = isolated.run(script, MaskedPaths=[], ReadonlyPaths=[])
    assert int(lines[0]) > 0
    assert lines[1:] == ["writable"]


@pytest.mark.parametrize(
    ("options", "writable"), [([], False), (["writable-cgroups=true"], True), (["writable-cgroups"], True)]
)
def test_writable_cgroups(isolated, options, writable):
    lines = isolated.run(
        "grep ' /sys/fs/cgroup' /proc/self/mounts | grep -v tmpfs | head -1 | cut -d ' ' -f 4", SecurityOpt=options
    )
    assert lines[0].startswith("rw" if writable else "ro")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("nonsense", 'invalid --security-opt 1: "nonsense"'),
        ("colour=red", 'invalid --security-opt 2: "colour=red"'),
        ("no-new-privileges=maybe", 'invalid --security-opt 2: "no-new-privileges=maybe"'),
        ("systempaths=unconfined", 'invalid --security-opt 2: "systempaths=unconfined"'),
    ],
)
def test_options_that_cannot_be(isolated, option, message):
    assert isolated.refused(SecurityOpt=[option]) == message
