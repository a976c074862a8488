"""The image every engine runs in the benchmarks: Debian's static busybox, and the bundle of the same for runtimes.

Beside it there is ``nothing``, a program that costs no more than any has to.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from benchmarks.engine import Engine
from benchmarks.nothing import nothing

NAME = "bench-busybox:latest"


def _layer() -> bytes:
    out = io.BytesIO()
    binary = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for directory in ("bin", "etc", "root", "tmp", "proc", "sys", "dev", "var"):
            info = tarfile.TarInfo(directory)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        info = tarfile.TarInfo("bin/busybox")
        info.mode, info.size = 0o755, len(binary)
        tar.addfile(info, io.BytesIO(binary))
        program = nothing()
        info = tarfile.TarInfo("bin/nothing")
        info.mode, info.size = 0o755, len(program)
        tar.addfile(info, io.BytesIO(program))
        for applet in ("sh", "true", "sleep", "cat", "echo", "yes", "head", "dd"):
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type, info.linkname = tarfile.SYMTYPE, "/bin/busybox"
            tar.addfile(info)
    return out.getvalue()


def archive() -> bytes:
    """A docker-archive of the image."""
    layer = _layer()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": {"Cmd": ["true"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": [NAME], "Layers": ["layer.tar"]}]).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in ((name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


async def load(engine: Engine) -> None:
    """Give the image to an engine."""
    connection = engine.connection()
    status, answer = await connection.call("POST", "/v1.41/images/load?quiet=1", archive(), "application/x-tar")
    if status != 200 or b"errorDetail" in answer:
        raise RuntimeError(f"{engine.name}: load: {status} {answer!r}")
    connection.close()


def bundle(home: Path) -> Path:
    """An OCI bundle of the image for runc and crun: no network set-up, no terminal, ``true``."""
    root = home / "bundle" / "rootfs"
    root.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(_layer())) as tar:
        tar.extractall(root, filter="fully_trusted")
    subprocess.run(["runc", "spec"], cwd=root.parent, check=True)
    path = root.parent / "config.json"
    spec = json.loads(path.read_text())
    spec["process"] |= {"terminal": False, "args": ["true"], "env": ["PATH=/bin"]}
    spec["process"].pop("rlimits", None)
    path.write_text(json.dumps(spec))
    return root.parent
