"""Volumes' directories: ``<data root>/volumes/<name>/_data``.

A volume is made aside and moved to its place once its record is durable; it is moved aside before its record goes. So a crash
at any point leaves either the whole volume or none: what is aside and on record is moved back, what isn't on record is removed,
and a directory that nobody moved stays, record or not, for it may hold somebody's data.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from boxshipd.images.unpack.removal import remove_tree

_MODE = 0o701
_STAGED = ".staged"
_ASIDE = ".removed"
DATA = "_data"
"""The directory inside a volume's own that holds its content."""


class VolumeDirectories:
    """The directories below one root."""

    def __init__(self, root: str) -> None:
        self.root = root
        # Threads of our own, made when first needed: what takes long here must not keep others waiting.
        self._trash = ThreadPoolExecutor(1, thread_name_prefix="volume-trash")
        self.workers = ThreadPoolExecutor(2, thread_name_prefix="volumes")
        """For work on volumes' content."""
        for path in (root, f"{root}/{_STAGED}", f"{root}/{_ASIDE}"):
            os.makedirs(path, mode=_MODE, exist_ok=True)
            os.chmod(path, _MODE)

    @property
    def aside(self) -> str:
        """A directory for what isn't whole yet; it is emptied at the daemon's start."""
        return f"{self.root}/{_STAGED}"

    def path(self, name: str) -> str:
        """Where a volume's content is."""
        return f"{self.root}/{name}/{DATA}"

    def staged(self, name: str) -> str:
        """Where a volume's content is before its record."""
        return f"{self.root}/{_STAGED}/{name}/{DATA}"

    def stage(self, name: str) -> str:
        """Make an empty volume aside; where its content is to go.

        Raises:
            OSError: it can't be made.
        """
        parent = f"{self.root}/{_STAGED}/{name}"
        os.mkdir(parent, _MODE)
        os.chmod(parent, _MODE)
        data = f"{parent}/{DATA}"
        os.mkdir(data, 0o755)
        os.chmod(data, 0o755)
        return data

    def publish(self, name: str) -> None:
        """Move a staged volume to its place.

        Raises:
            OSError: it can't be moved.
        """
        os.rename(f"{self.root}/{_STAGED}/{name}", f"{self.root}/{name}")

    def unstage(self, name: str) -> None:
        """Give a staged volume up."""
        self._discard(f"{self.root}/{_STAGED}/{name}")

    def set_aside(self, name: str) -> None:
        """Move a volume out of its place, to come back or to be removed.

        Raises:
            OSError: it can't be moved.
        """
        os.rename(f"{self.root}/{name}", f"{self.root}/{_ASIDE}/{name}")

    def bring_back(self, name: str) -> None:
        """Move a volume that was set aside back.

        Raises:
            OSError: it can't be moved.
        """
        os.rename(f"{self.root}/{_ASIDE}/{name}", f"{self.root}/{name}")

    def discard(self, name: str) -> None:
        """Remove a volume that was set aside, when nobody waits for it."""
        self._discard(f"{self.root}/{_ASIDE}/{name}")

    def recover(self, recorded: Collection[str]) -> list[str]:
        """Settle what a crash has left.

        Args:
            recorded: the volumes on record.

        Returns:
            The names of directories without a record.
        """
        places = set(os.listdir(self.root))
        for aside in (_ASIDE, _STAGED):
            for name in os.listdir(f"{self.root}/{aside}"):
                if name in recorded and name not in places:
                    os.rename(f"{self.root}/{aside}/{name}", f"{self.root}/{name}")
                    places.add(name)
                else:
                    self._discard(f"{self.root}/{aside}/{name}")
        for name in recorded:
            if name not in places:
                os.makedirs(self.path(name), 0o755)
        return [name for name in places if not name.startswith(".") and name not in recorded]

    async def settle(self) -> None:
        """Wait until everything discarded so far is deleted."""
        await asyncio.get_running_loop().run_in_executor(self._trash, int)

    def close(self) -> None:
        """Finish what is under way."""
        self.workers.shutdown(wait=True)
        self._trash.shutdown(wait=True)

    def _discard(self, path: str) -> None:
        # A name of its own, so that another volume of the same name can come and go meanwhile.
        doomed = f"{self.root}/{_ASIDE}/.{secrets.token_hex(16)}"
        try:
            os.rename(path, doomed)
        except FileNotFoundError:
            return
        self._trash.submit(_delete, doomed)


def _delete(path: str) -> None:
    """Delete a tree; what can't be deleted now is tried again at the daemon's next start."""
    try:
        remove_tree(path)
    except OSError:
        return
