"""What a container gets unless told otherwise, as data: capabilities, mounts, devices, masked and read-only paths.

The daemon builds specs from these lists; they are Docker's (moby daemon/pkg/oci/defaults.go and caps/defaults.go).
"""

from __future__ import annotations

from typing import Final

from boxrun.container.capabilities import CAPABILITIES, bounding_set
from boxrun.container.spec import Device, DeviceRule, Mount

#: Docker's fourteen.
DEFAULT_CAPABILITIES: Final[tuple[str, ...]] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

_BOUNDING: Final = bounding_set()

#: Every capability that this kernel has and that this process may hand on.
ALL_CAPABILITIES: Final[tuple[str, ...]] = tuple(name for name, bit in CAPABILITIES.items() if _BOUNDING >> bit & 1)

#: Hidden from unprivileged containers; entries with ``*`` stand for every match that exists in the container.
MASKED_PATHS: Final[tuple[str, ...]] = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/devices/system/cpu/cpu*/thermal_throttle",
)

READONLY_PATHS: Final[tuple[str, ...]] = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

#: Docker's ``--shm-size`` default, in bytes.
DEFAULT_SHM_SIZE: Final = 64 << 20

#: Made in every container's own /dev, whatever ``Spec.devices`` adds.
DEFAULT_DEVICES: Final[tuple[Device, ...]] = tuple(
    Device(source=path, target=path)
    for path in ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
)


def default_mounts(
    *,
    privileged: bool = False,
    shm_size: int = DEFAULT_SHM_SIZE,
    ipc: str = "private",
    cgroup_writable: bool | None = None,
    user_namespace_host_net: bool = False,
) -> tuple[Mount, ...]:
    """Return the mounts every container begins with; the container's own binds, volumes and tmpfs come after them.

    Args:
        privileged: make /sys and /sys/fs/cgroup writable.
        shm_size: bytes of /dev/shm.
        ipc: ``private`` or ``shareable`` mount a fresh /dev/shm; ``none`` mounts none; with ``host`` or ``container`` the
            caller binds the other one's itself.
        cgroup_writable: overrides ``privileged`` for /sys/fs/cgroup.
        user_namespace_host_net: bind the host's /sys instead of mounting one, which a user namespace without a network
            namespace of its own isn't allowed to.
    """
    readonly = not privileged
    cgroup_readonly = readonly if cgroup_writable is None else not cgroup_writable
    sys: Mount
    if user_namespace_host_net:
        sys = Mount(kind="bind", source="/sys", target="/sys", options=("nosuid", "noexec", "nodev"), readonly=readonly)
    else:
        sys = Mount(kind="sysfs", target="/sys", options=("nosuid", "noexec", "nodev"), readonly=readonly)
    mounts = [
        Mount(kind="proc", target="/proc", options=("nosuid", "noexec", "nodev")),
        Mount(kind="tmpfs", target="/dev", options=("nosuid", "strictatime", "mode=755", "size=65536k")),
        Mount(kind="devpts", target="/dev/pts", options=("nosuid", "noexec", "ptmxmode=0666", "mode=0620", "gid=5")),
        sys,
        Mount(kind="cgroup", target="/sys/fs/cgroup", options=("nosuid", "noexec", "nodev"), readonly=cgroup_readonly),
        Mount(kind="mqueue", target="/dev/mqueue", options=("nosuid", "noexec", "nodev")),
    ]
    if ipc in ("private", "shareable"):
        options = ("nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}")
        mounts.append(Mount(kind="tmpfs", source="shm", target="/dev/shm", options=options))
    return tuple(mounts)


def default_device_rules(*, privileged: bool = False) -> tuple[DeviceRule, ...]:
    """Return the device controller's list: everything where ``privileged``, else Docker's (moby oci/devices.go)."""
    if privileged:
        return (DeviceRule(allow=True, kind="a"),)
    allowed = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, -1))
    return (
        DeviceRule(allow=False, kind="a"),
        DeviceRule(allow=True, kind="c", access="m"),
        DeviceRule(allow=True, kind="b", access="m"),
        *(DeviceRule(allow=True, kind="c", major=major, minor=minor) for major, minor in allowed),
    )
