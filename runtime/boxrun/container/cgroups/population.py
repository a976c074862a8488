"""A cgroup2 directory's processes: listing, signalling, killing, freezing them and waiting for their end.

Both implementations use it, since cgroup2 is mounted with either. Source: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal as signals
import time
from collections.abc import Iterator

from boxrun.container.cgroups import tree
from boxrun.container.cgroups.errors import CgroupBusyError, CgroupError


class Population:
    """The processes of one cgroup2 group and of the groups below it.

    Args:
        directory: the group's directory, which stays the caller's to close.
        name: the group's path, for messages.
    """

    __slots__ = ("_directory", "_name")

    def __init__(self, directory: int, name: str) -> None:
        self._directory = directory
        self._name = name

    def pids(self) -> list[int]:
        """Every process, in the caller's pid namespace's numbers. Raises CgroupError."""
        try:
            return tree.pids(self._directory)
        except OSError as error:
            raise CgroupError(f"list processes of cgroup {self._name}: {error.strerror}") from error

    def kill(self) -> None:
        """Kill every process; one that forks meanwhile can't escape. A group that is gone has none. Raises CgroupError."""
        try:
            tree.write(self._directory, "cgroup.kill", "1")
        except FileNotFoundError:
            # Before Linux 5.14 there is no such file: nothing can fork out of a frozen group.
            if tree.exists(self._directory, "cgroup.freeze"):
                self.signal(signals.SIGKILL)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise CgroupError(f"kill cgroup {self._name}: {error.strerror}") from error

    def signal(self, signum: int) -> None:
        """Send ``signum`` to every process, none forked meanwhile being left out. Raises CgroupError."""
        with self.stopped():
            for pid in self.pids():
                # The numbers are read first, so that a process may have ended since.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Nothing of the group runs, and so nothing forks, within this context; a group frozen before stays frozen after."""
        frozen = self.frozen()
        self.freeze()
        try:
            yield
        finally:
            if not frozen:
                self.thaw()

    def freeze(self, timeout: float = 10.0) -> None:
        """Stop every process and wait until they have stopped; on failure they run again.

        Args:
            timeout: in seconds.

        Raises:
            CgroupBusyError: some process didn't stop in time.
            CgroupError: the kernel refused.
        """
        self._freeze("1")
        if not self._wait("frozen", 1, timeout):
            self._freeze("0")
            raise CgroupBusyError(f"freeze cgroup {self._name}: not frozen after {timeout:g} s")

    def thaw(self) -> None:
        """Let the processes run. Raises CgroupError."""
        self._freeze("0")

    def wait_empty(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the last process's end; whether it came."""
        return self._wait("populated", 0, timeout)

    def frozen(self) -> bool:
        """Whether the group is frozen, or about to be. Raises CgroupError."""
        try:
            return tree.read(self._directory, "cgroup.freeze").strip() == "1"
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENOENT):
                return False
            raise CgroupError(f"freeze cgroup {self._name}: {error.strerror}") from error

    def _freeze(self, value: str) -> None:
        try:
            tree.write(self._directory, "cgroup.freeze", value)
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.ENOENT):
                raise CgroupError(f"freeze cgroup {self._name}: {error.strerror}") from error

    def _wait(self, key: str, value: int, timeout: float) -> bool:
        """Wait until ``key`` of cgroup.events has ``value``. A group that is gone is empty and stands still."""
        try:
            events = os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:
            return True
        try:
            poller = select.poll()
            poller.register(events, select.POLLPRI)
            deadline = time.monotonic() + timeout
            # Reading arms the notification, so that a change after it is never missed.
            while tree.numbers(os.pread(events, 4096, 0).decode("ascii")).get(key) != value:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                poller.poll(left * 1000)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return True
            raise CgroupError(f"watch cgroup {self._name}: {error.strerror}") from error
        finally:
            os.close(events)
        return True


def end_processes(directory: int, deadline: float) -> None:
    """Kill the processes of a v1 group, which has neither kill file nor events, and wait for each until ``deadline``.

    Args:
        directory: the v1 group's directory.
        deadline: as ``time.monotonic`` counts.
    """
    for pid in tree.pids(directory):
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            signals.pidfd_send_signal(process, signals.SIGKILL)
            poller = select.poll()
            poller.register(process, select.POLLIN)
            poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
        except ProcessLookupError:
            continue
        finally:
            os.close(process)
