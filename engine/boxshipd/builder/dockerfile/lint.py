"""Advice about a Dockerfile, as ``# check=`` wants it.

What the text alone tells is found by the parser (``parser.parse(text, linter)``, through ``advice``). The planner, which knows
values and images, calls ``warn`` for the rest, with these arguments:

    UndefinedArgInFrom               the variable, and the nearest that there is (``suggestions.suggest``) or nothing
    UndefinedVar                     the same
    InvalidDefaultArgInFrom          the image as FROM has it: with the ARGs' defaults alone it is empty or no image's name
    RedundantTargetPlatform          the platform as FROM has it: TARGETPLATFORM is all that it uses
    FromPlatformFlagConstDisallowed  the platform, which uses no variable and isn't part of the stage's name
    InvalidBaseImagePlatform         the image, the platform expected, the image's own
    JSONArgsRecommended              CMD or ENTRYPOINT: in shell form, and neither SHELL nor the base image chose the shell
    WorkdirRelativePath              the path; neither the stage nor those it is made of had an absolute one
    CopyIgnoredFile                  COPY or ADD, and the file that the ignore file excludes
    ExposeProtoCasing                the port as written
    ExposeInvalidFormat              the port as written

``warnings`` are what is shown; ``conclude`` fails the build where ``error=true`` wants that.

Source: BuildKit frontend/dockerfile/linter/linter.go.
"""

from __future__ import annotations

from boxship.booleans import parse_boolean
from boxship.terminal.govalues import quote
from boxship.types.build import BuildWarning

from boxshipd.builder.dockerfile.instructions import Span
from boxshipd.builder.dockerfile.rules import RULES
from boxshipd.builder.errors import DockerfileError


class Linter:
    """Collects advice.

    Args:
        check: what is checked: ``skip=<rules or all>;error=<true or false>;experimental=<rules or all>``, any of them. None for
            what the Dockerfile itself says (``# check=``); a text (``BUILDKIT_DOCKERFILE_CHECK``) counts instead of that.

    Raises:
        DockerfileError: ``check`` can't be understood.
    """

    def __init__(self, check: str | None = None) -> None:
        self._fixed = check is not None
        self._skipped: frozenset[str] = frozenset()
        self._wanted: frozenset[str] = frozenset()
        self._is_error = False
        self._found: dict[BuildWarning, None] = {}
        self._configure(check or "")

    def configure(self, check: str) -> None:
        """Take what the Dockerfile says, unless something else was said.

        Raises:
            DockerfileError: it can't be understood; it doesn't know the line.
        """
        if not self._fixed:
            self._configure(check)

    def warn(self, name: str, *args: str, span: Span | None = None) -> None:
        """Add advice, unless its rule is skipped.

        Args:
            name: the rule's name.
            args: what its message takes.
            span: the lines concerned.
        """
        rule = RULES[name]
        if rule.experimental:
            if not self._wanted & {"all", name}:
                return
        elif self._skipped & {"all", name}:
            return
        warning = BuildWarning(
            rule=name,
            message=rule.message(*args),
            detail=rule.description,
            url=rule.url,
            line=span.first if span else 0,
            last=span.last if span else 0,
        )
        self._found[warning] = None

    @property
    def warnings(self) -> tuple[BuildWarning, ...]:
        """What was found, by lines; the same isn't told twice, however many platforms or stages lead to it."""
        return tuple(sorted(self._found, key=lambda found: found.line))

    def conclude(self) -> None:
        """Fail where anything was found and ``error=true`` was said.

        Raises:
            DockerfileError: so it is.
        """
        if self._is_error and self._found:
            names = sorted({found.rule for found in self._found})
            raise DockerfileError(f"lint violation found for rules: {', '.join(names)}")

    def _configure(self, check: str) -> None:
        self._skipped, self._wanted, self._is_error = frozenset(), frozenset(), False
        if not check.strip():
            return
        for part in check.strip().split(";"):
            key, equals, value = part.partition("=")
            key, value = key.strip(), value.strip()
            names = frozenset(name.strip() for name in value.split(","))
            if not equals:
                raise DockerfileError(f"invalid check option {quote(part)}")
            if key == "skip":
                self._skipped = names
            elif key == "experimental":
                self._wanted = names
            elif key != "error":
                raise DockerfileError(f"invalid check option {quote(key)}")
            elif (said := parse_boolean(value)) is None:
                raise DockerfileError(f"failed to parse check option {quote(part)}: invalid syntax")
            else:
                self._is_error = said
