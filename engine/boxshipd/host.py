"""The host as ``info`` and ``version`` describe it."""

from __future__ import annotations

import os
import platform
from functools import cache
from typing import NamedTuple

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i386": "386",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loongarch64": "loong64",
}


class Distribution(NamedTuple):
    """An operating system by its name for people and its version; Docker's words where nothing is known."""

    name: str = "<unknown>"
    version: str = ""


def go_architecture() -> str:
    """The machine's architecture as Docker names it: ``amd64``, ``arm64``…"""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


@cache
def distribution() -> Distribution:
    """The distribution, from os-release(5)."""
    try:
        fields = platform.freedesktop_os_release()
    except OSError:
        return Distribution()
    return Distribution(fields.get("PRETTY_NAME", "Linux"), fields.get("VERSION_ID", ""))


def memory_total() -> int:
    """Physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def open_descriptors() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def ipv4_forwarding() -> bool:
    """Whether the host forwards IPv4 packets."""
    try:
        with open("/proc/sys/net/ipv4/ip_forward", encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False
