"""Control groups: limits, killing, freezing and out-of-memory counts of containers, on cgroup v2 and on v1 beside it.

``detect()`` looks at the machine once and returns the implementation for it.
Reference: cgroups(7), the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

from boxrun.container.cgroups.detection import detect
from boxrun.container.cgroups.errors import CgroupBusyError, CgroupError, CgroupUnavailableError, InvalidLimitError
from boxrun.container.cgroups.model import Cgroups, Group

__all__ = ["CgroupBusyError", "CgroupError", "CgroupUnavailableError", "Cgroups", "Group", "InvalidLimitError", "detect"]
