"""Words: quotes, escapes and variables, as BuildKit's own small shell understands them.

``$name``, ``${name}`` and, with ``word`` being expanded in turn:

    ${name-word}  ${name:-word}     the value, or word where it is unset (or empty)
    ${name+word}  ${name:+word}     word where it is set (and not empty)
    ${name?word}  ${name:?word}     the value, or an error where it is unset (or empty)
    ${name#word}  ${name##word}     without the shortest (longest) prefix that matches
    ${name%word}  ${name%%word}     without the shortest (longest) suffix that matches
    ${name/word/word}  ${name//word/word}     with the first (every) match replaced

What comes of it is bounded, whatever the variables are: ``MAX_RESULT`` characters, ``MAX_NESTING`` levels of ``${}``.

Source: BuildKit frontend/dockerfile/shell/lex.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from boxship.terminal.govalues import SPACE, quote
from msgspec import Struct

from boxshipd.builder.dockerfile.patterns import PatternError, replace, strip_prefix, strip_suffix
from boxshipd.builder.errors import DockerfileError

MAX_RESULT = 1024 * 1024
MAX_NESTING = 100

_SPACES = re.compile(f"[{SPACE}]+")
_SPECIAL_PARAMETERS = "@*#?-$!"
_OPERATIONS = "-+?#%"


class Expansion(Struct, frozen=True):
    """A text with its variables expanded; which of them were not defined, and which were."""

    text: str
    undefined: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Words:
    """The rules by which words are read.

    Attributes:
        escape: what makes the next character an ordinary one: a backslash or a backtick.
        quotes: quotes mean something.
        keep_quotes: they are part of the result.
        keep_escapes: what escapes is part of the result, as well as what it escapes.
        keep_unset: variables that aren't defined stay as they are written.
    """

    escape: str = "\\"
    quotes: bool = True
    keep_quotes: bool = False
    keep_escapes: bool = False
    keep_unset: bool = False

    def expand(self, text: str, env: Mapping[str, str]) -> Expansion:
        """The text as one word: white space stays as it is.

        Raises:
            DockerfileError: it can't be right, or what comes of it is too large; it doesn't know the line.
        """
        if self._plain(text):
            return Expansion(text)
        reader = _Reader(self, text, env)
        return Expansion(reader.whole(), frozenset(reader.undefined), frozenset(reader.used))

    def split(self, text: str, env: Mapping[str, str]) -> tuple[list[str], frozenset[str]]:
        """The words of a text, split where there is white space outside quotes, in values of variables as well.

        Returns:
            The words, none of which is empty, and the variables that aren't defined.

        Raises:
            DockerfileError: as for ``expand``.
        """
        if self._plain(text):
            return [word for word in _SPACES.split(text) if word], frozenset()
        splitter = _Splitter()
        reader = _Reader(self, text, env, splitter)
        reader.whole()
        return splitter.finish(), frozenset(reader.undefined)

    def _plain(self, text: str) -> bool:
        return not any(char in text for char in ("$", "'", '"', self.escape))


HEREDOC = Words(quotes=False)
"""How variables in a heredoc of COPY and ADD are expanded: quotes mean nothing, and only a backslash escapes, whatever the
Dockerfile's own character is."""


class _MalformedError(ValueError):
    """A text can't be right; its text says why."""


class _Splitter:
    """Collects words."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._word: list[str] = []

    def loose(self, text: str) -> None:
        """Add text that white space splits."""
        for place, piece in enumerate(_SPACES.split(text)):
            if place:
                self._flush()
            self.tight(piece)

    def tight(self, text: str) -> None:
        """Add text that is part of the word, white space included."""
        if text:
            self._word.append(text)

    def finish(self) -> list[str]:
        self._flush()
        return self._words

    def _flush(self) -> None:
        if self._word:
            self._words.append("".join(self._word))
            self._word.clear()


class _Text:
    """Text in the making, no longer than ``MAX_RESULT``."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0

    def add(self, text: str) -> None:
        self._length += len(text)
        if self._length > MAX_RESULT:
            raise _MalformedError(f"result is longer than {MAX_RESULT} characters")
        self._parts.append(text)

    def __str__(self) -> str:
        return "".join(self._parts)


