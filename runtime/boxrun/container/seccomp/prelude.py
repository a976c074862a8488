"""The instructions put in front of libseccomp's: they answer by the call's number alone, wherever that is enough.

A filter is checked, translated and stored for every container, and libseccomp compares number by number; a search tree over
ranges of numbers with one answer is several times shorter. Only calls whose arguments count go on to libseccomp's part.

Two things are decided here that libseccomp can't. Calls that the profile names but the installed library doesn't know are
answered by number. And a call that a profile's author couldn't know must look absent (ENOSYS), not forbidden (EPERM), or
C libraries don't fall back to an older one: that holds for every number above the greatest that the profile names.

Source: linux/bpf_common.h, linux/seccomp.h; runc's enosys patch for the last.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from msgspec import Struct

from boxrun.container.seccomp.profile import ERRNO

#: Calls younger than libseccomp 2.5.4 know their numbers, which are the same on every architecture but MIPS and Alpha.
NUMBERS = {
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}

UNIFORM = frozenset({"x86_64", "x86", "aarch64", "arm", "loongarch64", "ppc64", "ppc64le", "riscv64", "s390", "s390x"})
"""Architectures on which those numbers hold, and whose numbers begin at 0."""

X32_BIT = 0x40000000
"""The x32 calls share x86_64's token; their numbers have this bit."""

_LOAD = 0x20
_JUMP = 0x05
_IF_EQUAL = 0x15
_IF_AT_LEAST = 0x35
_IF_ANY_BIT = 0x45
_AND = 0x54
_RETURN = 0x06
_NUMBER_OFFSET = 0
_ARCH_OFFSET = 4
_FARTHEST = 255
_X32_OWN = 512
_ENOSYS = ERRNO | 38
_X86_64 = 0xC000003E

_INSTRUCTION = struct.Struct("=HBBI")

_GO_ON = None
"""Stands for a jump behind the last instruction, whose distance is known only when all are there."""

_Code = list[bytes | None]


class Block(Struct, frozen=True):
    """What to answer on one architecture.

    Attributes:
        answers: the action of each number that needs no look at the arguments.
        greatest: above this number every call is absent; None where that shall not be.
        x32: on x86_64, the answers to x32 programs; None where such may not run.
    """

    answers: Mapping[int, int]
    greatest: int | None = None
    x32: Mapping[int, int] | None = None


def assemble(blocks: Mapping[int, Block]) -> bytes:
    """The instructions, for each architecture's AUDIT_ARCH token; what they leave undecided goes on to what follows them."""
    code: _Code = [_instruction(_LOAD, _ARCH_OFFSET)]
    for token, block in blocks.items():
        body = _block(token, block)
        code += [_instruction(_IF_EQUAL, token, then=1), _instruction(_JUMP, len(body)), *body]
    return b"".join(
        _instruction(_JUMP, len(code) - at - 1) if instruction is _GO_ON else instruction for at, instruction in enumerate(code)
    )


def _block(token: int, block: Block) -> _Code:
    native = _tree(_ranges(block.answers, block.greatest))
    start: _Code = [_instruction(_LOAD, _NUMBER_OFFSET)]
    if token != _X86_64:
        return start + native
    if block.x32 is None:
        return [*start, _instruction(_IF_ANY_BIT, X32_BIT, otherwise=1), _GO_ON, *native]
    # Below 512 the numbers are the native ones and mean the same.
    own = _tree(
        _ranges({number & ~X32_BIT: action for number, action in block.x32.items() if number & ~X32_BIT >= _X32_OWN}, None)
    )
    x32: _Code = [_instruction(_AND, ~X32_BIT & 0xFFFFFFFF), _instruction(_IF_AT_LEAST, _X32_OWN, otherwise=len(own)), *own]
    return [*start, _instruction(_IF_ANY_BIT, X32_BIT, otherwise=len(x32)), *x32, *native]


def _ranges(answers: Mapping[int, int], greatest: int | None) -> list[tuple[int, int | None]]:
    """Where each range of numbers with one answer begins, from 0 on; the answer None is to go on."""
    starts: dict[int, int | None] = {0: _GO_ON}
    for number, answer in sorted(answers.items()):
        starts[number] = answer
        starts[number + 1] = _GO_ON
    if greatest is not None:
        starts[greatest + 1] = _ENOSYS
    ranges: list[tuple[int, int | None]] = []
    for first, action in sorted(starts.items()):
        if not ranges or ranges[-1][1] != action:
            ranges.append((first, action))
    return ranges


def _tree(ranges: list[tuple[int, int | None]]) -> _Code:
    """A binary search for the range of the number in the accumulator."""
    if len(ranges) == 1:
        action = ranges[0][1]
        return [_GO_ON if action is None else _instruction(_RETURN, action)]
    middle = len(ranges) // 2
    below, above = _tree(ranges[:middle]), _tree(ranges[middle:])
    pivot = ranges[middle][0]
    if len(below) <= _FARTHEST:
        return [_instruction(_IF_AT_LEAST, pivot, then=len(below)), *below, *above]
    return [_instruction(_IF_AT_LEAST, pivot, otherwise=1), _instruction(_JUMP, len(below)), *below, *above]


def _instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, then, otherwise, value)
