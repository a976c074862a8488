"""Platforms as flags name them: ``linux/arm64/v8``.

Source: github.com/containerd/platforms, which every Docker client uses.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from boxship.api import numbers
from boxship.errors import CommandError

if TYPE_CHECKING:
    from boxship.api import API

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_SYSTEMS = frozenset(
    ("aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd", "openbsd", "plan9")
) | {"solaris", "wasip1", "windows"}
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", ""),
    "arm64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "arm": ("arm", ""),
}


def parse(text: str) -> dict[str, str]:
    """A platform as the API names it: ``os``, ``architecture`` and perhaps ``variant``.

    Args:
        text: ``os``, ``architecture``, ``os/architecture`` or ``os/architecture/variant``.

    Raises:
        CommandError: it isn't one; the message is Docker's.
    """
    parts = text.split("/")
    if len(parts) > 3:
        raise CommandError(f'"{text}": cannot parse platform specifier: invalid argument')
    for part in parts:
        if not _COMPONENT.fullmatch(part):
            raise CommandError(
                f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                f'"^[A-Za-z0-9_.-]+$": invalid argument'
            )
    if len(parts) == 1:
        system = parts[0].lower()
        if system in _SYSTEMS:
            return _platform(system, os.uname().machine, "")
        return _platform("linux", parts[0], "")
    return _platform(parts[0].lower(), parts[1], parts[2] if len(parts) > 2 else "")


def encode(api: API, text: str, since: str) -> str | None:
    """A platform in the JSON that queries carry, None for an empty text.

    Args:
        api: the daemon it is for.
        text: the platform.
        since: the API version that knows the parameter; an older daemon would ignore it.

    Raises:
        CommandError: it isn't a platform, or the daemon is too old.
    """
    encoded = encode_all(api, (text,) if text else (), since)
    return encoded[0] if encoded else None


def encode_all(api: API, texts: tuple[str, ...], since: str) -> list[str] | None:
    """Platforms in the JSON that queries carry, each text holding one or more between commas; None for none.

    Args:
        api: the daemon they are for.
        texts: the platforms.
        since: the API version that knows the parameter; an older daemon would ignore it.

    Raises:
        CommandError: one isn't a platform, or the daemon is too old.
    """
    encoded = [json.dumps(parse(one), separators=(",", ":")) for text in texts for one in text.split(",")]
    if encoded and (version := api.negotiate()) < numbers(since):
        known = ".".join(map(str, version))
        raise CommandError(f'"--platform" requires API version {since}, but the daemon API version is {known}')
    return encoded or None


def _platform(system: str, architecture: str, variant: str) -> dict[str, str]:
    architecture, implied = _ARCHITECTURES.get(architecture.lower(), (architecture.lower(), ""))
    variant = variant.lower() or implied
    if architecture == "arm":
        variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    # What every such processor can do isn't named.
    if (architecture, variant) in (("arm64", "8"), ("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    platform = {"architecture": architecture, "os": system}
    return platform | {"variant": variant} if variant else platform
