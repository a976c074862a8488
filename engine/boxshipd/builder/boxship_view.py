"""A build's progress as Boxship's own client gets it: as it happens, nothing put into words."""

from __future__ import annotations

from collections.abc import Sequence

from boxship.types.build import BuildProgress
from boxship.types.build_request import BuildResult
from boxship.types.images import ErrorDetail, ProgressMessage
from msgspec import UNSET

from boxshipd.builder.errors import ChecksFailed, DockerfileError, StepFailed
from boxshipd.builder.plan import Plan
from boxshipd.errors import InvalidParameter, NotImplementedHere

PROGRESS = "boxship.build.progress"
RESULT = "boxship.build.result"


class BoxshipView:
    """One build's documents; see ``classic.ClassicView``, whose methods these are."""

    def plan(self, plan: Plan) -> list[ProgressMessage]:
        """The Dockerfile has been read: there is nothing to tell but advice."""
        return self.progress(BuildProgress(warnings=plan.warnings)) if plan.warnings else []

    def progress(self, progress: BuildProgress) -> list[ProgressMessage]:
        """Something has happened."""
        return [ProgressMessage(id=PROGRESS, aux=progress)]

    def success(self, result: BuildResult, _: Sequence[str]) -> list[ProgressMessage]:
        """It is done."""
        return [ProgressMessage(id=RESULT, aux=result)]

    def failure(self, error: Exception) -> list[ProgressMessage]:
        """It has failed, with the advice that made it fail, if that did."""
        detail = ErrorDetail(
            message=str(error),
            code=error.code if isinstance(error, StepFailed) else UNSET,
            excerpt=error.excerpt or UNSET if isinstance(error, DockerfileError) else UNSET,
        )
        advice = self.progress(BuildProgress(warnings=error.warnings)) if isinstance(error, ChecksFailed) else []
        return [*advice, ProgressMessage(error=detail.message, error_detail=detail)]

    def is_refusal(self, error: Exception) -> bool:
        """Whether an error is an answer of its own, if nothing has been told yet: one about the Dockerfile has more to tell."""
        return isinstance(error, InvalidParameter | NotImplementedHere) and not isinstance(error, DockerfileError)
