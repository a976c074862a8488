"""What a program needs to run, by its ELF headers.

Source: elf(5); ld.so(8), option ``--list``.
"""

from __future__ import annotations

import re
import struct
import subprocess

_MAGIC = b"\x7fELF"
_PT_INTERP = 3
_LISTED = re.compile(r"(?:=>\s+)?(/\S+)\s+\(0x[0-9a-f]+\)")


def interpreter(path: str) -> str | None:
    """The dynamic linker that a program names; empty where it needs none, None where it is no ELF program."""
    with open(path, "rb") as file:
        header = file.read(64)
        if header[:4] != _MAGIC or len(header) < 52:
            return None
        wide, order = header[4] == 2, "<" if header[5] == 1 else ">"
        if wide:
            offset = struct.unpack_from(f"{order}Q", header, 32)[0]
            size, count = struct.unpack_from(f"{order}HH", header, 54)
        else:
            offset = struct.unpack_from(f"{order}I", header, 28)[0]
            size, count = struct.unpack_from(f"{order}HH", header, 42)
        file.seek(offset)
        table = file.read(size * count)
        for position in range(0, len(table) - size + 1, size):
            if struct.unpack_from(f"{order}I", table, position)[0] != _PT_INTERP:
                continue
            fields = f"{order}8xQ16xQ" if wide else f"{order}4xI8xI"
            start, length = struct.unpack_from(fields, table, position)
            file.seek(start)
            return file.read(length).rstrip(b"\0").decode()
    return ""


def is_static(path: str) -> bool:
    """Whether a program runs without a dynamic linker."""
    return interpreter(path) == ""


def libraries(path: str) -> list[str] | None:
    """The paths of the dynamic linker and of all libraries that a program of this machine needs.

    None where it is no ELF program.
    """
    linker = interpreter(path)
    if linker is None:
        return None
    if not linker:
        return []
    listed = subprocess.run([linker, "--list", path], capture_output=True, text=True, check=False, timeout=30, env={})
    return sorted({linker, *_LISTED.findall(listed.stdout)})
