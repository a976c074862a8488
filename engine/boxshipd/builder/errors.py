"""What can go wrong in a build.

DaemonError
├── InvalidParameter
│   └── DockerfileError    the Dockerfile can't be right; knows its lines, and shows them
│       └── ChecksFailed   it could be built, but ``# check=error=true`` makes errors of advice
├── NotFound
│   └── SourceMissing      COPY or ADD, or a mount, names what isn't there
└── InternalError
    └── StepFailed         a command ended with another code than 0
"""

from __future__ import annotations

from boxship.types.build import BuildWarning

from boxshipd.errors import InternalError, InvalidParameter, NotFound


class DockerfileError(InvalidParameter):
    """The Dockerfile can't be right.

    Args:
        message: what is wrong, without the place.
        first: the first line concerned, from 1; 0 where it is no line's fault.
        last: the last.
        excerpt: the lines around, as they are to be shown, or nothing.
    """

    def __init__(self, message: str, first: int = 0, last: int = 0, excerpt: str = "") -> None:
        super().__init__(f"dockerfile parse error on line {first}: {message}" if first else message)
        self.message = message
        self.first = first
        self.last = last or first
        self.excerpt = excerpt


class ChecksFailed(DockerfileError):  # noqa: N818 - named after Docker's error kinds
    """It could be built, but ``# check=error=true`` makes errors of advice.

    Args:
        message: which rules were broken.
        warnings: the advice.
    """

    def __init__(self, message: str, warnings: tuple[BuildWarning, ...]) -> None:
        super().__init__(message)
        self.warnings = warnings


class SourceMissing(NotFound):
    """COPY or ADD, or a mount, names what isn't there."""


class StepFailed(InternalError):  # noqa: N818 - named after Docker's error kinds
    """A command ended with another code than 0.

    Args:
        message: in Docker's words.
        code: the exit code.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
