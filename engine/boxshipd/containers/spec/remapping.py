"""User namespaces for containers: ``--userns-remap``, whose ids come from /etc/subuid and /etc/subgid.

Docker gives remapped containers a data root of their own, with every file of every image chowned. Here layers and volumes stay
as they are and are shown to each container with its ids (id-mapped mounts), so that both kinds share them.
Source: moby daemon/daemon_unix.go (setupRemappedRoot, parseRemappedRoot), pkg/idtools, from which the messages are.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterable

from boxrun.container.spec import IDMapping, Mount
from boxship.types.host import HostConfig
from msgspec import Struct
from msgspec.structs import replace

from boxshipd.config import OWN_RUNTIME, ConfigError
from boxshipd.errors import InvalidParameter

DEFAULT_USER = "dockremap"
"""Whose ids ``default`` means."""


class Remapping(Struct, frozen=True):
    """Ids inside and outside; empty for none."""

    uids: tuple[IDMapping, ...] = ()
    gids: tuple[IDMapping, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.uids)


NONE = Remapping()


def read_remapping(text: str, *, subuid: str = "/etc/subuid", subgid: str = "/etc/subgid") -> Remapping:
    """What ``--userns-remap`` says: ``default``, or a user and perhaps a group, by names or numbers; empty for none.

    Raises:
        ConfigError: there is no such user, or it has no subordinate ids.
    """
    if not text:
        return NONE
    user, colon, group = ("", "", "") if text == "default" else text.partition(":")
    user = _user_name(user or DEFAULT_USER) if text != "default" else DEFAULT_USER
    group = _group_name(group) if colon else user
    return Remapping(_ranges(user, subuid), _ranges(group, subgid))


def check_remapped(host: HostConfig, remapping: Remapping) -> Remapping:
    """The mappings that a container gets; none with ``--userns host``.

    Raises:
        InvalidParameter: it wants what can't be had inside a user namespace of its own.
    """
    if not remapping or host.userns_mode == "host":
        return NONE
    if host.privileged:
        raise InvalidParameter(
            "privileged mode is incompatible with user namespaces.  "
            "You must run the container in the host namespace when running privileged mode"
        )
    if host.network_mode == "host":
        raise InvalidParameter("cannot share the host's network namespace when user namespaces are enabled")
    if host.pid_mode == "host":
        raise InvalidParameter("cannot share the host PID namespace when user namespaces are enabled")
    for flag, mode in (("network", host.network_mode), ("pid", host.pid_mode), ("ipc", host.ipc_mode)):
        if mode.startswith("container:"):
            raise InvalidParameter(
                f"--{flag} {mode} is not available when user namespaces are enabled: use --userns host for both containers"
            )
    if (host.runtime or OWN_RUNTIME) != OWN_RUNTIME:
        raise InvalidParameter(f"--runtime {host.runtime} is not available when user namespaces are enabled: use --userns host")
    return remapping


def mapped(mounts: Iterable[Mount], remapping: Remapping) -> list[Mount]:
    """The mounts of what is ours to keep (volumes, images, files of /etc), shown with the container's ids."""
    if not remapping:
        return list(mounts)
    return [
        replace(mount, uid_mappings=remapping.uids, gid_mappings=remapping.gids) if mount.kind in ("bind", "overlay") else mount
        for mount in mounts
    ]


def _user_name(text: str) -> str:
    try:
        return pwd.getpwuid(int(text)).pw_name if text.isascii() and text.isdigit() else pwd.getpwnam(text).pw_name
    except KeyError:
        raise ConfigError(f"error during uid lookup for {text!r}: unable to find user {text}") from None


def _group_name(text: str) -> str:
    try:
        return grp.getgrgid(int(text)).gr_name if text.isascii() and text.isdigit() else grp.getgrnam(text).gr_name
    except KeyError:
        raise ConfigError(f"error during gid lookup for {text!r}: unable to find group {text}") from None


def _ranges(name: str, path: str) -> tuple[IDMapping, ...]:
    """The name's ranges, one after the other."""
    try:
        with open(path, encoding="utf-8") as file:
            entries = [line.strip().split(":") for line in file]
    except OSError as error:
        raise ConfigError(f"can't create ID mappings: open {path}: {(error.strerror or '').lower()}") from error
    found: list[IDMapping] = []
    inside = 0
    for entry in entries:
        if len(entry) == 3 and entry[0] == name and entry[1].isdigit() and entry[2].isdigit() and int(entry[2]):
            found.append(IDMapping(inside=inside, outside=int(entry[1]), size=int(entry[2])))
            inside += int(entry[2])
    if not found:
        raise ConfigError(f'can\'t create ID mappings: no subordinate ids found for "{name}" in {path}')
    return tuple(found)
