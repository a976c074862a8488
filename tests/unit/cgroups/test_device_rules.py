"""The eBPF device program, run by a small interpreter and compared with the rules' meaning."""

from __future__ import annotations

import pytest
from boxrun.container.cgroups import InvalidLimitError, devices
from boxrun.container.spec import DeviceRule
from boxrun.linux.bpf import INSTRUCTION
from hypothesis import given
from hypothesis import strategies as st

BITS = {"m": 1, "r": 2, "w": 4}
MASK = (1 << 64) - 1

rules = st.lists(
    st.builds(
        DeviceRule,
        allow=st.booleans(),
        kind=st.sampled_from("abc"),
        major=st.integers(-1, 2),
        minor=st.integers(-1, 2),
        access=st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"]),
    ),
    max_size=6,
).map(tuple)


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> int:
    """What the kernel's eBPF machine would return."""
    context = [sum(BITS[letter] for letter in access) << 16 | {"b": 1, "c": 2}[kind], major, minor]
    registers = [0] * 11
    code = list(INSTRUCTION.iter_unpack(program))
    at = 0
    while True:
        opcode, both, offset, immediate = code[at]
        target, source = both & 15, both >> 4
        at += 1
        match opcode:
            case 0x61:
                assert source == 1
                registers[target] = context[offset // 4]
            case 0xBF:
                registers[target] = registers[source]
            case 0xB7:
                registers[target] = immediate & MASK
            case 0x57:
                registers[target] &= immediate & MASK
            case 0x77:
                registers[target] >>= immediate
            case 0x15:
                at += offset if registers[target] == immediate else 0
            case 0x55:
                at += offset if registers[target] != immediate else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(hex(opcode))


def meaning(rules: tuple[DeviceRule, ...], kind: str, major: int, minor: int, access: str) -> bool:
    """Each access by itself: the last rule that names it decides."""

    def decides(rule: DeviceRule, letter: str) -> bool:
        return rule.kind in ("a", kind) and rule.major in (-1, major) and rule.minor in (-1, minor) and letter in rule.access

    return all(next((rule.allow for rule in reversed(rules) if decides(rule, letter)), False) for letter in access)


@given(rules, st.sampled_from("bc"), st.integers(0, 3), st.integers(0, 3), st.sampled_from(["r", "w", "m", "rw", "rwm"]))
def test_the_program_does_what_the_rules_say(rules, kind, major, minor, access):
    assert run(devices.program(rules), kind, major, minor, access) == meaning(rules, kind, major, minor, access)


def test_every_instruction_can_be_reached():
    """The kernel's verifier refuses programs with instructions after the last decision."""
    everything = DeviceRule(allow=True, kind="a")
    assert devices.program((DeviceRule(allow=False, kind="c", major=1), everything)) == devices.program((everything,))


def test_all_allowed_needs_no_program():
    everything = DeviceRule(allow=True, kind="a")
    assert devices.allows_everything(())
    assert devices.allows_everything((DeviceRule(allow=False, kind="a"), everything))
    assert not devices.allows_everything((everything, DeviceRule(allow=False, kind="c", major=1, minor=3)))
    assert not devices.allows_everything((DeviceRule(allow=True, kind="a", access="rw"),))


def test_v1_lines():
    found = devices.lines(
        (
            DeviceRule(allow=False, kind="a"),
            DeviceRule(allow=True, kind="c", major=136, access="rw"),
            DeviceRule(allow=True, kind="b", major=8, minor=0, access="r"),
        )
    )
    assert found == [("devices.deny", "a"), ("devices.allow", "c 136:* rw"), ("devices.allow", "b 8:0 r")]


@pytest.mark.parametrize("access", ["", "x", "rwx"])
def test_access_is_made_of_r_w_m(access):
    with pytest.raises(InvalidLimitError, match="access"):
        devices.program((DeviceRule(allow=True, kind="c", major=1, access=access),))
