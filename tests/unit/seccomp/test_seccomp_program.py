"""Compiled programs, run by an interpreter for every system call there is."""

from __future__ import annotations

import json
import os
import struct

import msgspec
import pytest
from boxrun.container import spec
from boxrun.container.seccomp import builtin, compiler, prelude, profile
from boxrun.container.seccomp.errors import ProfileError
from boxrun.container.seccomp.load import FORMAT, HEADER
from boxrun.container.seccomp.profile import ALLOW, ERRNO

pytestmark = pytest.mark.skipif(compiler.available() is not None, reason=str(compiler.available()))

AMD64 = profile.Machine("amd64", "x86_64", (6, 1))
X86_64, X86, X32 = 0xC000003E, 0x40000003, 0x40000000
EPERM, ENOSYS = ERRNO | 1, ERRNO | 38
KILL = 0

_library = compiler._library


def run(program: bytes, token: int, number: int, *args: int) -> int:
    """What the kernel's classic BPF machine would answer."""
    data = struct.pack("=IIQ6Q", number, token, 0, *args, *[0] * (6 - len(args)))
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, memory, at = 0, [0] * 16, 0
    while True:
        opcode, then, otherwise, value = code[at]
        at += 1
        match opcode:
            case 0x20:
                accumulator = struct.unpack_from("=I", data, value)[0]
            case 0x02:
                memory[value] = accumulator
            case 0x60:
                accumulator = memory[value]
            case 0x05:
                at += value
            case 0x15:
                at += then if accumulator == value else otherwise
            case 0x25:
                at += then if accumulator > value else otherwise
            case 0x35:
                at += then if accumulator >= value else otherwise
            case 0x45:
                at += then if accumulator & value else otherwise
            case 0x54:
                accumulator &= value
            case 0x06:
                return value
            case _:
                raise AssertionError(hex(opcode))


def compiled(document=None, capabilities=()):
    chosen = builtin.profile() if document is None else profile.decode(json.dumps(document))
    return compiler.assemble(profile.select(chosen, capabilities, AMD64), _library())[HEADER.size :]


@pytest.mark.parametrize("capabilities", [(), ("CAP_SYS_ADMIN", "CAP_SYS_NICE")])
def test_every_number_is_answered_as_libseccomp_alone_would(capabilities):
    """Up to the greatest number the library knows, in front of which nothing may have changed."""
    policy = profile.select(builtin.profile(), capabilities, AMD64)
    with _library().filter(policy.default) as plain:
        for name in policy.architectures:
            plain.add_architecture(_library().architecture(name))
        for rule in policy.rules:
            for name in rule.names:
                number = _library().number(name)
                if number is not None and rule.action != policy.default:
                    plain.add_rule(rule.action, number, rule.conditions, name)
        expected = plain.export()
    program = compiled(None, capabilities)
    x32 = {number for number in _library().numbers(_library().architecture("x32"), X32).values() if number < X32 + 0x1000}
    assert len(x32) > 300
    arguments = [(), (38,), (39,), (40,), (41,), (0x20000,), (0x10000000,), (0xFFFFFFFF,), (1 << 32 | 38,), (1 << 32,)]
    differences = [
        (hex(token), number, args)
        for token, numbers in ((X86_64, [*range(456), *sorted(x32)]), (X86, range(456)), (0x1234, range(3)))
        for number in numbers
        for args in arguments
        if run(program, token, number, *args) != run(expected, token, number, *args)
    ]
    assert differences == []


def test_the_default_policy_answers():
    program = compiled()
    assert run(program, X86_64, 0) == ALLOW
    assert run(program, X86_64, 41, 1) == ALLOW
    assert run(program, X86_64, 41, 38) == run(program, X86_64, 41, 40) == EPERM
    assert run(program, X86, 359, 38) == EPERM
    assert run(program, X86, 359, 2) == ALLOW
    assert run(program, X86_64, 435) == run(program, X86, 435) == ENOSYS
    assert run(program, X86_64, 56, 0x11) == ALLOW
    assert run(program, X86_64, 56, 0x10000000) == run(program, X86_64, 56, 0x20011) == EPERM
    assert run(program, X86_64, 165) == EPERM
    assert run(program, 0xC00000B7, 0) == KILL


def test_calls_younger_than_the_library_are_answered_by_number():
    program = compiled()
    assert [run(program, X86_64, prelude.NUMBERS[name]) for name in ("cachestat", "mseal", "listmount")] == [ALLOW] * 3
    assert run(program, X86, prelude.NUMBERS["mseal"]) == ALLOW
    assert run(program, X86_64, prelude.NUMBERS["lsm_list_modules"]) == EPERM
    assert run(compiled(None, ("CAP_SYS_ADMIN",)), X86_64, prelude.NUMBERS["lsm_list_modules"]) == ALLOW


