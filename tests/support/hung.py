"""A file system whose server has stopped answering, as a dead network's does: whoever looks into it waits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boxrun.linux import mounts


@contextmanager
def hung_file_system(path: Path) -> Iterator[Path]:
    """A directory of a FUSE file system that nobody serves; what waits for it fails when the block is left. Source: fuse(4)."""
    path.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
        mounts.mount("hung", str(path), "fuse", 0, options)
        yield path / "inside"
    finally:
        os.close(device)
        subprocess.run(["umount", "-l", path], check=True)
