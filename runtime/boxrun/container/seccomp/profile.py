"""Seccomp profiles in Docker's JSON, and what remains of one for a given container and machine.

Source: moby's profiles/seccomp, the OCI runtime specification's config-linux.md, section Seccomp.
"""

from __future__ import annotations

import os
from collections.abc import Collection

import msgspec
from msgspec import Struct

from boxrun.container.seccomp.errors import ProfileError

ALLOW = 0x7FFF0000
LOG = 0x7FFC0000
ERRNO = 0x00050000
TRACE = 0x7FF00000
_DATA = 0xFFFF
_EPERM = 1

_ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_FLAGS = {"SECCOMP_FILTER_FLAG_TSYNC": 0, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4}

#: uname(2)'s machine to the architecture names of ``includes`` and ``excludes``, and to libseccomp's.
_MACHINES = {
    "x86_64": ("amd64", "x86_64"),
    "i686": ("x86", "x86"),
    "aarch64": ("arm64", "aarch64"),
    "armv7l": ("arm", "arm"),
    "loongarch64": ("loongarch64", "loongarch64"),
    "ppc64": ("ppc64", "ppc64"),
    "ppc64le": ("ppc64le", "ppc64le"),
    "riscv64": ("riscv64", "riscv64"),
    "s390x": ("s390x", "s390x"),
}


class Argument(Struct, frozen=True, rename="camel"):
    """A condition on one of a call's six arguments. MASKED_EQ compares ``argument & value`` with ``value_two``."""

    index: int
    value: int
    op: str
    value_two: int = 0


class Filter(Struct, frozen=True, rename="camel"):
    """A condition on container and machine."""

    caps: tuple[str, ...] | None = None
    arches: tuple[str, ...] | None = None
    min_kernel: str | None = None


class Syscalls(Struct, frozen=True, rename="camel"):
    """One entry: what to do with some calls, under conditions."""

    action: str
    names: tuple[str, ...] | None = None
    name: str = ""
    errno_ret: int | None = None
    args: tuple[Argument, ...] | None = None
    includes: Filter | None = None
    excludes: Filter | None = None


class Architecture(Struct, frozen=True, rename="camel"):
    """An architecture, and those whose programs it runs too."""

    architecture: str
    sub_architectures: tuple[str, ...] | None = None


class Profile(Struct, frozen=True, rename="camel"):
    """A whole profile."""

    default_action: str = ""
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] | None = None
    arch_map: tuple[Architecture, ...] | None = None
    syscalls: tuple[Syscalls, ...] | None = None
    flags: tuple[str, ...] | None = None
    listener_path: str = ""


class Machine(Struct, frozen=True):
    """What a profile's conditions are about.

    Attributes:
        arch: the architecture as profiles name it (``amd64``).
        native: the architecture as libseccomp names it (``x86_64``).
        kernel: major and minor version.
    """

    arch: str
    native: str
    kernel: tuple[int, int]


class Rule(Struct, frozen=True):
    """What to answer to some calls: the action's number, and conditions (argument, operator, value, second value)."""

    names: tuple[str, ...]
    action: int
    conditions: tuple[tuple[int, int, int, int], ...] = ()


class Policy(Struct, frozen=True):
    """A profile with everything decided that can be before a system call is made."""

    default: int
    architectures: tuple[str, ...]
    rules: tuple[Rule, ...]
    flags: int = 0


def this_machine() -> Machine:
    """The machine's architecture and kernel. Raises ProfileError on one that profiles have no name for."""
    system = os.uname()
    if system.machine not in _MACHINES:
        raise ProfileError(f"seccomp profiles have no name for the architecture {system.machine}")
    arch, native = _MACHINES[system.machine]
    return Machine(arch, native, _version(system.release))


def decode(text: str) -> Profile:
    """Read Docker's JSON. Raises ProfileError."""
    try:
        return msgspec.json.decode(text, type=Profile)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise ProfileError(f"Decoding seccomp profile failed: {error}") from error


