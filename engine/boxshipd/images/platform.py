"""Platforms by the names images have for them.

Source: containerd/platforms database.go.
"""

from __future__ import annotations

import os
from functools import lru_cache

from boxshipd.errors import InvalidParameter
from boxshipd.images.model import Platform

_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm", "i386": "386"}
_SYSTEMS = frozenset(
    (
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "hurd",
        "illumos",
        "ios",
        "js",
        "linux",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "windows",
        "zos",
    )
)
# What else a processor runs. Source: containerd/platforms compare.go (platformVector).
_OLDER = {"amd64": ("386",), "arm64": ("arm",)}
_V2 = frozenset(("cx16", "lahf_lm", "popcnt", "ssse3", "sse4_1", "sse4_2"))
_V3 = _V2 | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_AMD64_LEVELS = (("v4", _V4), ("v3", _V3), ("v2", _V2))
_DEFAULT_VARIANTS = {("arm64", "v8"): "", ("amd64", "v1"): "", ("arm", ""): "v7"}


def host() -> Platform:
    """This machine's platform."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform(architecture, "linux", variant)


@lru_cache(maxsize=1)
def detected() -> Platform:
    """This machine's platform with the best variant its processor has, as Docker names it in messages."""
    here = host()
    if here.architecture == "amd64":
        flags = _processor_flags()
        level = next((name for name, needed in _AMD64_LEVELS if needed <= flags), "")
        return Platform(here.architecture, here.os, level)
    return Platform(here.architecture, here.os, "v8") if here.architecture == "arm64" else here


def _processor_flags() -> frozenset[str]:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((frozenset(line.partition(":")[2].split()) for line in file if line.startswith("flags")), frozenset())


def runs_here(offered: Platform) -> bool:
    """Whether this machine's processor runs programs of a platform by itself; one that doesn't say is taken to."""
    here = detected()
    if offered.os and offered.os != here.os:
        return False
    if offered.architecture in ("", here.architecture):
        return not offered.variant or not here.variant or _variant(offered) <= here.variant
    return offered.architecture in _OLDER.get(here.architecture, ())


def parse(text: str) -> Platform:
    """Parse ``os[/architecture[/variant]]`` or an architecture alone.

    Raises:
        InvalidParameter: it is nothing of the kind.
    """
    parts = text.lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(part.replace("_", "").replace("-", "").replace(".", "").isalnum() for part in parts):
        raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')
    if len(parts) == 1:
        if parts[0] in {architecture for architecture, _ in _MACHINES.values()} | set(_ALIASES):
            return Platform(_ALIASES.get(parts[0], parts[0]), "linux")
        if parts[0] not in _SYSTEMS:
            raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')
        here = host()
        return Platform(here.architecture, parts[0], here.variant)
    return Platform(_ALIASES.get(parts[1], parts[1]), parts[0], parts[2] if len(parts) == 3 else "")


def matches(wanted: Platform, offered: Platform) -> bool:
    """Whether an image of the platform ``offered`` is what was asked for; an image that doesn't say matches."""
    if offered.os and offered.os != wanted.os:
        return False
    if offered.architecture and offered.architecture != wanted.architecture:
        return False
    return not offered.variant or not wanted.variant or _variant(offered) == _variant(wanted)


def same(one: Platform, other: Platform) -> bool:
    """Whether two platforms are the same, whether or not their default variant is named."""
    return (one.os, one.architecture, _variant(one)) == (other.os, other.architecture, _variant(other))


def describe(platform: Platform) -> str:
    """``os/architecture[/variant]``."""
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


def _variant(platform: Platform) -> str:
    return _DEFAULT_VARIANTS.get((platform.architecture, platform.variant), platform.variant)
