"""Profiles: what of one counts, and what is wrong with a bad one."""

from __future__ import annotations

import json

import pytest
from boxrun.container.seccomp import builtin, profile
from boxrun.container.seccomp.errors import ProfileError
from boxrun.container.seccomp.profile import ALLOW, ERRNO, Machine

AMD64 = Machine("amd64", "x86_64", (6, 1))
ARM64 = Machine("arm64", "aarch64", (6, 1))


def select(document, capabilities=(), machine=AMD64):
    return profile.select(profile.decode(json.dumps(document)), capabilities, machine)


def answers(policy, name):
    return [(rule.action, rule.conditions) for rule in policy.rules if name in rule.names]


def builtin_answers(name, capabilities=(), machine=AMD64):
    return answers(profile.select(builtin.profile(), capabilities, machine), name)


def test_builtin_is_dockers_policy():
    policy = profile.select(builtin.profile(), (), AMD64)
    assert policy.default == ERRNO | 1
    assert policy.architectures == ("x86_64", "x86", "x32")
    assert len(policy.rules[0].names) == len(set(policy.rules[0].names)) == 361
    assert builtin_answers("socket") == [(ALLOW, ((0, 2, 38, 0),)), (ALLOW, ((0, 4, 39, 0),)), (ALLOW, ((0, 6, 40, 0),))]
    assert [conditions[0][2] for _, conditions in builtin_answers("personality")] == [0, 8, 0x20000, 0x20008, 0xFFFFFFFF]
    assert builtin_answers("keyctl") == builtin_answers("io_uring_setup") == builtin_answers("userfaultfd") == []


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "unshare"),
        ("CAP_SYS_ADMIN", "bpf"),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_MODULE", "finit_module"),
        ("CAP_SYS_PACCT", "acct"),
        ("CAP_SYS_PTRACE", "kcmp"),
        ("CAP_SYS_RAWIO", "iopl"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_TTY_CONFIG", "vhangup"),
        ("CAP_SYS_NICE", "mbind"),
        ("CAP_SYSLOG", "syslog"),
    ],
)
def test_builtin_gates_by_capability(capability, name):
    assert builtin_answers(name) == []
    assert builtin_answers(name, (capability,)) == [(ALLOW, ())]


def test_builtin_clone():
    assert builtin_answers("clone") == [(ALLOW, ((0, 7, 0x7E020000, 0),))]
    assert builtin_answers("clone3") == [(ERRNO | 38, ())]
    assert builtin_answers("clone", ("CAP_SYS_ADMIN",)) == builtin_answers("clone3", ("CAP_SYS_ADMIN",)) == [(ALLOW, ())]


def test_builtin_by_architecture_and_kernel():
    assert builtin_answers("arch_prctl")
    assert not builtin_answers("arch_prctl", machine=ARM64)
    assert builtin_answers("arm_fadvise64_64", machine=ARM64)
    assert profile.select(builtin.profile(), (), ARM64).architectures == ("aarch64", "arm")
    assert builtin_answers("ptrace")
    assert not builtin_answers("ptrace", machine=Machine("amd64", "x86_64", (4, 7)))


def test_includes_want_all_capabilities_and_excludes_any():
    entry = {"action": "SCMP_ACT_ALLOW", "names": ["read"]}
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            entry | {"includes": {"caps": ["CAP_A", "CAP_B"]}},
            entry | {"excludes": {"caps": ["CAP_A", "CAP_B"]}},
        ],
    }
    assert [len(select(document, caps).rules) for caps in ((), ("CAP_A",), ("CAP_A", "CAP_B"))] == [1, 0, 1]


def test_conditions_on_architecture_and_kernel():
    entry = {"action": "SCMP_ACT_ALLOW", "names": ["read"]}
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            entry | {"includes": {"arches": ["arm64"]}},
            entry | {"excludes": {"arches": ["arm64"]}},
            entry | {"includes": {"minKernel": "6.2"}},
            entry | {"excludes": {"minKernel": "6.1"}},
        ],
    }
    assert len(select(document).rules) == 1
    assert len(select(document, machine=Machine("arm64", "aarch64", (7, 0))).rules) == 2


def test_actions_carry_their_errno():
    document = {
        "defaultAction": "SCMP_ACT_TRACE",
        "defaultErrnoRet": 7,
        "syscalls": [
            {"action": "SCMP_ACT_ERRNO", "name": "a"},
            {"action": "SCMP_ACT_ERRNO", "names": ["b"], "errnoRet": 99},
            {"action": "SCMP_ACT_KILL_PROCESS", "names": ["c"]},
            {"action": "SCMP_ACT_LOG", "names": ["d"]},
        ],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
    }
    policy = select(document)
    assert policy.default == 0x7FF00007
    assert [rule.action for rule in policy.rules] == [0x50001, 0x50063, 0x80000000, 0x7FFC0000]
    assert policy.flags == 6


def test_an_empty_profile_is_no_filter():
    assert select({}) is None


def one(**entry):
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW", "names": ["read"]} | entry]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"defaultAction": "ALLOW"}, r"defaultAction: unknown action 'ALLOW'"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "NOTIFY is not supported"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}, "listenerPath"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}, "flag 'X'"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["sparc"]}, "unknown architecture 'sparc'"),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64"}],
            },
            "both 'architectures' and 'archMap'",
        ),
        (one(name="write"), "both 'name' and 'names'"),
        (one(names=[""]), r"syscalls\[0\]: a system call has no name"),
        (one(action="SCMP_ACT_ERRNO", errnoRet=70000), "errno 70000"),
        (one(args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]), "no argument 6"),
        (one(args=[{"index": 0, "value": 0, "op": "EQ"}]), "unknown operator 'EQ'"),
        (one(args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]), "unsigned 64-bit"),
        (one(includes={"minKernel": "six"}), "minKernel 'six'"),
    ],
)
def test_what_is_wrong_is_named(document, message):
    with pytest.raises(ProfileError, match=message):
        select(document)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"syscalls": 1}', '{"syscalls": [{"names": ["read"]}]}'])
def test_what_is_no_profile_is_refused(text):
    with pytest.raises(ProfileError, match="Decoding seccomp profile failed"):
        profile.decode(text)
