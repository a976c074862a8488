"""Advice for which values, images or ignore files must be known; what the text alone tells is the parser's.

Source: BuildKit frontend/dockerfile/dockerfile2llb/validations.go.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from boxshipd.builder.dockerfile.instructions import Span
from boxshipd.builder.dockerfile.lint import Linter
from boxshipd.builder.dockerfile.suggestions import suggest
from boxshipd.builder.dockerfile.words import Expansion
from boxshipd.builder.planner.arguments import UNSET_IN_COMMANDS
from boxshipd.builder.planner.ignored import Ignored
from boxshipd.builder.planner.paths import clean
from boxshipd.builder.planner.ports import Exposed
from boxshipd.errors import InvalidParameter
from boxshipd.images import reference
from boxshipd.images.model import Platform
from boxshipd.images.platform import describe, parse

_SUGGESTIONS = 100
_OPTIONS = 256


class Advice:
    """Says what could be better.

    Args:
        linter: collects it.
        ignore: the ignore file that applies to the context, None for none.
    """

    def __init__(self, linter: Linter, ignore: Ignored | None) -> None:
        self._linter = linter
        self._ignore = ignore
        self._left = _SUGGESTIONS

    def undefined_variables(self, names: Iterable[str], env: Mapping[str, str], span: Span) -> None:
        """An instruction uses variables that aren't there."""
        for name in sorted(set(names) - UNSET_IN_COMMANDS):
            self._linter.warn("UndefinedVar", name, self._nearest(name, env), span=span)

    def undefined_in_from(self, names: Iterable[str], known: Collection[str], span: Span) -> None:
        """FROM uses variables that no ARG before it declares."""
        for name in sorted(set(names).difference(known)):
            self._linter.warn("UndefinedArgInFrom", name, self._nearest(name, known), span=span)

    def default_base(self, written: str, expanded: str, span: Span) -> None:
        """A FROM, with what it is with the ARGs' defaults alone, which should be an image's name as well."""
        try:
            reference.parse(expanded)
        except InvalidParameter:
            self._linter.warn("InvalidDefaultArgInFrom", written, span=span)

    def platform_flag(self, written: str, expanded: Expansion, target: str, stage: str, span: Span) -> None:
        """A ``FROM --platform``: it shouldn't be a constant, nor say what is so without it."""
        if expanded.used == {"TARGETPLATFORM"} and not expanded.undefined and expanded.text == target:
            self._linter.warn("RedundantTargetPlatform", written, span=span)
        if expanded.used or expanded.undefined:
            return
        try:
            platform = parse(expanded.text)
        except InvalidParameter:
            return
        if platform.os not in stage and platform.architecture not in stage:
            self._linter.warn("FromPlatformFlagConstDisallowed", expanded.text, span=span)

    def base_platform(self, image: str, expected: Platform, actual: Platform, span: Span) -> None:
        """An image is for another platform than was wanted."""
        if (expected.os, expected.architecture) != (actual.os, actual.architecture):
            self._linter.warn("InvalidBaseImagePlatform", image, describe(expected), describe(actual), span=span)

    def shell_form(self, keyword: str, span: Span) -> None:
        """CMD or ENTRYPOINT runs a shell that nobody chose."""
        self._linter.warn("JSONArgsRecommended", keyword, span=span)

    def relative_workdir(self, path: str, span: Span) -> None:
        """The first WORKDIR is relative to what the image has."""
        self._linter.warn("WorkdirRelativePath", path, span=span)

    def exposed(self, word: str, exposed: Exposed, span: Span) -> None:
        """EXPOSE's protocols should be in lower case, and it publishes nothing."""
        if exposed.shouts:
            self._linter.warn("ExposeProtoCasing", word, span=span)
        if exposed.publishes:
            self._linter.warn("ExposeInvalidFormat", word, span=span)

    def ignored_sources(self, keyword: str, sources: Iterable[str], span: Span) -> None:
        """Files of the context are copied that the ignore file keeps out of it.

        With exceptions in the ignore file nothing can be said: a directory may be left out, and a file in it not.
        """
        ignore = self._ignore
        if ignore is None or ignore.has_exceptions:
            return
        for source in sources:
            path = clean(source).lstrip("/")
            if ignore.leaves_out(path):
                self._linter.warn("CopyIgnoredFile", keyword.capitalize(), path or ".", span=span)

    def _nearest(self, name: str, known: Collection[str]) -> str:
        """What may have been meant; after so many, and of so many, nobody reads it, and it takes time to find."""
        if self._left <= 0 or len(known) > _OPTIONS or len(name) > 64:
            return ""
        self._left -= 1
        return suggest(name, known)
