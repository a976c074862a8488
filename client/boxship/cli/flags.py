"""Flags: declared once with their types, parsed as Docker's command line parses them.

A command's flags are the attributes of an ``Options`` class::

    class PsOptions(Options):
        all = Switch("Show all containers (default shows just running)", short="a")

    options.all      # a bool, for mypy too

The grammar is pflag's, which typer's parser doesn't speak (``--rm=false``, ``-p=80:80``, options that end at the first
argument); help, completion and the reference are made from the same declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Generic, TypeVar, overload

from boxship.errors import CommandError, InvalidValue, UsageError

T = TypeVar("T")


class Flag(Generic[T]):
    """One flag; as a class attribute of ``Options`` it reads as its value.

    Args:
        help_text: what it does.
        short: its one-letter form.
        name: its long name where that isn't the attribute's with dashes.
        default: its value where it isn't given.
        shown: its default as help shows it, empty for none.
        hidden: whether help leaves it out.
    """

    kind: ClassVar[str] = "string"
    takes_value: ClassVar[bool] = True

    def __init__(
        self,
        help_text: str,
        default: T,
        *,
        short: str = "",
        name: str = "",
        shown: str = "",
        hidden: bool = False,
        kind: str = "",
    ) -> None:
        self.help = help_text
        self.default = default
        self.short = short
        self.name = name
        self.shown = shown
        self.hidden = hidden
        self.shown_kind = kind or self.kind

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.name = self.name or attribute.rstrip("_").replace("_", "-")

    @overload
    def __get__(self, instance: None, owner: type) -> Flag[T]: ...

    @overload
    def __get__(self, instance: Options, owner: type) -> T: ...

    def __get__(self, instance: Options | None, owner: type) -> Flag[T] | T:
        if instance is None:
            return self
        value: T = instance.values.get(self.name, self.default)
        return value

    @property
    def title(self) -> str:
        """The flag as errors name it: ``-m, --memory``."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"

    def take(self, text: str, current: T) -> T:
        """The value after ``text`` was given, ``current`` being the one before.

        Raises:
            InvalidValue: it isn't a value of this flag.
        """
        raise NotImplementedError


class Switch(Flag[bool]):
    """On or off."""

    kind = ""
    takes_value = False

    def __init__(
        self, help_text: str, *, default: bool = False, short: str = "", name: str = "", shown: str = "", hidden: bool = False
    ) -> None:
        super().__init__(help_text, default, short=short, name=name, shown=shown, hidden=hidden)

    def take(self, text: str, current: bool) -> bool:
        """A word of Go's strconv.ParseBool."""
        from boxship.booleans import parse_boolean

        said = parse_boolean(text)
        if said is None:
            raise InvalidValue(f'strconv.ParseBool: parsing "{text}": invalid syntax')
        return said


class Only(Switch):
    """A switch of Docker's that has one position here; the other is refused.

    Args:
        position: where it stands.
        reason: what is missing for the other one.
    """

    def __init__(self, help_text: str, position: bool, reason: str) -> None:
        super().__init__(help_text, default=position, shown=str(position).lower())
        self.position = position
        self.reason = reason

    def take(self, text: str, current: bool) -> bool:
        """The one position."""
        if super().take(text, current) is not self.position:
            raise CommandError(f"--{self.name}={text} is not available in Boxship 0.1: {self.reason}")
        return self.position


class Text(Flag[str]):
    """A word."""

    def __init__(
        self,
        help_text: str,
        *,
        default: str = "",
        short: str = "",
        name: str = "",
        shown: str = "",
        kind: str = "",
        hidden: bool = False,
    ) -> None:
        super().__init__(help_text, default, short=short, name=name, shown=shown, kind=kind, hidden=hidden)

    def take(self, text: str, current: str) -> str:
        """Any text."""
        return text


class Integer(Flag[int]):
    """A whole number.

    Args:
        minimum: the smallest allowed.
        maximum: the largest allowed.
    """

    kind = "int"

    def __init__(
        self,
        help_text: str,
        *,
        default: int = 0,
        short: str = "",
        name: str = "",
        shown: str = "",
        minimum: int = -(1 << 63),
        maximum: int = (1 << 63) - 1,
        kind: str = "",
    ) -> None:
        super().__init__(help_text, default, short=short, name=name, shown=shown, kind=kind)
        self._minimum = minimum
        self._maximum = maximum

    def take(self, text: str, current: int) -> int:
        """A number in Go's notation (0x, 0o, 0b)."""
        parser = "ParseUint" if self._minimum >= 0 else "ParseInt"
        try:
            number = int(text, 0)
        except ValueError:
            raise InvalidValue(f'strconv.{parser}: parsing "{text}": invalid syntax') from None
        if not self._minimum <= number <= self._maximum:
            raise InvalidValue(f'strconv.{parser}: parsing "{text}": value out of range')
        return number


