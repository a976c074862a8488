"""Ignore files, as the client reads them too (``boxship.archive.ignore``), with the daemon's errors."""

from __future__ import annotations

from collections.abc import Sequence

from boxship.archive import ignore
from boxship.archive.ignore import ignore_files, read_patterns
from boxship.errors import InvalidValue

from boxshipd.errors import InvalidParameter

__all__ = ["Matcher", "ignore_files", "read_patterns"]


class Matcher(ignore.Matcher):
    """As the client's.

    Raises:
        InvalidParameter: a pattern can't be right.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        try:
            super().__init__(patterns)
        except InvalidValue as error:
            raise InvalidParameter(str(error)) from error
