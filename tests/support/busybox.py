"""The image that tests run: Debian's static busybox."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path


def busybox_archive() -> bytes:
    """A docker-archive of an image made from Debian's static busybox: ``busybox:latest``."""
    root = io.BytesIO()
    with tarfile.open(fileobj=root, mode="w") as tar:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("home", 0o755), ("proc", 0o555),
                                ("sys", 0o555), ("dev", 0o755), ("var", 0o755)):  # fmt: skip
            info = tarfile.TarInfo(directory)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
        binary = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
        info = tarfile.TarInfo("bin/busybox")
        info.mode, info.size = 0o755, len(binary)
        tar.addfile(info, io.BytesIO(binary))
        for applet in subprocess.check_output(["busybox", "--list"], text=True).split():
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type, info.linkname = tarfile.SYMTYPE, "/bin/busybox"
            if applet != "busybox":
                tar.addfile(info)
        files = {
            "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbox:x:1000:1000:Box:/home/box:/bin/sh\n",
            "etc/group": "root:x:0:\ndaemon:x:1:\nbox:x:1000:\nextra:x:2000:box\n",
        }
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.mode, info.size = 0o644, len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    layer = root.getvalue()
    config = json.dumps(
        {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "busybox"}],
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": ["busybox:latest"], "Layers": ["layer.tar"]}]).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in ((name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
