"""A seccomp profile in the OCI specification's form, which knows no conditions on container and machine.

Source: OCI runtime specification, config-linux.md, section Seccomp.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from boxrun.container import spec
from boxrun.container.seccomp import builtin, profile
from boxrun.container.seccomp.profile import ALLOW, ERRNO, LOG, OPERATORS, TRACE

_DATA: Final = 0xFFFF
_NAMES: Final = {
    0: "SCMP_ACT_KILL",
    0x80000000: "SCMP_ACT_KILL_PROCESS",
    0x00030000: "SCMP_ACT_TRAP",
    ERRNO: "SCMP_ACT_ERRNO",
    TRACE: "SCMP_ACT_TRACE",
    LOG: "SCMP_ACT_LOG",
    ALLOW: "SCMP_ACT_ALLOW",
}
_OPERATORS: Final = {number: name for name, number in OPERATORS.items()}
_FLAGS: Final = {2: "SECCOMP_FILTER_FLAG_LOG", 4: "SECCOMP_FILTER_FLAG_SPEC_ALLOW"}


def oci_profile(seccomp: spec.Seccomp, capabilities: tuple[str, ...]) -> bytes:
    """The ``linux.seccomp`` object in JSON that amounts to ``seccomp`` for these capabilities; empty for no filter.

    Raises:
        ProfileError: the profile is malformed or asks for what can't be given.
    """
    if seccomp.mode == "unconfined":
        return b""
    chosen = builtin.profile() if seccomp.mode == "builtin" else profile.decode(seccomp.profile)
    policy = profile.select(chosen, capabilities, profile.this_machine())
    if policy is None:
        return b""
    document: dict[str, Any] = {
        **_action("defaultAction", "defaultErrnoRet", policy.default),
        "architectures": [f"SCMP_ARCH_{name.upper()}" for name in policy.architectures],
        "syscalls": [
            {
                "names": rule.names,
                **_action("action", "errnoRet", rule.action),
                "args": [
                    {"index": index, "value": value, "valueTwo": second, "op": _OPERATORS[operator]}
                    for index, operator, value, second in rule.conditions
                ],
            }
            for rule in policy.rules
            if rule.action != policy.default
        ],
    }
    if flags := [name for bit, name in _FLAGS.items() if policy.flags & bit]:
        document["flags"] = flags
    return msgspec.json.encode(document)


def _action(key: str, errno_key: str, action: int) -> dict[str, Any]:
    if action & ~_DATA in (ERRNO, TRACE):
        return {key: _NAMES[action & ~_DATA], errno_key: action & _DATA}
    return {key: _NAMES[action]}
