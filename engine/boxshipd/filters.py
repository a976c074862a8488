"""Docker's ``filters`` query parameter: parsing, validation and matching.

Source: moby api/types/filters (Args), whose matching rules and messages these are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec
from boxship.booleans import parse_boolean

from boxshipd.errors import InvalidParameter
from boxshipd.times import parse_moment


class Filters:
    """Filter names, each with the values a client gave. An absent name matches everything."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Iterable[str]] | None = None) -> None:
        self._fields = {name: tuple(dict.fromkeys(values)) for name, values in (fields or {}).items()}

    @classmethod
    def parse(cls, text: str | None) -> Filters:
        """Parse the JSON: ``{"name": ["value"]}``, or ``{"name": {"value": true}}`` as old clients send it.

        Raises:
            InvalidParameter: it is not such JSON.
        """
        if not text:
            return cls()
        try:
            decoded = msgspec.json.decode(text, type=dict[str, list[str] | dict[str, bool]])
        except msgspec.DecodeError as error:
            raise InvalidParameter(f"invalid filters {text!r}: {error}") from error
        return cls({n: v if isinstance(v, list) else [k for k, on in v.items() if on] for n, v in decoded.items()})

    def validate(self, accepted: Iterable[str]) -> None:
        """Refuse names that aren't in ``accepted``.

        Raises:
            InvalidParameter: with Docker's message.
        """
        known = frozenset(accepted)
        for name in self._fields:
            if name not in known:
                raise InvalidParameter(f"invalid filter '{name}'")

    def __bool__(self) -> bool:
        return bool(self._fields)

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def get(self, name: str) -> tuple[str, ...]:
        """The values given for ``name``, in order, each once."""
        return self._fields.get(name, ())

    def boolean(self, name: str, default: bool) -> bool:
        """The one truth value given for ``name``.

        Raises:
            InvalidParameter: it is neither true nor false, or both.
        """
        values = self.get(name)
        if not values:
            return default
        said = {parse_boolean(value) for value in values}
        if said == {True}:
            return True
        if said == {False}:
            return False
        raise InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")

    def until(self) -> int | None:
        """The time given for ``until``, in ns since the epoch.

        Raises:
            InvalidParameter: it can't be understood, or was given more than once.
        """
        values = self.get("until")
        if not values:
            return None
        if len(values) > 1:
            raise InvalidParameter("more than one until filter specified")
        return parse_moment(values[0])

    def exact(self, name: str, source: str) -> bool:
        """Whether ``source`` is one of the values."""
        values = self._fields.get(name)
        return not values or source in values

    def prefix(self, name: str, source: str) -> bool:
        """Whether one of the values begins ``source`` (Docker's FuzzyMatch)."""
        values = self._fields.get(name)
        return not values or any(source.startswith(value) for value in values)

    def pattern(self, name: str, *sources: str) -> bool:
        """Whether one of the values is equal to, or as a regular expression found in, one of ``sources``."""
        values = self._fields.get(name)
        return not values or any(value == source or _search(value, source) for value in values for source in sources)

    def labels(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """Whether ``labels`` have all of the values, each ``key`` or ``key=value``."""
        for wanted in self._fields.get(name, ()):
            key, sep, value = wanted.partition("=")
            if labels is None or key not in labels or (sep and labels[key] != value):
                return False
        return True

    def not_labels(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """Whether ``labels`` lack every one of the values (``label!``)."""
        values = self._fields.get(name)
        return not values or not any(Filters({name: (value,)}).labels(name, labels) for value in values)


def _search(expression: str, source: str) -> bool:
    """A search that holds an expression nobody can compile for one that matches nothing, as Docker does."""
    try:
        return re.search(expression, source) is not None
    except re.error:
        return False
