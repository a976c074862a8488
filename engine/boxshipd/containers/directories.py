"""The containers' directories: made at creation, moved aside at removal and emptied when nobody waits for it."""

from __future__ import annotations

import asyncio
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

from boxshipd.containers.host_files import TARGETS

# By this file, which Docker gives every container, programs tell that they run in one.
_MARK = "/.dockerenv"

# Below a container's directory; ``runtime`` is the runtime's, for its exit record.
_PARTS = ("upper", "work", "runtime")

# The runtime's has at most the exit record left in it.
_RUNTIME = "runtime"

# Empty where a container has written nothing; the first is the overlay's own.
_EMPTY = ("work/work", "work", "upper")


def mount_points(data_root: str) -> str:
    """The layer below every image that holds what each container gets mounted over, so that none has to make it.

    Being the lowest, it gives way to whatever an image has in the same places.
    """
    return f"{data_root}/mount-points"


def _make_mount_points(root: str) -> None:
    for directory in ("", "/dev", "/etc", "/proc", "/sys"):
        os.makedirs(root + directory, exist_ok=True)
        os.chmod(root + directory, 0o755)
    for target, mode in (*((target, 0o644) for target in TARGETS.values()), (_MARK, 0o755)):
        descriptor = os.open(root + target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        os.fchmod(descriptor, mode)
        os.close(descriptor)


class Directories:
    """``<data root>/containers/<id>``, and ``<data root>/trash`` for those that are to go."""

    def __init__(self, data_root: str) -> None:
        self.root = f"{data_root}/containers"
        self._trash = f"{data_root}/trash"
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="trash")
        self._count = 0
        for path in (self.root, self._trash):
            os.makedirs(path, mode=0o710, exist_ok=True)
        _make_mount_points(mount_points(data_root))

    def path(self, container_id: str) -> str:
        """A container's directory."""
        return f"{self.root}/{container_id}"

    def make(self, container_id: str, *, local_log: bool = False) -> None:
        """Make a container's directory.

        Args:
            container_id: the container's.
            local_log: with a place for the ``local`` driver's files.

        Raises:
            OSError: it can't be made.
        """
        path = self.path(container_id)
        os.mkdir(path, 0o710)
        for part in _PARTS:
            os.mkdir(f"{path}/{part}", 0o755 if part == "upper" else 0o700)
        # The umask must not narrow what the container sees as its root.
        os.chmod(f"{path}/upper", 0o755)
        if local_log:
            os.mkdir(f"{path}/local-logs", 0o700)

    def discard(self, container_id: str) -> None:
        """Move a container's directory, if there is one, out of sight at once and delete it later."""
        self._count += 1
        aside = f"{self._trash}/{container_id}.{self._count}"
        try:
            os.rename(self.path(container_id), aside)
        except FileNotFoundError:
            return
        self._pool.submit(_delete, aside)

    def sweep(self, known: set[str]) -> list[str]:
        """Discard directories without a record, and what is left in the trash; the ids of the former."""
        strangers = [name for name in os.listdir(self.root) if name not in known]
        for name in strangers:
            self.discard(name)
        for name in os.listdir(self._trash):
            self._pool.submit(_delete, f"{self._trash}/{name}")
        return strangers

    async def settle(self) -> None:
        """Wait until everything discarded so far is deleted."""
        await asyncio.get_running_loop().run_in_executor(self._pool, int)

    def close(self) -> None:
        """Finish deleting."""
        self._pool.shutdown(wait=True)


def _delete(path: str) -> None:
    """Delete a tree; what can't be deleted now is tried again at the daemon's next start."""
    # Most containers have written nothing; going for what every one has spares the general walk, which costs ten times as much.
    try:
        for name in _EMPTY:
            os.rmdir(f"{path}/{name}")
        for name in (_RUNTIME, ""):
            for entry in os.listdir(f"{path}/{name}"):
                if entry != _RUNTIME:
                    os.unlink(f"{path}/{name}/{entry}")
            os.rmdir(f"{path}/{name}")
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