class Size(Flag[int]):
    """A size in bytes; ``-1`` where ``unlimited``."""

    kind = "bytes"

    def __init__(self, help_text: str, *, short: str = "", name: str = "", unlimited: bool = False) -> None:
        super().__init__(help_text, 0, short=short, name=name)
        self._unlimited = unlimited

    def take(self, text: str, current: int) -> int:
        """A size with a unit."""
        if self._unlimited and text == "-1":
            return -1
        from boxship.units import parse_size

        return parse_size(text)


class Items(Flag[tuple[str, ...]]):
    """A flag that may be given many times.

    Args:
        check: looks at one value, gives it back in its final form, or raises InvalidValue.
    """

    kind = "list"

    def __init__(
        self,
        help_text: str,
        *,
        short: str = "",
        name: str = "",
        shown: str = "",
        check: Callable[[str], str] | None = None,
        kind: str = "",
    ) -> None:
        super().__init__(help_text, (), short=short, name=name, shown=shown, kind=kind)
        self._check = check

    def take(self, text: str, current: tuple[str, ...]) -> tuple[str, ...]:
        """One more."""
        return (*current, self._check(text) if self._check else text)


class Absent(Flag[None]):
    """A flag of Docker's whose feature isn't there: known by name, and refused.

    Args:
        reason: what is missing.
    """

    def __init__(self, help_text: str, reason: str, *, short: str = "", name: str = "", kind: str = "string") -> None:
        super().__init__(help_text, None, short=short, name=name)
        self.shown_kind = kind
        self.reason = reason

    @property
    def is_switch(self) -> bool:
        """Whether Docker's flag takes no value."""
        return not self.shown_kind

    def take(self, text: str, current: None) -> None:
        """Refuse."""
        raise CommandError(self.refusal)

    @property
    def refusal(self) -> str:
        """The message it is refused with."""
        return f"--{self.name} is not available in Boxship 0.1: {self.reason}"


class Options:
    """The values of a command's flags.

    Attributes:
        flags: long names to declarations, in the order of their declaration.
        shorts: one-letter forms to declarations.
        values: long names to what was given.
    """

    flags: ClassVar[dict[str, Flag[Any]]] = {}
    shorts: ClassVar[dict[str, Flag[Any]]] = {}

    def __init_subclass__(cls) -> None:
        flags = dict(cls.flags)
        for value in vars(cls).values():
            if isinstance(value, Flag):
                flags[value.name] = value
        cls.flags = flags
        cls.shorts = {flag.short: flag for flag in flags.values() if flag.short}

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def given(self, flag: Flag[Any] | str) -> bool:
        """Whether the flag was on the command line."""
        return (flag if isinstance(flag, str) else flag.name) in self.values


class HelpRequested(Exception):  # noqa: N818 - an outcome, not a failure
    """``--help`` was given."""


def parse(options: Options, words: Iterable[str], *, interspersed: bool = True) -> list[str]:
    """Parse a command line into ``options``; what remains are the arguments.

    Args:
        options: takes the values.
        words: the command line after the command's name.
        interspersed: whether flags may follow arguments.

    Raises:
        UsageError: a flag is unknown or its value wrong (status 125).
        CommandError: a flag's feature isn't there (status 125).
        HelpRequested: ``--help`` was given.
    """
    arguments: list[str] = []
    queue = list(words)
    queue.reverse()
    while queue:
        word = queue.pop()
        if word == "--":
            arguments.extend(reversed(queue))
            break
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            if not interspersed:
                arguments.extend(reversed(queue))
                break
        elif word.startswith("--"):
            _parse_long(options, word, queue)
        else:
            _parse_shorts(options, word, queue)
    return arguments


def _parse_long(options: Options, word: str, queue: list[str]) -> None:
    name, equals, value = word[2:].partition("=")
    if name == "help":
        raise HelpRequested
    flag = options.flags.get(name)
    if flag is None:
        raise UsageError(f"unknown flag: --{name}", 125)
    if not equals:
        if not flag.takes_value:
            value = "true"
        elif isinstance(flag, Absent):
            value = ""
        elif queue:
            value = queue.pop()
        else:
            raise UsageError(f"flag needs an argument: --{name}", 125)
    _store(options, flag, value)


def _parse_shorts(options: Options, word: str, queue: list[str]) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = options.shorts.get(letter)
        if flag is None:
            if letter == "h":
                raise HelpRequested
            raise UsageError(f"unknown shorthand flag: '{letter}' in {word}", 125)
        if letters.startswith("="):
            value, letters = letters[1:], ""
        elif not flag.takes_value or isinstance(flag, Absent):
            value = "true"
        elif letters:
            value, letters = letters, ""
        elif queue:
            value = queue.pop()
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in {word}", 125)
        _store(options, flag, value)


def _store(options: Options, flag: Flag[Any], value: str) -> None:
    try:
        options.values[flag.name] = flag.take(value, options.values.get(flag.name, flag.default))
    except InvalidValue as error:
        raise UsageError(f'invalid argument "{value}" for "{flag.title}" flag: {error}', 125) from error
