"""The machine's file systems: an initramfs that finds the disk, and a disk with Python, busybox and the checkout."""

from __future__ import annotations

import compileall
import gzip
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from kernel import Kernel, plain

BOOT_MODULES = ("virtio_pci", "virtio_blk")
MODULES = ("overlay", "veth")
PROGRAMS = ("runc", "crun", "ip", "nsenter", "ps")
LIBRARIES = ("libseccomp.so.2",)
"""What is opened by name at run time, and so isn't found in any program."""
NOT_NEEDED = frozenset(
    ["mypy", "mypyc", "ruff", "pip", "setuptools", "pkg_resources", "grpc", "hypothesis", "docker", "xdist", "pytest_xdist"]
)
"""Packages that no test in the machine imports."""
_STDLIB_LEFT_OUT = (
    "test",
    "tests",
    "site-packages",
    "dist-packages",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
)
_ROOM = 160 << 20
"""Bytes the disk has beyond what is put there."""


def initramfs(work: Path, kernel: Kernel) -> Path:
    """busybox and the modules of the disk; it goes on with what is on the disk."""
    root = work / "initramfs"
    (root / "modules").mkdir(parents=True)
    (root / "bin").mkdir()
    shutil.copy(_busybox(), root / "bin/busybox")
    order = kernel.load_order((*BOOT_MODULES, *MODULES))
    for module in order:
        (root / "modules" / module.name.removesuffix(".xz")).write_bytes(plain(module))
    loads = "\n".join(f"busybox insmod /modules/{module.name.removesuffix('.xz')}" for module in order)
    init = root / "init"
    init.write_text(
        "#!/bin/busybox sh\n"
        "export PATH=/bin\n"
        "busybox mkdir -p /proc /dev /root\n"
        "busybox mount -t devtmpfs none /dev\n"
        f"{loads}\n"
        "while [ ! -b /dev/vda ]; do busybox usleep 10000; done\n"
        "busybox mount -t ext4 /dev/vda /root\n"
        "busybox mount -o move /dev /root/dev\n"
        "exec busybox switch_root /root /init\n"
    )
    init.chmod(0o755)
    listing = b"\0".join(str(path.relative_to(root)).encode() for path in sorted(root.rglob("*")))
    archive = subprocess.run(
        ["cpio", "--null", "-o", "-H", "newc", "--quiet"], cwd=root, input=listing, capture_output=True, check=True
    ).stdout
    path = work / "initramfs.gz"
    path.write_bytes(gzip.compress(archive, 1))
    return path


def root_disk(work: Path, top: Path, arguments: list[str], passed: str) -> Path:
    """The root file system.

    Args:
        work: where it is made.
        top: the checkout.
        arguments: pytest's.
        passed: what the machine says where pytest was content.
    """
    root = work / "root"
    for name in ("bin", "sbin", "proc", "sys", "dev", "tmp", "run", "etc", "root", "var", "usr/bin", "site", "checkout"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(_busybox(), root / "bin/busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    interpreter = _python(root)
    _programs(root, [Path(found) for name in PROGRAMS if (found := shutil.which(name))])
    for name in ("client", "engine", "runtime", "tests", "pyproject.toml"):
        source = top / name
        if source.is_dir():
            shutil.copytree(source, root / "checkout" / name)
        else:
            shutil.copy(source, root / "checkout" / name)
    # Each process in the machine would otherwise compile all that it imports: half a minute for a daemon.
    compileall.compile_dir(root / "checkout", quiet=1, stripdir=str(root), workers=0)
    init = root / "init"
    init.write_text(_INIT.format(python=interpreter, tests=" ".join(map(shlex.quote, arguments)), passed=passed))
    init.chmod(0o755)
    disk = work / "disk"
    size = sum(path.lstat().st_size for path in root.rglob("*")) * 5 // 4 + _ROOM
    disk.touch()
    os.truncate(disk, size)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", root, disk], check=True, env={**os.environ, "PATH": _PATH}
    )
    return disk


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_INIT = """#!/bin/busybox sh
# Programs of the host first, busybox for everything else.
export PATH=/usr/bin:/usr/sbin:/bin:/sbin HOME=/root TMPDIR=/tmp
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 none /dev/pts
ln -sf pts/ptmx /dev/ptmx
mount -t tmpfs -o mode=1777 none /dev/shm
mount -t tmpfs -o mode=1777,size=1g none /tmp
mount -t tmpfs -o mode=755 none /run
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up
hostname machine
ulimit -n 65536
echo "cgroup2 with $(cat /sys/fs/cgroup/cgroup.controllers); $(uname -r)"
cd /checkout
export PYTHONPATH=/checkout/client:/checkout/engine:/checkout/runtime:/site BOXSHIP_TEST_PATIENCE=5
{python} -m pytest -o addopts="--strict-markers --import-mode=importlib" -p no:cacheprovider -o timeout=300 \\
    -q --color=no --durations=5 -rfE {tests} && echo "{passed}"
poweroff -f
"""


def _python(root: Path) -> str:
    """The interpreter with its library, where it is on this machine, and the packages; returns its path."""
    binary = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    _copy_tree(library, root / library.relative_to("/"), frozenset(_STDLIB_LEFT_OUT))
    for path in map(Path, dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))):
        _copy_tree(path, root / "site", NOT_NEEDED)
    _programs(root, [binary, *(path for path in root.rglob("*.so*") if path.is_file())], copied=binary)
    return str(binary)


def _copy_tree(source: Path, target: Path, left_out: frozenset[str]) -> None:
    def ignored(directory: str, names: list[str]) -> set[str]:
        # Compiled modules come along: the machine is slow at compiling them.
        return {name for name in names if directory == str(source) and name in left_out} | {
            name for name in names if name.endswith((".a", ".pth")) or name in ("test", "tests") or _about(name) in left_out
        }

    shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)


def _about(name: str) -> str:
    """The package that a directory of metadata is about; empty for any other directory."""
    return name.partition("-")[0].lower() if name.endswith(".dist-info") else ""


def _programs(root: Path, objects: Iterable[Path], copied: Path | None = None) -> None:
    """Copy programs, at their own paths, with every library that they and other ``objects`` are linked with."""
    objects = list(objects)
    wanted = {str(copied)} if copied else {str(path) for path in objects}
    listed = subprocess.run(["ldd", *map(str, objects)], capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        wanted.update(word for word in line.split() if word.startswith("/") and ".so" in word and not word.endswith(":"))
    cache = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True, env={"PATH": _PATH}).stdout
    wanted.update(line.split()[-1] for line in cache.splitlines() if line.split() and line.split()[0] in LIBRARIES)
    for path in sorted(wanted):
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def _busybox() -> str:
    found = shutil.which("busybox")
    if found is None:
        raise SystemExit("busybox is missing: .ci/packages vm")
    return found
