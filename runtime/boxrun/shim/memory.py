"""Being told that the kernel has killed a process of the container for want of memory."""

from __future__ import annotations

import os
from contextlib import suppress

from boxrun.container.cgroups import Cgroups
from boxrun.container.cgroups.errors import CgroupError
from boxrun.container.spec import Cgroup


class MemoryWatch:
    """One container's.

    Attributes:
        fd: shows ``events`` (poll(2)) when memory runs out; -1 where nothing tells.
        kills: how many have been killed.
    """

    __slots__ = ("_cgroups", "_group", "events", "fd", "kills")

    def __init__(self, cgroups: Cgroups, group: Cgroup, fd: int, events: int, kills: int = 0) -> None:
        self._cgroups = cgroups
        self._group = group
        self.fd = fd
        self.events = events
        self.kills = kills
        if fd >= 0:
            os.set_blocking(fd, False)

    def noticed(self) -> bool:
        """Take a notice away, and count; whether another process has been killed."""
        # Reading takes it away: an eventfd as it is, cgroup2's file from its start.
        try:
            os.pread(self.fd, 4096, 0)
        except OSError:
            with suppress(BlockingIOError):
                os.read(self.fd, 8)
        return self.count()

    def count(self) -> bool:
        """Count anew; whether there are more than before."""
        try:
            with self._cgroups.open(self._group) as group:
                kills = group.oom_kills()
        except (CgroupError, OSError):
            return False
        before, self.kills = self.kills, max(self.kills, kills)
        return self.kills > before

    def close(self) -> None:
        """Be told no more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
