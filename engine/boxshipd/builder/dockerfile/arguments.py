"""What follows an instruction's keyword, in the forms that there are: flags, a JSON list, words, names with values.

Nothing is expanded, and quotes stay, except in flags, where they are taken away. What can't be right is an ``ArgumentError``.

Source: BuildKit frontend/dockerfile/parser/split_command.go, line_parsers.go.
"""

from __future__ import annotations

import re
from functools import cache

import msgspec
from boxship.terminal.govalues import SPACE, quote

from boxshipd.builder.dockerfile.instructions import Pair

_WHITE = re.compile(r"[\t\v\f\r ]+")
_PLAIN_FLAG = re.compile(f"[^{SPACE}'\"\\\\]+")


class ArgumentError(ValueError):
    """An instruction's arguments can't be right; its text says why."""


def split_keyword(text: str) -> tuple[str, list[str], str]:
    """A line's keyword, as written, its flags, without their quotes, and the rest."""
    keyword, *rest = _WHITE.split(text.strip(SPACE), maxsplit=1)
    if not rest:
        return keyword, [], ""
    flags, arguments = _split_flags(rest[0])
    return keyword, flags, arguments.strip(SPACE)


def _split_flags(text: str) -> tuple[list[str], str]:
    """The words that begin with ``--``, up to ``--`` itself or any other word, and what comes after them."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at] in SPACE:
            at += 1
        if not text.startswith("--", at):
            return flags, text[at:]
        word, at = _flag(text, at)
        if word == "--":
            return flags, text[at:]
        flags.append(word)


def _flag(text: str, at: int) -> tuple[str, int]:
    """The word that begins at a place, without its quotes and backslashes, and where it ends."""
    word: list[str] = []
    quoted = ""
    while at < len(text):
        if found := _PLAIN_FLAG.match(text, at):
            word.append(found[0])
            at = found.end()
            continue
        char = text[at]
        at += 1
        if not quoted and char in SPACE:
            break
        if char == quoted:
            quoted = ""
        elif not quoted and char in "'\"":
            quoted = char
        elif char == "\\":
            # Whatever the file's own escape character is.
            word.append(text[at : at + 1])
            at += 1
        else:
            word.append(char)
    return "".join(word), at


def white_words(text: str) -> list[str]:
    """The words between white space; quotes mean nothing."""
    return _WHITE.split(text) if text else []


def json_list(text: str) -> list[str] | None:
    """The strings of a JSON list; None for what isn't one.

    Raises:
        ArgumentError: it is one, of other things, or of strings that no program can be given.
    """
    if not text.startswith("["):
        return None
    try:
        items = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in items):
        raise ArgumentError("when using JSON array syntax, arrays must be comprised of strings only")
    if any("\0" in item for item in items):
        raise ArgumentError("an argument has a NUL character")
    return list(items)


def quoted_words(text: str, escape: str) -> list[str]:
    """The words between white space that isn't in quotes or escaped; quotes and escapes stay."""
    plain = _plain_word(escape)
    words: list[str] = []
    word: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char in SPACE:
            if word:
                words.append("".join(word))
                word.clear()
            at += 1
        elif char in "'\"":
            end = _closing(text, at, escape)
            word.append(text[at:end])
            at = end
        elif char == escape:
            # One at the very end escapes nothing, and is left out.
            word.append(text[at : at + 2] if at + 1 < len(text) else "")
            at += 2
        else:
            found = plain.match(text, at)
            assert found is not None
            word.append(found[0])
            at = found.end()
    if any(word):
        words.append("".join(word))
    return words


@cache
def _plain_word(escape: str) -> re.Pattern[str]:
    return re.compile(f"[^{SPACE}'\"{re.escape(escape)}]+")


def _closing(text: str, at: int, escape: str) -> int:
    """Where the quotes end that begin at a place; the text's end, if they don't."""
    edge = text[at]
    at += 1
    while at < len(text) and text[at] != edge:
        at += 2 if edge == '"' and text[at] == escape else 1
    return min(at + 1, len(text))


def names_and_values(text: str, keyword: str, escape: str) -> tuple[Pair, ...]:
    """``name=value`` any number of times, or the old form ``name value`` once.

    Raises:
        ArgumentError: there is none, or one of them isn't one.
    """
    words = quoted_words(text, escape)
    if not words:
        raise ArgumentError(f"{keyword} requires at least one argument")
    if "=" not in words[0]:
        name, *value = _WHITE.split(text, maxsplit=1)
        if not value:
            raise ArgumentError(f"{keyword} must have two arguments")
        return (Pair(name, value[0], legacy=True),)
    pairs: list[Pair] = []
    for word in words:
        name, equals, value_text = word.partition("=")
        if not equals:
            raise ArgumentError(f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value")
        if not name:
            raise ArgumentError(f"{keyword} names can not be blank")
        pairs.append(Pair(name, value_text))
    return tuple(pairs)
