"""A program that does nothing at all: what there is to be paid for any program, and no library, heap or argument parsing."""

from __future__ import annotations

import os
import struct

_CODE = {
    # mov eax, 60 (exit); xor edi, edi; syscall
    "x86_64": (62, bytes.fromhex("b83c00000031ff0f05")),
    # mov x0, #0; mov x8, #93 (exit); svc #0
    "aarch64": (183, bytes.fromhex("000080d2a80b80d2010000d4")),
}
_BASE = 0x400000
_HEADERS = 64 + 56


def nothing() -> bytes:
    """A static ELF executable of some 130 bytes that calls exit(0). Source: elf(5)."""
    machine, code = _CODE[os.uname().machine]
    size = _HEADERS + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    # An executable with one program header right behind this one, entered right behind that.
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    # To be loaded as it is, readable and executable.
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code
