"""Debian's cloud kernel: its package downloaded and unpacked into a cache, its modules found with what they depend on."""

from __future__ import annotations

import lzma
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

PACKAGE = "linux-image-cloud-amd64"


class Kernel(NamedTuple):
    """An unpacked kernel package."""

    version: str
    image: Path
    modules: Path

    def load_order(self, names: tuple[str, ...]) -> list[Path]:
        """The files of these modules and of those they need, each after what it needs; what is built in has none."""
        files = {path.name.partition(".")[0].replace("-", "_"): path for path in self.modules.rglob("*.ko*")}
        order: list[Path] = []

        def add(name: str) -> None:
            path = files.get(name.replace("-", "_"))
            if path is None or path in order:
                return
            for needed in _needs(path):
                add(needed)
            order.append(path)

        for name in names:
            add(name)
        return order


def unpacked(cache: Path) -> Kernel:
    """The kernel below ``cache``, downloaded where it isn't there. Raises CalledProcessError."""
    listed = subprocess.run(["apt-cache", "depends", PACKAGE], capture_output=True, text=True, check=True).stdout
    match = re.search(r"Depends: (linux-image-\S+)", listed)
    if match is None:
        raise SystemExit(f"apt knows no {PACKAGE}: apt-get update")
    package = match[1]
    directory = cache / package
    if not directory.exists():
        partial = cache / f"{package}.partial"
        partial.mkdir(exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", package], cwd=partial, check=True)
        (archive,) = partial.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, partial], check=True)
        archive.unlink()
        partial.rename(directory)
    (image,) = directory.glob("boot/vmlinuz-*")
    (modules,) = [*directory.glob("lib/modules/*"), *directory.glob("usr/lib/modules/*")]
    return Kernel(image.name.removeprefix("vmlinuz-"), image, modules)


def plain(module: Path) -> bytes:
    """A module's bytes, decompressed."""
    data = module.read_bytes()
    return lzma.decompress(data) if module.suffix == ".xz" else data


def _needs(module: Path) -> list[str]:
    match = re.search(rb"\0depends=([^\0]*)\0", plain(module))
    return [name.decode() for name in match[1].split(b",") if name] if match else []
