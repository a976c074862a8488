"""An instruction's flags.

Source: BuildKit frontend/dockerfile/instructions/bflag.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from boxshipd.builder.dockerfile.arguments import ArgumentError
from boxshipd.builder.dockerfile.suggestions import did_you_mean


@dataclass(slots=True)
class Flags:
    """The flags that were given.

    Attributes:
        single: those with a value that are given once.
        several: those with a value that may be given more than once.
        switches: those that are on or off.
    """

    single: dict[str, str] = field(default_factory=dict)
    several: dict[str, list[str]] = field(default_factory=dict)
    switches: dict[str, bool] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A flag's value, or nothing."""
        return self.single.get(name, "")

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of a flag that may be given more than once."""
        return tuple(self.several.get(name, ()))

    def on(self, name: str) -> bool:
        """Whether a switch is on; off where it isn't given."""
        return self.switches.get(name, False)


def read_flags(
    written: Sequence[str], single: Sequence[str] = (), several: Sequence[str] = (), switches: Sequence[str] = ()
) -> Flags:
    """Read the flags of an instruction that has those named.

    Args:
        written: the flags, with their dashes.
        single: the names of those with a value.
        several: the names of those with a value that may be given more than once.
        switches: the names of those that need no value.

    Raises:
        ArgumentError: one isn't known, is given twice, or lacks its value.
    """
    flags = Flags()
    for flag in written:
        name, equals, value = flag.removeprefix("--").partition("=")
        if name not in (*single, *several, *switches):
            raise ArgumentError(did_you_mean(f"unknown flag: --{name}", name, (*single, *several, *switches)))
        if name in flags.single or name in flags.switches:
            raise ArgumentError(f"duplicate flag specified: {name}")
        if name in switches:
            flags.switches[name] = _switch(name, value, given=bool(equals))
        elif not equals:
            raise ArgumentError(f"missing a value on flag: {name}")
        elif name in several:
            flags.several.setdefault(name, []).append(value)
        else:
            flags.single[name] = value
    return flags


def _switch(name: str, value: str, *, given: bool) -> bool:
    if given and not value:
        raise ArgumentError(f"missing a value on flag: {name}")
    if value.lower() not in ("", "true", "false"):
        raise ArgumentError(f"expecting boolean value for flag {name}, not: {value}")
    return value.lower() != "false"
