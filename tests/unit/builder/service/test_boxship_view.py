"""What Boxship's own client is told when a build fails."""

from __future__ import annotations

from boxship.types.build import BuildProgress, BuildWarning
from boxship.types.images import ErrorDetail
from boxshipd.builder.boxship_view import PROGRESS, BoxshipView
from boxshipd.builder.errors import ChecksFailed, DockerfileError, StepFailed
from boxshipd.errors import InvalidParameter
from msgspec import UNSET


def test_an_error_in_the_dockerfile_shows_its_lines():
    view = BoxshipView()
    error = DockerfileError("bad", 2, 2, " >>> BAD")
    (message,) = view.failure(error)
    assert message.error == "dockerfile parse error on line 2: bad"
    assert message.error_detail == ErrorDetail(message=message.error, excerpt=" >>> BAD")
    assert not view.is_refusal(error)
    assert view.is_refusal(InvalidParameter("bad target"))


def test_other_errors_have_none():
    for error, code in ((DockerfileError("no place"), UNSET), (StepFailed("ended", 3), 3), (InvalidParameter("x"), UNSET)):
        (message,) = BoxshipView().failure(error)
        assert message.error_detail == ErrorDetail(message=str(error), code=code)


def test_checks_that_fail_tell_what_was_found():
    warnings = (BuildWarning(rule="R", message="m"),)
    told, failed = BoxshipView().failure(ChecksFailed("lint violation found for rules: R", warnings))
    assert (told.id, told.aux) == (PROGRESS, BuildProgress(warnings=warnings))
    assert failed.error == "lint violation found for rules: R"
