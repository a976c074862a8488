"""An image with this machine's Python, for suites that are written for Docker's ``python`` image."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sysconfig
import tarfile
from pathlib import Path

_LEFT_OUT = {
    "test",
    "__pycache__",
    "site-packages",
    "dist-packages",
    "idlelib",
    "ensurepip",
    "tkinter",
    "turtledemo",
    "lib2to3",
}
_LEFT_OUT_KINDS = (".a", ".pyc")


def python_root() -> bytes:
    """A root file system as a tar: Python's interpreter and library where they are here, ``python`` and a static busybox in /bin."""
    library = Path(sysconfig.get_path("stdlib"))
    interpreter = Path(sysconfig.get_config_var("BINDIR")) / f"python{sysconfig.get_config_var('py_version_short')}"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("proc", 0o555), ("sys", 0o555), ("tmp", 0o1777)):
            _directory(tar, name, mode)
        _file(tar, Path(shutil.which("busybox") or "/bin/busybox"), "bin/busybox")
        for applet in ("sh", "sleep", "cat", "echo", "ls", "true"):
            _link(tar, f"bin/{applet}", "/bin/busybox")
        _file(tar, interpreter.resolve(), str(interpreter)[1:])
        # Under its own name, as it finds its library from where it is.
        _link(tar, "bin/python", str(interpreter))
        extensions = sorted((library / "lib-dynload").glob("*.so"))
        for shared in sorted(_shared_libraries(interpreter, *extensions)):
            _file(tar, Path(shared).resolve(), shared[1:])
        tar.add(library, str(library)[1:], filter=_wanted)
    return out.getvalue()


def _wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = os.path.basename(info.name)
    left_out = name in _LEFT_OUT or name.endswith(_LEFT_OUT_KINDS) or name.startswith("config-")
    return None if left_out else info


def _shared_libraries(*programs: Path) -> set[str]:
    """What the dynamic linker loads for them, itself included."""
    found = set()
    for program in programs:
        listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
        found |= set(re.findall(r"(/\S+) \(0x", listed))
    return found


def _directory(tar: tarfile.TarFile, name: str, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    tar.addfile(info)


def _file(tar: tarfile.TarFile, source: Path, name: str) -> None:
    data = source.read_bytes()
    info = tarfile.TarInfo(name)
    info.mode, info.size = 0o755, len(data)
    tar.addfile(info, io.BytesIO(data))


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)