def test_calls_younger_than_the_profile_look_absent():
    program = compiled()
    assert run(program, X86_64, 467) == run(program, X86_64, 999) == run(program, X86, 467) == ENOSYS
    short = compiled({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["exit_group"], "action": "SCMP_ACT_ALLOW"}]})
    assert [run(short, X86_64, number) for number in (0, 231, 232)] == [EPERM, ALLOW, ENOSYS]


@pytest.mark.parametrize(
    "document",
    [
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]},
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
        },
    ],
)
def test_nothing_is_put_in_front_where_nothing_needs_it(document):
    program = compiled(document)
    assert run(program, X86_64, 999) == (ALLOW if document["defaultAction"] == "SCMP_ACT_ALLOW" else ENOSYS)


OPERATORS = [
    ("SCMP_CMP_NE", 5, 0, {4: True, 5: False}),
    ("SCMP_CMP_LT", 5, 0, {4: True, 5: False}),
    ("SCMP_CMP_LE", 5, 0, {5: True, 6: False}),
    ("SCMP_CMP_EQ", 5, 0, {5: True, 6: False, 1 << 32 | 5: False}),
    ("SCMP_CMP_GE", 5, 0, {5: True, 4: False, 1 << 40: True}),
    ("SCMP_CMP_GT", 5, 0, {6: True, 5: False}),
    ("SCMP_CMP_MASKED_EQ", 0xF0, 0x30, {0x3F: True, 0x4F: False}),
]


@pytest.mark.parametrize(("operator", "value", "second", "wanted"), OPERATORS)
def test_operators(operator, value, second, wanted):
    argument = {"index": 1, "value": value, "valueTwo": second, "op": operator}
    entry = {"names": ["openat"], "action": "SCMP_ACT_ALLOW", "args": [argument]}
    program = compiled({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [entry]})
    for given, allowed in wanted.items():
        assert run(program, X86_64, 257, 0, given) == (ALLOW if allowed else EPERM), given


def test_conditions_on_one_argument_are_alternatives_and_on_several_all_hold():
    def arguments(*pairs):
        return [{"index": index, "value": value, "op": "SCMP_CMP_EQ"} for index, value in pairs]

    def program(*pairs):
        entry = {"names": ["openat"], "action": "SCMP_ACT_ALLOW", "args": arguments(*pairs)}
        return compiled({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [entry]})

    either, both = program((0, 1), (0, 2)), program((0, 1), (1, 2))
    assert [run(either, X86_64, 257, value) for value in (1, 2, 3)] == [ALLOW, ALLOW, EPERM]
    assert [run(both, X86_64, 257, 1, value) for value in (2, 3)] == [ALLOW, EPERM]


def test_architectures_that_the_profile_does_not_name_are_killed():
    document = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}
    assert run(compiled(document), X86_64, 0) == ALLOW
    assert run(compiled(document), X86, 0) == KILL


def test_a_call_that_cannot_be_refused_is_an_error_and_one_that_cannot_be_allowed_is_not():
    entry = {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ERRNO"}
    with pytest.raises(ProfileError, match="no_such_call"):
        compiled({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]})
    allowing = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [entry | {"action": "SCMP_ACT_ALLOW"}]}
    assert run(compiled(allowing), X86_64, 0) == ALLOW


def test_unconfined_is_no_program():
    assert compiler.compile_profile(spec.Seccomp(mode="unconfined"), ()) == b""
    assert compiler.compile_profile(spec.Seccomp(mode="custom", profile="{}"), ()) == b""


def test_programs_are_kept_on_disk_and_damaged_ones_made_anew(tmp_path):
    directory = tmp_path / "programs"

    def compile_anew():
        compiler._programs.clear()
        return compiler.compile_profile(spec.Seccomp(), ("CAP_CHOWN",), cache_dir=str(directory))

    first = compile_anew()
    (file,) = directory.iterdir()
    assert os.stat(directory).st_mode & 0o777 == 0o700
    assert HEADER.unpack_from(first) == (FORMAT, 0)
    assert file.read_bytes().endswith(first)
    file.write_bytes(file.read_bytes()[:-1])
    assert compile_anew() == first
    assert file.read_bytes().endswith(first)
    compiler._programs.clear()
    compiler.compile_profile(spec.Seccomp(), ("CAP_SYS_ADMIN",), cache_dir=str(directory))
    assert len(list(directory.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    compiler._programs.clear()
    assert compiler.compile_profile(spec.Seccomp(), (), cache_dir=str(tmp_path / "file" / "x"))


def test_flags_travel_with_the_program():
    policy = msgspec.structs.replace(profile.select(builtin.profile(), (), AMD64), flags=2)
    assert HEADER.unpack_from(compiler.assemble(policy, _library())) == (FORMAT, 2)
