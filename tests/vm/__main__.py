"""Run tests in a virtual machine whose only cgroup file system is cgroup2, with every controller.

    python tests/vm [pytest's arguments]

The machine is made of Debian's cloud kernel (downloaded and unpacked, not installed), this machine's Python with the packages
its tests import, a static busybox and this checkout. qemu emulates the processor, so that it works inside a virtual machine too.
Without arguments it runs everything that is about control groups: see ``TESTS``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import image
import kernel

TOP = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/integration/cgroups",
    "tests/integration/unified",
)
TIMEOUT = 900.0
"""Seconds the whole run may take."""
PASSED = "VIRTUAL MACHINE: PASSED"


def main(arguments: list[str]) -> int:
    """Build the machine, run it, and say whether its tests passed."""
    began = time.monotonic()
    cache = TOP / "build/vm"
    cache.mkdir(parents=True, exist_ok=True)
    found = kernel.unpacked(cache)
    with tempfile.TemporaryDirectory(prefix="boxship-vm-") as directory:
        work = Path(directory)
        disk = image.root_disk(work, TOP, arguments or list(TESTS), PASSED)
        initramfs = image.initramfs(work, found)
        spare = work / "spare"
        spare.touch()
        os.truncate(spare, 64 << 20)
        print(
            f"built in {time.monotonic() - began:.1f} s: kernel {found.version}, disk {disk.stat().st_blocks * 512 >> 20} MiB"
        )
        return _run(found, initramfs, disk, spare)


def _run(found: kernel.Kernel, initramfs: Path, disk: Path, spare: Path) -> int:
    """Boot, pass on what it says, and look for the line that says it went well."""
    command = [
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "2", "-m", "2048"),
        *("-display", "none", "-serial", "stdio", "-no-reboot", "-nodefaults", "-net", "none"),
        *("-kernel", str(found.image), "-initrd", str(initramfs)),
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=unstable"),
        *("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
        *("-drive", f"file={spare},format=raw,if=virtio,cache=unsafe"),
    ]
    began, passed = time.monotonic(), False
    machine = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert machine.stdout is not None
    limit = threading.Timer(TIMEOUT, machine.kill)
    limit.start()
    try:
        for line in machine.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            passed = passed or line.strip() == PASSED
    finally:
        limit.cancel()
        machine.kill()
        machine.wait()
    print(f"ran for {time.monotonic() - began:.1f} s")
    return 0 if passed else 1


if __name__ == "__main__":
    if shutil.which("qemu-system-x86_64") is None:
        sys.exit("qemu-system-x86_64 is missing: .ci/packages vm")
    sys.exit(main(sys.argv[1:]))
