"""Errors of the cgroup layer.

BoxrunError
└── CgroupError                 the kernel or the request was refused; the message names the operation and the group
    ├── CgroupUnavailableError  the machine has no cgroup file system this package can work with
    ├── InvalidLimitError       a limit or a name that no kernel could accept
    └── CgroupBusyError         a group that should be empty isn't, and didn't become so in time
"""

from __future__ import annotations

from boxrun.errors import BoxrunError


class CgroupError(BoxrunError):
    """A cgroup operation failed."""


class CgroupUnavailableError(CgroupError):
    """No usable cgroup file system is mounted."""


class InvalidLimitError(CgroupError):
    """A limit, path or name is not one a kernel could accept."""


class CgroupBusyError(CgroupError):
    """Processes are still in a group that had to be empty."""
