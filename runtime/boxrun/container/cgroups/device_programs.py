"""Loaded eBPF device programs, shared by all groups with the same rules."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from boxrun.container.cgroups import devices
from boxrun.container.cgroups.errors import CgroupError
from boxrun.container.spec import DeviceRule
from boxrun.linux import bpf

Rules = tuple[DeviceRule, ...]

_KEPT = 32


class DevicePrograms:
    """Keeps the programs of the rules met last. A process that is forked has them too."""

    def __init__(self) -> None:
        self._loaded: dict[Rules, int] = {}

    def preload(self, rules: Rules) -> None:
        """Load the program for ``rules`` and keep it. Raises CgroupError."""
        if devices.allows_everything(rules):
            return
        program = self._loaded.pop(rules, None)
        if program is None:
            program = _load(rules)
        self._loaded[rules] = program
        if len(self._loaded) > _KEPT:
            os.close(self._loaded.pop(next(iter(self._loaded))))

    def attach(self, group: int, rules: Rules, new: bool) -> None:
        """Let ``rules`` hold for a group, in place of what held before.

        Args:
            group: its cgroup2 directory.
            rules: the rules; none leave things as they are.
            new: the group has just been made, and so has no program.

        Raises:
            CgroupError: the kernel refused.
        """
        if not rules:
            return
        try:
            attached = [] if new else bpf.attached_device_programs(group)
            try:
                if attached or not devices.allows_everything(rules):
                    with self._program(rules) as program:
                        bpf.attach_device_program(group, program, attached[0] if attached else None)
            finally:
                for old in attached:
                    os.close(old)
        except OSError as error:
            raise CgroupError(f"set device rules: {error.filename}: {error.strerror}") from error

    def close(self) -> None:
        """Close the programs; those attached go on."""
        while self._loaded:
            os.close(self._loaded.popitem()[1])

    @contextmanager
    def _program(self, rules: Rules) -> Iterator[int]:
        """The kept program, or one for the time of the context."""
        kept = self._loaded.get(rules)
        if kept is not None:
            yield kept
            return
        program = _load(rules)
        try:
            yield program
        finally:
            os.close(program)


def available(group: int) -> bool:
    """Whether the kernel can load such programs and attach them to a cgroup2 directory."""
    try:
        for program in bpf.attached_device_programs(group):
            os.close(program)
        os.close(bpf.load_device_program(devices.program(())))
    except OSError:
        return False
    return True


def _load(rules: Rules) -> int:
    try:
        return bpf.load_device_program(devices.program(rules))
    except OSError as error:
        raise CgroupError(f"load device rules: {error.filename}: {error.strerror}") from error
