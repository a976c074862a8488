"""Mount options as mount(8) names them, split into the mount's attributes and the file system's own options."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from boxrun.linux import mounts

_SET: Final[dict[str, int]] = {
    "ro": mounts.MOUNT_ATTR_RDONLY,
    "nosuid": mounts.MOUNT_ATTR_NOSUID,
    "nodev": mounts.MOUNT_ATTR_NODEV,
    "noexec": mounts.MOUNT_ATTR_NOEXEC,
    "nodiratime": mounts.MOUNT_ATTR_NODIRATIME,
    "nosymfollow": mounts.MOUNT_ATTR_NOSYMFOLLOW,
}
_CLEAR: Final[dict[str, int]] = {
    "rw": mounts.MOUNT_ATTR_RDONLY,
    "suid": mounts.MOUNT_ATTR_NOSUID,
    "dev": mounts.MOUNT_ATTR_NODEV,
    "exec": mounts.MOUNT_ATTR_NOEXEC,
    "diratime": mounts.MOUNT_ATTR_NODIRATIME,
    "symfollow": mounts.MOUNT_ATTR_NOSYMFOLLOW,
}
_ATIME: Final[dict[str, int]] = {
    "relatime": mounts.MOUNT_ATTR_RELATIME,
    "noatime": mounts.MOUNT_ATTR_NOATIME,
    "strictatime": mounts.MOUNT_ATTR_STRICTATIME,
}
#: Docker's six words and, for each, the propagation type and whether it reaches the mounts below.
PROPAGATION: Final[dict[str, tuple[int, bool]]] = {
    "private": (mounts.MS_PRIVATE, False),
    "rprivate": (mounts.MS_PRIVATE, True),
    "shared": (mounts.MS_SHARED, False),
    "rshared": (mounts.MS_SHARED, True),
    "slave": (mounts.MS_SLAVE, False),
    "rslave": (mounts.MS_SLAVE, True),
}
_NO_MEANING: Final = frozenset({"defaults", "bind", "rbind", "async", "rprivate", "private", "noiversion"})


class Options(Struct, frozen=True):
    """What a list of options amounts to: attributes to set and to clear, and the file system's own keys and values."""

    set_flags: int
    clear_flags: int
    data: tuple[tuple[str, str | None], ...]

    def has(self, key: str) -> bool:
        """Return whether the file system's option ``key`` is given."""
        return any(name == key for name, _ in self.data)


_cache: dict[tuple[tuple[str, ...], bool], Options] = {}


def parse(options: Iterable[str], *, readonly: bool = False) -> Options:
    """Split ``options``; later ones override earlier ones, ``readonly`` overrides them all.

    Results are kept, since the default mounts' options come with every container.
    """
    key = (tuple(options), readonly)
    found = _cache.get(key)
    if found is None:
        if len(_cache) > 256:
            _cache.clear()
        found = _cache[key] = _parse(key[0], readonly)
    return found


def _parse(options: tuple[str, ...], readonly: bool) -> Options:
    set_flags = clear_flags = 0
    atime: int | None = None
    data: dict[str, str | None] = {}
    for option in options:
        if option in _SET:
            set_flags |= _SET[option]
            clear_flags &= ~_SET[option]
        elif option in _CLEAR:
            clear_flags |= _CLEAR[option]
            set_flags &= ~_CLEAR[option]
        elif option in _ATIME:
            atime = _ATIME[option]
        elif option not in _NO_MEANING:
            key, separator, value = option.partition("=")
            data[key] = value if separator else None
    if readonly:
        set_flags |= mounts.MOUNT_ATTR_RDONLY
        clear_flags &= ~mounts.MOUNT_ATTR_RDONLY
    if atime is not None:
        set_flags |= atime
        clear_flags |= mounts.MOUNT_ATTR_ATIME
    return Options(set_flags, clear_flags, tuple(data.items()))
