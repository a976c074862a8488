"""How many bytes a directory holds."""

from __future__ import annotations

import os


def size_of(directory: str) -> int:
    """Bytes of the files below a directory, each hard link counted once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for path, directories, files in os.walk(directory):
        for name in (*directories, *files):
            try:
                status = os.lstat(f"{path}/{name}")
            except FileNotFoundError:
                continue
            if status.st_nlink > 1 and not os.path.isdir(f"{path}/{name}"):
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            total += status.st_size
    return total
