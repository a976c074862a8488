"""The directory in which another OCI runtime finds its container, and keeps what it knows of it.

Below the container's state directory: ``config.json``, ``rootfs`` and ``trees`` (mount points, used in a private mount
namespace only), ``state`` (the runtime's own), and ``log``, ``pid`` and ``console``, by which the runtime answers.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

_NAME: Final = "oci"


class Bundle:
    """A bundle by its path."""

    def __init__(self, state_dir: str) -> None:
        self.path = f"{state_dir}/{_NAME}"
        self.config = f"{self.path}/config.json"
        self.rootfs = f"{self.path}/rootfs"
        self.trees = f"{self.path}/trees"
        self.state = f"{self.path}/state"
        self.log = f"{self.path}/log"
        self.pid_file = f"{self.path}/pid"

    def make(self) -> None:
        """Make it anew."""
        self.remove()
        os.mkdir(self.path, 0o700)
        # A remapped root has to get through to its file system.
        os.chmod(self.path, 0o711)
        for path in (self.rootfs, self.trees, self.state):
            os.mkdir(path, 0o711)

    def write(self, config: bytes) -> None:
        """Write the configuration."""
        fd = os.open(self.config, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(config)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Remove everything of it; what isn't there is fine."""
        _remove(self.path)


def _remove(path: str) -> None:
    try:
        entries = list(os.scandir(path))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            _remove(entry.path)
        else:
            with suppress(FileNotFoundError):
                os.unlink(entry.path)
    with suppress(FileNotFoundError):
        os.rmdir(path)
