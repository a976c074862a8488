"""Compiling seccomp policies into BPF programs, and remembering the programs."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import tempfile
from functools import cache

import msgspec

from boxrun.container import spec
from boxrun.container.seccomp import builtin, prelude, profile
from boxrun.container.seccomp.errors import ProfileError, SeccompUnavailableError
from boxrun.container.seccomp.library import Filter, Library
from boxrun.container.seccomp.load import FORMAT, HEADER, INSTRUCTION_SIZE
from boxrun.container.seccomp.profile import ALLOW, ERRNO, LOG, TRACE, Policy, Rule
from boxrun.linux.syscalls import SECCOMP, raw

_GET_ACTION_AVAILABLE = 2
_ENOSYS = ERRNO | 38
_MAX_INSTRUCTIONS = 4096
_REMEMBERED = 128
_DIGEST_SIZE = 32
_REVISION = b"boxrun seccomp 1"
"""Part of every key: to be changed whenever the same policy compiles into another program."""

_programs: dict[tuple[spec.Seccomp, frozenset[str]], bytes] = {}


@cache
def _library() -> Library:
    return Library()


def available() -> str | None:
    """``None`` where filters can be compiled and loaded here, else the reason why they can't."""
    try:
        _library()
    except SeccompUnavailableError as error:
        return str(error)
    action = ctypes.c_uint32(ERRNO)
    if raw(SECCOMP, _GET_ACTION_AVAILABLE, 0, ctypes.byref(action)) != 0:
        return f"the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER): {os.strerror(ctypes.get_errno())}"
    return None


def compile_profile(seccomp: spec.Seccomp, capabilities: tuple[str, ...], *, cache_dir: str | None = None) -> bytes:
    """The program for ``load_program`` that does what a profile says.

    Programs are remembered in memory by profile and capabilities, and in ``cache_dir`` by what they do, the architecture and
    libseccomp's version.

    Args:
        seccomp: the profile.
        capabilities: the container's, with ``CAP_``, on which parts of a profile depend.
        cache_dir: a directory that only root can write, made if need be.

    Returns:
        The program, empty where the profile asks for no filter.

    Raises:
        ProfileError: the profile is malformed or asks for what can't be given.
        SeccompUnavailableError: libseccomp is missing.
        SeccompError: libseccomp refused.
    """
    if seccomp.mode == "unconfined":
        return b""
    key = (seccomp, frozenset(capabilities))
    program = _programs.get(key)
    if program is None:
        program = _compile(seccomp, capabilities, cache_dir)
        if len(_programs) >= _REMEMBERED:
            del _programs[next(iter(_programs))]
        _programs[key] = program
    return program


def _compile(seccomp: spec.Seccomp, capabilities: tuple[str, ...], cache_dir: str | None) -> bytes:
    chosen = builtin.profile() if seccomp.mode == "builtin" else profile.decode(seccomp.profile)
    policy = profile.select(chosen, capabilities, profile.this_machine())
    if policy is None:
        return b""
    if cache_dir is None:
        return assemble(policy, _library())
    parts = (_REVISION, os.uname().machine.encode(), _library().version.encode(), msgspec.msgpack.encode(policy))
    path = os.path.join(cache_dir, hashlib.sha256(b"\0".join(parts)).hexdigest())
    program = _read(path)
    if program is None:
        program = assemble(policy, _library())
        # A cache that can't be written costs time only.
        with contextlib.suppress(OSError):
            _write(path, program)
    return program


def assemble(policy: Policy, library: Library) -> bytes:
    """Compile a policy, without any cache. Raises ProfileError, SeccompError."""
    unknown: dict[int, int] = {}
    with library.filter(policy.default) as target:
        tokens = {name: library.architecture(name) for name in policy.architectures}
        for name, token in tokens.items():
            if token is None:
                raise ProfileError(f"seccomp profile: libseccomp {library.version} doesn't know the architecture {name}")
            target.add_architecture(token)
        for rule in policy.rules:
            if rule.action != policy.default:
                _add(rule, policy, library, target, unknown)
        instructions = target.export()
    blocks = {
        token: prelude.Block(unknown if name in prelude.UNIFORM else {}, _greatest(policy, library, name, token))
        for name, token in tokens.items()
        if token is not None and name != "x32" and not name.startswith("mips")
    }
    instructions = prelude.assemble(blocks) + instructions
    if len(instructions) > _MAX_INSTRUCTIONS * INSTRUCTION_SIZE:
        raise ProfileError(f"seccomp profile: its program is longer than the kernel's {_MAX_INSTRUCTIONS} instructions")
    return HEADER.pack(FORMAT, policy.flags) + instructions


def _add(rule: Rule, policy: Policy, library: Library, target: Filter, unknown: dict[int, int]) -> None:
    """Add a rule for each of its calls; those that only this package knows go into ``unknown``."""
    indexes = [condition[0] for condition in rule.conditions]
    # Several conditions on one argument are alternatives, on different ones all must hold: the OCI runtimes' reading.
    alternatives = [rule.conditions] if len(set(indexes)) == len(indexes) else [(one,) for one in rule.conditions]
    for name in rule.names:
        number = library.number(name)
        if number is not None:
            for conditions in alternatives:
                target.add_rule(rule.action, number, conditions, name)
        elif name in prelude.NUMBERS and not rule.conditions:
            unknown.setdefault(prelude.NUMBERS[name], rule.action)
        elif _permissive(policy.default) and not _permissive(rule.action):
            raise ProfileError(
                f"seccomp profile: libseccomp {library.version} doesn't know the system call {name}, to refuse it"
            )


def _greatest(policy: Policy, library: Library, architecture: str, token: int) -> int | None:
    """The greatest number on an architecture that the policy names; None where unnamed calls shall not look absent."""
    if _permissive(policy.default) or policy.default == _ENOSYS:
        return None
    names = {name for rule in policy.rules for name in rule.names}
    numbers = [library.number_on(token, name) for name in names]
    if architecture in prelude.UNIFORM:
        numbers += [prelude.NUMBERS[name] for name in names if name in prelude.NUMBERS]
    return max(numbers, default=-1) if max(numbers, default=-1) >= 0 else None


def _permissive(action: int) -> bool:
    """Whether a call may be made with this answer (a tracer is trusted to know)."""
    return action in (ALLOW, LOG) or action & 0xFFFF0000 == TRACE


def _read(path: str) -> bytes | None:
    """A program from the disk, or None where there is none, or not a whole one."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return None
    digest, program = text[:_DIGEST_SIZE], text[_DIGEST_SIZE:]
    return program if hashlib.sha256(program).digest() == digest else None


def _write(path: str, program: bytes) -> None:
    """Keep a program on the disk; a reader sees all of it or nothing. Raises OSError."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=directory)
    try:
        with open(fd, "wb") as file:
            file.write(hashlib.sha256(program).digest() + program)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
