"""The built-in profile: Docker's policy, from ``default.json``.

The file's form: ``always`` lists the calls that every container may make. Each of ``rules`` adds ``calls``, allowed or, with
``errno``, refused with that number; ``where`` is a condition on an argument by its index (``0 < 38``, ``0 & mask == 0``);
``with`` and ``without`` name a capability, ``on`` and ``not_on`` architectures, ``kernel`` the oldest kernel's version.
Whatever no rule is about is refused with ``default_errno``. ``architectures`` gives, for each, those whose programs it runs
too.

What the policy can't reach: a 32-bit x86 program may make its sockets by socketcall(2), whose arguments lie in memory that a
filter can't read, so there the refusal of socket families (AF_ALG, AF_VSOCK) doesn't hold. Refusing socketcall itself would cut
most 32-bit programs off the network.

Source: moby/profiles seccomp v0.2.3.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec
from msgspec import Struct, field

from boxrun.container.seccomp.profile import Architecture, Argument, Filter, Profile, Syscalls

_OPERATORS = {"<": "SCMP_CMP_LT", ">": "SCMP_CMP_GT", "==": "SCMP_CMP_EQ"}


class _Rule(Struct, frozen=True):
    calls: str
    where: str = ""
    with_: str = field(default="", name="with")
    without: str = ""
    on: str = ""
    not_on: str = ""
    kernel: str = ""
    errno: int | None = None


class _Document(Struct, frozen=True):
    default_errno: int
    architectures: dict[str, str]
    always: list[str]
    rules: list[_Rule]


@cache
def profile() -> Profile:
    """The built-in profile in Docker's form."""
    text = resources.files(__package__).joinpath("default.json").read_bytes()
    document = msgspec.json.decode(text, type=_Document)
    always = Syscalls(action="SCMP_ACT_ALLOW", names=tuple(name for line in document.always for name in line.split()))
    return Profile(
        default_action="SCMP_ACT_ERRNO",
        default_errno_ret=document.default_errno,
        arch_map=tuple(
            Architecture(_constant(name), tuple(_constant(sub) for sub in subs.split()))
            for name, subs in document.architectures.items()
        ),
        syscalls=(always, *map(_syscalls, document.rules)),
    )


def _constant(name: str) -> str:
    return f"SCMP_ARCH_{name.upper()}"


def _syscalls(rule: _Rule) -> Syscalls:
    return Syscalls(
        action="SCMP_ACT_ALLOW" if rule.errno is None else "SCMP_ACT_ERRNO",
        errno_ret=rule.errno,
        names=tuple(rule.calls.split()),
        args=(_argument(rule.where),) if rule.where else None,
        includes=Filter(caps=tuple(rule.with_.split()), arches=tuple(rule.on.split()), min_kernel=rule.kernel or None),
        excludes=Filter(caps=tuple(rule.without.split()), arches=tuple(rule.not_on.split())),
    )


def _argument(text: str) -> Argument:
    """``index operator value`` or ``index & mask == value``."""
    index, operator, *rest = text.split()
    if operator == "&":
        return Argument(int(index), int(rest[0], 0), "SCMP_CMP_MASKED_EQ", int(rest[2], 0))
    return Argument(int(index), int(rest[0], 0), _OPERATORS[operator])
