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
_DOORS = {-2: "socketcall", -3: "ipc"}
"""By hundreds of the negative numbers libseccomp has for calls that are made through another."""
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
    tokens: dict[str, int] = {}
    for name in policy.architectures:
        token = library.architecture(name)
        if token is None:
            raise ProfileError(f"seccomp profile: libseccomp {library.version} doesn't know the architecture {name}")
        tokens[name] = token
    rules = tuple(rule for rule in policy.rules if rule.action != policy.default)
    _check_known(rules, policy, library)
    by_number = _by_number(rules, tokens, library)
    with library.filter(policy.default) as target:
        for token in tokens.values():
            target.add_architecture(token)
        for rule in rules:
            _add(rule, by_number, library, target)
        instructions = prelude.assemble(_blocks(policy, by_number, tokens, library)) + target.export()
    if len(instructions) > _MAX_INSTRUCTIONS * INSTRUCTION_SIZE:
        raise ProfileError(f"seccomp profile: its program is longer than the kernel's {_MAX_INSTRUCTIONS} instructions")
    return HEADER.pack(FORMAT, policy.flags) + instructions


def _check_known(rules: tuple[Rule, ...], policy: Policy, library: Library) -> None:
    """Raise ProfileError for an unknown call that must be refused; one to be allowed may be unknown, as it is refused then."""
    for rule in rules:
        if _permissive(policy.default) and not _permissive(rule.action):
            for name in rule.names:
                if library.number(name) is None and (name not in prelude.NUMBERS or rule.conditions):
                    raise ProfileError(
                        f"seccomp profile: libseccomp {library.version} doesn't know the system call {name}, to refuse it"
                    )


def _by_number(rules: tuple[Rule, ...], tokens: dict[str, int], library: Library) -> dict[str, int]:
    """The calls whose answer depends on their number alone, on every architecture, and that answer.

    Not among them is what libseccomp treats in more than one way: a call that several rules answer differently, and one
    that some 32-bit architectures also make through socketcall or ipc, unless those have the same answer.
    """
    actions: dict[str, set[int]] = {}
    unconditional: dict[str, int] = {}
    for rule in rules:
        for name in rule.names:
            actions.setdefault(name, set()).add(rule.action)
            if not rule.conditions:
                unconditional[name] = rule.action
    found = {name: action for name, action in unconditional.items() if len(actions[name]) == 1}
    if not all(name in prelude.UNIFORM or name == "x32" for name in tokens):
        return {name: action for name, action in found.items() if library.number(name) is None}
    for token in tokens.values():
        for name in actions:
            door = _DOORS.get(library.number_on(token, name) // 100)
            if door is not None and (name not in found or found.get(door) != found[name]):
                found.pop(name, None)
                if name in unconditional:
                    found.pop(door, None)
    return found


def _add(rule: Rule, by_number: dict[str, int], library: Library, target: Filter) -> None:
    """Add a rule for each of its calls that the number alone doesn't decide."""
    indexes = [condition[0] for condition in rule.conditions]
    # Several conditions on one argument are alternatives, on different ones all must hold: the OCI runtimes' reading.
    alternatives = [rule.conditions] if len(set(indexes)) == len(indexes) else [(one,) for one in rule.conditions]
    for name in rule.names:
        number = library.number(name)
        if number is not None and name not in by_number:
            for conditions in alternatives:
                target.add_rule(rule.action, number, conditions, name)


def _blocks(policy: Policy, by_number: dict[str, int], tokens: dict[str, int], library: Library) -> dict[int, prelude.Block]:
    """What goes in front of libseccomp's part, for each architecture's token."""
    blocks = {}
    named = {name for rule in policy.rules for name in rule.names}
    absent = not _permissive(policy.default) and policy.default != _ENOSYS
    for architecture, token in tokens.items():
        if architecture in prelude.UNIFORM:
            numbers = library.numbers(token, 0)
            numbers |= {name: number for name, number in prelude.NUMBERS.items() if name not in numbers}
            answers = {numbers[name]: action for name, action in by_number.items() if name in numbers}
            greatest = max((numbers[name] for name in named if name in numbers), default=None) if absent else None
            blocks[token] = prelude.Block(answers, greatest)
    native = blocks.get(tokens.get("x86_64", 0))
    if native is not None and "x32" in tokens:
        numbers = library.numbers(tokens["x32"], prelude.X32_BIT)
        x32 = {numbers[name]: action for name, action in by_number.items() if name in numbers}
        blocks[tokens["x86_64"]] = prelude.Block(native.answers, native.greatest, x32)
    return blocks


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
