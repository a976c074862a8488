"""Device access rules, as an eBPF program for cgroup2 and as lines for v1's device controller.

Rules count in order, a later one overriding an earlier for the kinds, numbers and accesses it names; what no rule names is
refused.
Source: Documentation/admin-guide/cgroup-v1/devices.rst, ``struct bpf_cgroup_dev_ctx`` in linux/bpf.h.
"""

from __future__ import annotations

from collections.abc import Sequence

from boxrun.container.cgroups.errors import InvalidLimitError
from boxrun.container.spec import DeviceRule
from boxrun.linux.bpf import INSTRUCTION

_ACCESS_BITS = {"m": 1, "r": 2, "w": 4}
_ALL = 7
_KIND_NUMBERS = {"b": 1, "c": 2}

# Opcodes of linux/bpf_common.h and linux/bpf.h, written as class | size or operation | source.
_LOAD_WORD = 0x61
_MOVE_REGISTER = 0xBF
_MOVE_NUMBER = 0xB7
_AND_NUMBER = 0x57
_SHIFT_RIGHT = 0x77
_JUMP_EQUAL = 0x15
_JUMP_NOT_EQUAL = 0x55
_EXIT = 0x95

_RETURN, _CONTEXT, _REMAINING, _KIND, _MAJOR, _MINOR, _SCRATCH = 0, 1, 2, 3, 4, 5, 6


def allows_everything(rules: Sequence[DeviceRule]) -> bool:
    """Whether nothing needs to be enforced: no rules at all, or a last one that allows any access to any device."""
    return not rules or (rules[-1].allow and _is_final(rules[-1]))


def program(rules: Sequence[DeviceRule]) -> bytes:
    """The eBPF instructions that judge by ``rules``: they return 1 to allow and 0 to refuse with EPERM.

    The rules are walked from the last to the first. What is asked for and not yet allowed is kept in a register: a rule that
    allows takes its accesses out, ending in "yes" when none is left; one that denies ends in "no" when it names any of them.

    Raises:
        InvalidLimitError: a rule's access isn't made of the letters r, w and m.
    """
    code = [
        _instruction(_LOAD_WORD, _KIND, _CONTEXT),
        _instruction(_MOVE_REGISTER, _REMAINING, _KIND),
        _instruction(_SHIFT_RIGHT, _REMAINING, immediate=16),
        _instruction(_AND_NUMBER, _KIND, immediate=0xFFFF),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, offset=4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, offset=8),
    ]
    for rule in reversed(rules):
        if _is_final(rule):
            code += _verdict(rule.allow)
            break
        code += _rule(rule)
    else:
        code += _verdict(False)
    return b"".join(code)


def lines(rules: Sequence[DeviceRule]) -> list[tuple[str, str]]:
    """What to write for v1: pairs of ``devices.allow`` or ``devices.deny`` and the line, in order."""
    return [
        (
            "devices.allow" if rule.allow else "devices.deny",
            "a" if _is_final(rule) else f"{rule.kind} {_number(rule.major)}:{_number(rule.minor)} {rule.access}",
        )
        for rule in rules
    ]


def _is_final(rule: DeviceRule) -> bool:
    """Whether the rule is about every access to every device, so that no earlier one counts."""
    return rule.kind == "a" and rule.major < 0 and rule.minor < 0 and _bits(rule) == _ALL


def _bits(rule: DeviceRule) -> int:
    """The rule's accesses as the kernel's bits."""
    if not rule.access or set(rule.access) - set(_ACCESS_BITS):
        what = f"device rule {rule.kind} {rule.major}:{rule.minor}"
        raise InvalidLimitError(f"{what}: access {rule.access!r} is not made of r, w and m")
    return sum(_ACCESS_BITS[letter] for letter in set(rule.access))


def _number(value: int) -> str:
    return "*" if value < 0 else str(value)


def _instruction(opcode: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return INSTRUCTION.pack(opcode, destination | source << 4, offset, immediate)


def _verdict(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE_NUMBER, _RETURN, immediate=int(allow)), _instruction(_EXIT)]


def _rule(rule: DeviceRule) -> list[bytes]:
    """One rule: conditions that jump past it, then its effect."""
    if rule.allow:
        body = [
            _instruction(_AND_NUMBER, _REMAINING, immediate=~_bits(rule)),
            _instruction(_JUMP_NOT_EQUAL, _REMAINING, offset=2),
            *_verdict(True),
        ]
    else:
        body = [
            _instruction(_MOVE_REGISTER, _SCRATCH, _REMAINING),
            _instruction(_AND_NUMBER, _SCRATCH, immediate=_bits(rule)),
            _instruction(_JUMP_EQUAL, _SCRATCH, offset=2),
            *_verdict(False),
        ]
    conditions = [(_KIND, _KIND_NUMBERS[rule.kind])] if rule.kind != "a" else []
    conditions += [(register, value) for register, value in ((_MAJOR, rule.major), (_MINOR, rule.minor)) if value >= 0]
    for register, value in reversed(conditions):
        body.insert(0, _instruction(_JUMP_NOT_EQUAL, register, offset=len(body), immediate=value))
    return body
