"""The instructions put in front of libseccomp's, for system calls newer than a library or a profile.

A call that a profile's author couldn't know must look absent (ENOSYS), not forbidden (EPERM), or C libraries don't fall back to
an older one: that holds for every number above the greatest that the profile names. And calls that the profile names but the
installed library doesn't know are answered here, by number.

Source: linux/bpf_common.h, linux/seccomp.h; runc's enosys patch for the idea.
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
"""Architectures on which those numbers hold."""

_LOAD = 0x20
_JUMP = 0x05
_IF_EQUAL = 0x15
_IF_GREATER = 0x25
_IF_AT_LEAST = 0x35
_IF_ANY_BIT = 0x45
_RETURN = 0x06
_NUMBER_OFFSET = 0
_ARCH_OFFSET = 4
_ENOSYS = ERRNO | 38
_X86_64 = 0xC000003E
_X32_BIT = 0x40000000

_INSTRUCTION = struct.Struct("=HBBI")


class Block(Struct, frozen=True):
    """What to answer on one architecture.

    Attributes:
        answers: the action of each number that libseccomp doesn't know.
        greatest: above this number every call is absent; None where that shall not be.
    """

    answers: Mapping[int, int]
    greatest: int | None


def assemble(blocks: Mapping[int, Block]) -> bytes:
    """The instructions, for each architecture's AUDIT_ARCH token; what they leave undecided goes on to what follows them."""
    code: list[bytes] = []
    for token, block in reversed(list(blocks.items())):
        body = _block(token, block)
        if body:
            body.append(_instruction(_JUMP, len(code)))
            code = [_instruction(_IF_EQUAL, token, otherwise=len(body)), *body, *code]
    return b"".join([_instruction(_LOAD, _ARCH_OFFSET), *code]) if code else b""


def _block(token: int, block: Block) -> list[bytes]:
    if not block.answers and block.greatest is None:
        return []
    tests = [
        instruction
        for number, action in sorted(block.answers.items())
        for instruction in (_instruction(_IF_EQUAL, number, otherwise=1), _instruction(_RETURN, action))
    ]
    if block.greatest is not None:
        tests += [_instruction(_IF_GREATER, block.greatest, otherwise=1), _instruction(_RETURN, _ENOSYS)]
    limits = [*block.answers, *([] if block.greatest is None else [block.greatest + 1])]
    # Nearly every call is older than all these, and is sent on after one comparison.
    body = [_instruction(_IF_AT_LEAST, min(limits), otherwise=len(tests)), *tests]
    if token == _X86_64:
        # The x32 calls share the token; they have numbers of their own, which libseccomp's part judges.
        body.insert(0, _instruction(_IF_ANY_BIT, _X32_BIT, then=len(body)))
    return [_instruction(_LOAD, _NUMBER_OFFSET), *body]


def _instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, then, otherwise, value)