class _Reader:
    """Reads one text from its begin to its end.

    Args:
        words: the rules.
        text: the text.
        env: the variables.
        splitter: gets the words of the outermost level, split.
    """

    def __init__(self, words: Words, text: str, env: Mapping[str, str], splitter: _Splitter | None = None) -> None:
        self._words = words
        self._text = text
        self._env = env
        self._splitter = splitter
        self._at = 0
        self._depth = 0
        self.undefined: set[str] = set()
        self.used: set[str] = set()

    def whole(self) -> str:
        try:
            return self._until("", self._words.keep_escapes, self._splitter)
        except (_MalformedError, PatternError) as error:
            shown = self._text if len(self._text) <= 200 else f"{self._text[:200]}..."
            raise DockerfileError(f"failed to process {quote(shown)}: {error}") from error

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._text[self._at : self._at + 1]
        self._at += 1
        return char

    @property
    def _ended(self) -> bool:
        return self._at >= len(self._text)

    def _until(self, stop: str, keep_escapes: bool, splitter: _Splitter | None = None) -> str:
        """What comes before ``stop`` (the end, if it is empty), which is taken too."""
        out = _Text()
        plain = _plain_run(self._words.escape + stop, self._words.quotes)
        while not self._ended:
            char = self._peek()
            if char == stop:
                self._at += 1
                return str(out)
            loose = False
            if char == "$":
                part, loose = self._dollar(keep_escapes), True
            elif self._words.quotes and char == "'":
                part = self._single_quoted()
            elif self._words.quotes and char == '"':
                part = self._double_quoted(keep_escapes)
            elif char == self._words.escape:
                self._at += 1
                part = (char if keep_escapes else "") + self._next()
            else:
                found = plain.match(self._text, self._at)
                assert found is not None
                part, loose = found[0], True
                self._at = found.end()
            out.add(part)
            if splitter is not None:
                (splitter.loose if loose else splitter.tight)(part)
        if stop:
            raise _MalformedError(f"unexpected end of statement while looking for matching {stop}")
        return str(out)

    def _single_quoted(self) -> str:
        """All that is between single quotes stays as it is."""
        end = self._text.find("'", self._at + 1)
        if end < 0:
            self._at = len(self._text)
            raise _MalformedError("unexpected end of statement while looking for matching single-quote")
        start, self._at = self._at, end + 1
        return self._text[start : end + 1] if self._words.keep_quotes else self._text[start + 1 : end]

    def _double_quoted(self, keep_escapes: bool) -> str:
        """Between double quotes only variables are expanded, and only ``"``, ``$`` and what escapes can be escaped."""
        escape = self._words.escape
        out = _Text()
        edge = '"' if self._words.keep_quotes else ""
        out.add(edge)
        self._at += 1
        plain = _plain_run(escape, quotes=True, single=False)
        while not self._ended:
            char = self._peek()
            if char == '"':
                self._at += 1
                out.add(edge)
                return str(out)
            if char == "$":
                out.add(self._dollar(keep_escapes))
            elif char == escape:
                self._at += 1
                if keep_escapes:
                    out.add(char)
                if not self._ended:
                    out.add(self._next() if self._peek() in ('"', "$", escape) else char)
            else:
                found = plain.match(self._text, self._at)
                assert found is not None
                out.add(found[0])
                self._at = found.end()
        raise _MalformedError("unexpected end of statement while looking for matching double-quote")

    def _dollar(self, keep_escapes: bool) -> str:
        """A variable, or a dollar sign that is none's."""
        self._at += 1
        if self._peek() == "{":
            self._at += 1
            self._depth += 1
            if self._depth > MAX_NESTING:
                raise _MalformedError(f"more than {MAX_NESTING} substitutions in each other")
            value = self._substitution()
            self._depth -= 1
            return value
        name = self._name()
        if not name:
            return "$"
        value, known = self._value(name)
        return value if known or not self._words.keep_unset else f"${name}"

    def _substitution(self) -> str:
        """What is between ``${`` and ``}``."""
        if self._ended:
            raise _MalformedError("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise _MalformedError("syntax error: bad substitution")
        name = self._name()
        operation = self._next()
        if operation == "}":
            value, known = self._value(name)
            return value if known or not self._words.keep_unset else f"${{{name}}}"
        if operation == "/":
            return self._replacement(name)
        colon = operation == ":"
        if colon:
            operation = self._next()
        if not operation:
            raise _MalformedError("syntax error: missing '}'")
        patterns = operation in "#%"
        if operation not in _OPERATIONS or (colon and patterns):
            raise _MalformedError(f"unsupported modifier ({':' * colon}{operation}) in substitution")
        word = self._nested("}", patterns, "syntax error: missing '}'")
        value, known = self._value(name)
        if not known and self._words.keep_unset:
            return f"${{{name}{':' * colon}{operation}{word}}}"
        if patterns:
            longest = word.startswith(operation)
            strip = strip_prefix if operation == "#" else strip_suffix
            return self._pattern(word, lambda: strip(value, word[longest:], longest=longest))
        return _choose(name, operation, word, value, known=known, filled=known and (bool(value) or not colon))

    def _replacement(self, name: str) -> str:
        everywhere = self._peek() == "/"
        self._at += everywhere
        pattern = self._nested("/", True, "syntax error: missing '/' in ${}")
        replacement = self._nested("}", True, "syntax error: missing '}'")
        value, known = self._value(name)
        if not known and self._words.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        return self._pattern(pattern, lambda: replace(value, pattern, replacement, everywhere=everywhere, limit=MAX_RESULT))

    @staticmethod
    def _pattern(pattern: str, apply: Callable[[], str]) -> str:
        try:
            return apply()
        except PatternError as error:
            raise _MalformedError(f"invalid pattern ({pattern[:200]}) in substitution: {error}") from error

    def _nested(self, stop: str, keep_escapes: bool, unfinished: str) -> str:
        try:
            return self._until(stop, keep_escapes)
        except _MalformedError as error:
            if self._ended and str(error).startswith("unexpected end of statement"):
                raise _MalformedError(unfinished) from error
            raise

    def _name(self) -> str:
        """A variable's name, a positional parameter's number, or one special parameter; may be empty."""
        start = self._at
        first = self._peek()
        if first and first in _SPECIAL_PARAMETERS:
            self._at += 1
            return first
        if first.isdecimal():
            while self._peek().isdecimal():
                self._at += 1
        else:
            while (char := self._peek()) == "_" or char.isalpha() or char.isdecimal():
                self._at += 1
        return self._text[start : self._at]

    def _value(self, name: str) -> tuple[str, bool]:
        value = self._env.get(name)
        (self.undefined if value is None else self.used).add(name)
        return ("", False) if value is None else (value, True)


def _choose(name: str, operation: str, word: str, value: str, *, known: bool, filled: bool) -> str:
    """What ``-``, ``+`` and ``?`` come to."""
    if operation == "-":
        return value if filled else word
    if operation == "+":
        return word if filled else ""
    if not filled:
        raise _MalformedError(f"{name}: {word or ('is not allowed to be empty' if known else 'is not allowed to be unset')}")
    return value


@lru_cache
def _plain_run(special: str, quotes: bool, single: bool = True) -> re.Pattern[str]:
    """What needs no looking at: anything but variables, quotes, and the given characters."""
    chars = special + "$" + ('"' if quotes else "") + ("'" if quotes and single else "")
    return re.compile(f"[^{re.escape(chars)}]+")
