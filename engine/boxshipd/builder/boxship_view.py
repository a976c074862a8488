"""A build's progress as Boxship's own client gets it: as it happens, nothing put into words."""

from __future__ import annotations

from collections.abc import Sequence

from boxship.types.build import BuildProgress
from boxship.types.build_request import BuildResult
from boxship.types.images import ErrorDetail, ProgressMessage
from msgspec import UNSET

from boxshipd.builder.errors import StepFailed
from boxshipd.builder.plan import Plan

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
        """It has failed."""
        code = error.code if isinstance(error, StepFailed) else UNSET
        return [ProgressMessage(error=str(error), error_detail=ErrorDetail(message=str(error), code=code))]
