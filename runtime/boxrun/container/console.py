"""The container's terminal: a pty of the container's own devpts instance.

The host's side opens the master from the still detached devpts, so that it never passes through the container; the child asks
the master for its other side (TIOCGPTPEER) and mounts that on /dev/console by descriptor. No path under /dev/pts is ever
looked up, so there is none to swap (CVE-2025-52565). Sources: pts(4), ioctl_tty(2).
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios
from typing import Final

from boxrun.linux import mounts
from boxrun.linux.files import openat2

_TIOCGPTPEER: Final = 0x5441
_TIOCSPTLCK: Final = 0x40045431
_UNLOCK: Final = struct.pack("i", 0)
_PTS_MAJORS: Final = range(136, 144)


def open_master(devpts_fd: int) -> int:
    """Open a new terminal of the devpts instance ``devpts_fd`` and return its master side."""
    master_fd = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=devpts_fd)
    unlock(master_fd)
    return master_fd


def unlock(master_fd: int) -> None:
    """Let a new terminal's other side be opened."""
    fcntl.ioctl(master_fd, _TIOCSPTLCK, _UNLOCK)


def set_size(fd: int, height: int, width: int) -> None:
    """Set the terminal's size in characters."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def open_slave(master_fd: int) -> int:
    """Return the terminal's other side, without it becoming anybody's controlling terminal.

    Raises:
        OSError: what came isn't a pty.
    """
    slave_fd: int = fcntl.ioctl(master_fd, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    found = os.fstat(slave_fd)
    if not stat.S_ISCHR(found.st_mode) or os.major(found.st_rdev) not in _PTS_MAJORS:
        os.close(slave_fd)
        raise OSError(25, "not a pseudo terminal", "open terminal")
    return slave_fd


def mount_console(slave_fd: int, dev_fd: int) -> None:
    """Mount the terminal on ``console`` in the directory ``dev_fd``."""
    tree_fd = mounts.open_tree("", dir_fd=slave_fd)
    try:
        target_fd = openat2(dev_fd, "console", os.O_PATH | os.O_NOFOLLOW, resolve=0)
        try:
            mounts.move_mount(tree_fd, target_fd)
        finally:
            os.close(target_fd)
    finally:
        os.close(tree_fd)


def take(slave_fd: int) -> None:
    """Make the terminal standard input, output and error and the session's controlling terminal."""
    control(slave_fd)
    spread(slave_fd)


def control(slave_fd: int) -> None:
    """Make the terminal the session's controlling one."""
    fcntl.ioctl(slave_fd, termios.TIOCSCTTY, 0)


def spread(slave_fd: int) -> None:
    """Make the terminal standard input, output and error."""
    for fd in (0, 1, 2):
        os.dup2(slave_fd, fd)
