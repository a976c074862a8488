"""Capabilities by name, and giving exactly a set of them to the container's program. Source: capabilities(7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from boxrun.linux import process

_NAMES: Final = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
    "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
    "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)

#: Every capability's bit by its name. Source: linux/capability.h.
CAPABILITIES: Final[dict[str, int]] = {f"CAP_{name}": bit for bit, name in enumerate(_NAMES.split())}

_SYS_ADMIN: Final = 1 << CAPABILITIES["CAP_SYS_ADMIN"]


def bounding_set() -> int:
    """Return this process's bounding set as a bit mask."""
    mask = 0
    for bit in range(64):
        present = process.prctl_supported(process.PR_CAPBSET_READ, bit)
        if present is None:
            break
        mask |= present << bit
    return mask


_inherited: int | None = None


def inherited_bounding_set() -> int:
    """Return the bounding set this process began with; the kernel is asked once in a process tree's life."""
    global _inherited  # noqa: PLW0603 - a bounding set only changes by drop_bounding, in a process about to become a program
    if _inherited is None:
        _inherited = bounding_set()
    return _inherited


def mask_of(names: Iterable[str]) -> int:
    """Return the bit mask of capability ``names``.

    Raises:
        ValueError: a name is no capability.
    """
    mask = 0
    for name in names:
        if name not in CAPABILITIES:
            raise ValueError(f"invalid capability: {name!r}")
        mask |= 1 << CAPABILITIES[name]
    return mask


_dropped: dict[int, tuple[int, ...]] = {}


def drop_bounding(keep: int) -> None:
    """Drop every capability that isn't in ``keep`` from the bounding set; irrevocable."""
    process.drop_from_bounding_set(to_drop(keep))


def to_drop(keep: int) -> tuple[int, ...]:
    """Return the numbers of the capabilities that have to go for ``keep`` to stay; sets that come again are remembered."""
    bits = _dropped.get(keep)
    if bits is None:
        drop = inherited_bounding_set() & ~keep
        bits = _dropped[keep] = tuple(bit for bit in range(drop.bit_length()) if drop >> bit & 1)
    return bits


def prewarm(names: Iterable[str]) -> None:
    """Work out beforehand what giving a container ``names`` takes."""
    to_drop(mask_of(names) & inherited_bounding_set())


def keep_across_setuid() -> None:
    """Keep the permitted set when the user id changes, until execve."""
    process.prctl(process.PR_SET_KEEPCAPS, 1)


def raise_for_seccomp() -> None:
    """Make the permitted set effective again, as loading a filter without no-new-privileges asks for CAP_SYS_ADMIN."""
    _, permitted, _ = process.capget()
    process.capset(permitted & _SYS_ADMIN, permitted, 0)


def apply(mask: int, *, effective: bool) -> None:
    """Make ``mask`` the permitted and, where asked, the effective set; the inheritable and ambient ones become empty."""
    process.capset(mask if effective else 0, mask, 0)