def select(profile: Profile, capabilities: Collection[str], machine: Machine) -> Policy | None:
    """What of ``profile`` counts for a container with these capabilities on this machine; None where it asks for no filter.

    Raises:
        ProfileError: an entry contradicts itself, or names what doesn't exist.
    """
    if not profile.default_action and not profile.syscalls:
        return None
    if profile.listener_path:
        raise ProfileError("seccomp profile: listenerPath is not supported")
    return Policy(
        default=_action(profile.default_action, profile.default_errno_ret, "defaultAction"),
        architectures=_architectures(profile, machine),
        rules=tuple(
            _rule(entry, number)
            for number, entry in enumerate(profile.syscalls or ())
            if _counts(entry, number, capabilities, machine)
        ),
        flags=_flags(profile.flags or ()),
    )


def _action(name: str, errno_ret: int | None, where: str) -> int:
    if name == "SCMP_ACT_NOTIFY":
        raise ProfileError(f"seccomp profile, {where}: SCMP_ACT_NOTIFY is not supported")
    if name not in _ACTIONS:
        raise ProfileError(f"seccomp profile, {where}: unknown action {name!r}")
    action = _ACTIONS[name]
    if action not in (ERRNO, TRACE):
        return action
    data = _EPERM if errno_ret is None else errno_ret
    if not 0 <= data <= _DATA:
        raise ProfileError(f"seccomp profile, {where}: errno {data} is not between 0 and {_DATA}")
    return action | data


def _architectures(profile: Profile, machine: Machine) -> tuple[str, ...]:
    if profile.architectures and profile.arch_map:
        raise ProfileError(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
        )
    names = list(profile.architectures or ())
    for entry in profile.arch_map or ():
        if _architecture(entry.architecture) == machine.native:
            names += [entry.architecture, *(entry.sub_architectures or ())]
            break
    return tuple(dict.fromkeys([machine.native, *map(_architecture, names)]))


def _architecture(name: str) -> str:
    if not name.startswith("SCMP_ARCH_"):
        raise ProfileError(f"seccomp profile: unknown architecture {name!r}")
    return name.removeprefix("SCMP_ARCH_").lower()


def _flags(names: Collection[str]) -> int:
    unknown = [name for name in names if name not in _FLAGS]
    if unknown:
        raise ProfileError(f"seccomp profile: flag {unknown[0]!r} is not supported")
    return sum({_FLAGS[name] for name in names})


def _counts(entry: Syscalls, number: int, capabilities: Collection[str], machine: Machine) -> bool:
    """Whether the conditions on container and machine are met."""
    if entry.excludes is not None:
        out = entry.excludes
        excluded = machine.arch in (out.arches or ()) or any(name in capabilities for name in out.caps or ())
        if excluded or (out.min_kernel and machine.kernel >= _minimum(out.min_kernel, number)):
            return False
    if entry.includes is None:
        return True
    wanted = entry.includes
    included = not wanted.arches or machine.arch in wanted.arches
    included = included and all(name in capabilities for name in wanted.caps or ())
    return included and (not wanted.min_kernel or machine.kernel >= _minimum(wanted.min_kernel, number))


def _rule(entry: Syscalls, number: int) -> Rule:
    where = f"syscalls[{number}]"
    if entry.name and entry.names:
        raise ProfileError("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
    names = (entry.name,) if entry.name else entry.names or ()
    if not all(names):
        raise ProfileError(f"seccomp profile, {where}: a system call has no name")
    conditions = []
    for argument in entry.args or ():
        if argument.op not in OPERATORS:
            raise ProfileError(f"seccomp profile, {where}: unknown operator {argument.op!r}")
        if not 0 <= argument.index <= 5:
            raise ProfileError(f"seccomp profile, {where}: a system call has no argument {argument.index}")
        if not (0 <= argument.value < 1 << 64 and 0 <= argument.value_two < 1 << 64):
            raise ProfileError(f"seccomp profile, {where}: a value is not an unsigned 64-bit number")
        conditions.append((argument.index, OPERATORS[argument.op], argument.value, argument.value_two))
    return Rule(names, _action(entry.action, entry.errno_ret, where), tuple(conditions))


def _minimum(version: str, number: int) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise ProfileError(f"seccomp profile, syscalls[{number}]: minKernel {version!r} is not a kernel version")
    return int(major), int(minor)


def _version(release: str) -> tuple[int, int]:
    major, minor = release.split("-", 1)[0].split(".")[:2]
    return int(major), int(minor)
