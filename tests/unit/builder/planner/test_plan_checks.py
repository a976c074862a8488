"""Advice that needs values, images or ignore files, and what makes errors of it."""

import pytest
from boxshipd.builder.errors import ChecksFailed
from boxshipd.errors import InvalidParameter
from support.plans import AMD64, ARM64, Images, planned

FOUND = [
    ("FROM debian\nRUN x\nUSER $who\n", "UndefinedVar", "Usage of undefined variable '$who'", 3),
    ("FROM debian\nENV NAME=1\nUSER $NMAE\n", "UndefinedVar", "Usage of undefined variable '$NMAE' (did you mean $NAME?)", 3),
    ("FROM debian\nCOPY $A /\n", "UndefinedVar", "Usage of undefined variable '$A'", 2),
    ("FROM debian\nCOPY <<EOF /x\n$A\nEOF\n", "UndefinedVar", "Usage of undefined variable '$A'", 2),
    ("ARG TAG=1\nFROM debian:${TAB:-1}\n", "UndefinedArgInFrom", "FROM argument 'TAB' is not declared (did you mean TAG?)", 2),
    ("ARG V\nFROM debian:$V\n", "InvalidDefaultArgInFrom", "Default value for ARG debian:$V results in empty or invalid base image name", 2),
    ("FROM debian\nWORKDIR a\n", "WorkdirRelativePath", 'Relative workdir "a" can have unexpected results if the base image changes', 2),
    ("FROM --platform=$TARGETPLATFORM debian\n", "RedundantTargetPlatform", "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior", 1),
    ("FROM --platform=linux/amd64 debian\n", "FromPlatformFlagConstDisallowed", 'FROM --platform flag should not use constant value "linux/amd64"', 1),
    ("FROM debian\nCOPY a/x.o /\n", "CopyIgnoredFile", 'Attempting to Copy file "a/x.o" that is excluded by .dockerignore', 2),
    ("FROM debian\nADD x.o b /\n", "CopyIgnoredFile", 'Attempting to Add file "x.o" that is excluded by .dockerignore', 2),
    ("FROM debian\nENV API_KEY=1\n", "SecretsUsedInArgOrEnv", 'Do not use ARG or ENV instructions for sensitive data (ENV "API_KEY")', 2),
    ("FROM debian\nEXPOSE 80/TcP\n", "ExposeProtoCasing", "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase", 2),
    ("FROM debian\nEXPOSE 127.0.0.1:80:80\n", "ExposeInvalidFormat", "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'", 2),
    ("FROM debian\nCMD x\n", "JSONArgsRecommended", "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals", 2),
]  # fmt: skip


@pytest.mark.parametrize(("text", "rule", "message", "line"), FOUND)
async def test_advice(text, rule, message, line):
    found = await planned(text, build_args={"V": "1"} if "ARG V" in text else {}, ignore_file="*.o\n**/*.o\n")
    (warning,) = found.plan.warnings
    assert (warning.rule, warning.message, warning.line) == (rule, message, line)


@pytest.mark.parametrize(
    "text",
    [
        "FROM debian\nARG who\nUSER ${who:-me}\n",
        "FROM debian\nARG A\nRUN echo $UNKNOWN\nCOPY <<'EOF' /x\n$A $B\nEOF\n",
        "ARG TAG=1\nFROM debian:$TAG\n",
        "FROM debian\nWORKDIR /a\nWORKDIR b\n",
        "FROM debian AS a\nWORKDIR /a\nFROM a\nWORKDIR b\n",
        "FROM --platform=$BUILDPLATFORM debian\n",
        "FROM --platform=linux/amd64 debian AS for-amd64\n",
        'FROM debian\nSHELL ["/bin/bash", "-c"]\nCMD x\n',
        "FROM debian AS a\nFROM debian\nCOPY --from=a x.o /\n",
        "FROM debian\nENV PUBLIC_KEY=1\nCOPY a /\n",
    ],
)
async def test_no_advice(text):
    assert (await planned(text, ignore_file="*.o\n")).plan.warnings == ()


async def test_nothing_is_said_of_what_an_ignore_file_with_exceptions_leaves_out():
    assert (await planned("FROM debian\nCOPY a.o /\n", ignore_file="*.o\n!a.o\n")).rules == []


@pytest.mark.parametrize(("ignored", "rules"), [("*\n", ["CopyIgnoredFile"]), ("a\n", [])])
async def test_all_of_the_context_is_left_out(ignored, rules):
    assert (await planned("FROM debian\nCOPY . /\n", ignore_file=ignored)).rules == rules


async def test_platforms_of_images_do_not_fit():
    class Foreign(Images):
        async def image(self, name, platform):
            return await super().image(name, AMD64)

    found = await planned("FROM debian\n", Foreign(), platforms=(ARM64,))
    assert [warning.message for warning in found.plan.warnings] == [
        'Base image debian was pulled with platform "linux/amd64", expected "linux/arm64" for current build'
    ]


async def test_the_same_is_told_once_for_all_platforms():
    assert (await planned("FROM debian\nUSER $A\n", platforms=(AMD64, ARM64))).rules == ["UndefinedVar"]


async def test_checks_can_be_skipped():
    assert (await planned("# check=skip=UndefinedVar\nFROM debian\nUSER $A\n")).rules == []
    found = await planned("FROM debian\nUSER $A\n", build_args={"BUILDKIT_DOCKERFILE_CHECK": "skip=all"})
    assert found.rules == []


@pytest.mark.parametrize("options", [{}, {"check": True}])
async def test_checks_can_be_errors(options):
    with pytest.raises(ChecksFailed, match="lint violation found for rules: JSONArgsRecommended, UndefinedVar") as caught:
        await planned("# check=error=true\nFROM debian\nUSER $A\nCMD x\n", **options)
    assert [warning.rule for warning in caught.value.warnings] == ["UndefinedVar", "JSONArgsRecommended"]


async def test_without_advice_nothing_fails():
    found = await planned("# check=error=true\nFROM debian\n")
    assert found.plan.warnings == ()


async def test_a_check_looks_at_all_stages_or_at_those_of_its_target():
    text = "FROM debian AS a\nUSER $A\nFROM debian\nUSER $B\n"
    found = await planned(text, check=True)
    assert [warning.line for warning in found.plan.warnings] == [2, 4]
    assert found.plan.images == ()
    assert [warning.line for warning in (await planned(text, check=True, target="a")).plan.warnings] == [2]
    assert [warning.line for warning in (await planned(text)).plan.warnings] == [4]


async def test_another_front_end_is_told():
    found = await planned("# syntax=example.org/other:1\nFROM debian\n")
    assert [warning.message for warning in found.plan.warnings] == [
        "# syntax=example.org/other:1 is another front end: this is read as a Dockerfile"
    ]
    assert (await planned("# syntax=docker/dockerfile:1.7-labs\nFROM debian\n")).plan.warnings == ()


@pytest.mark.parametrize(
    ("build_args", "message"),
    [
        ({"BUILDKIT_SYNTAX": "example.org/other:1"}, "BUILDKIT_SYNTAX"),
        ({"BUILDKIT_MULTI_PLATFORM": "perhaps"}, "BUILDKIT_MULTI_PLATFORM must be true or false"),
        ({"SOURCE_DATE_EPOCH": "yesterday"}, "invalid SOURCE_DATE_EPOCH: yesterday"),
        ({"BUILDKIT_DOCKERFILE_CHECK": "nothing=1"}, "invalid check option"),
    ],
)
async def test_build_arguments_that_cannot_be_right(build_args, message):
    with pytest.raises(InvalidParameter, match=message):
        await planned("FROM debian\n", build_args=build_args)


@pytest.mark.parametrize("text", ["", "# nothing\n", "RUN x\n", "FROM debian\nNONSENSE\n"])
async def test_texts_that_cannot_be_right(text):
    with pytest.raises(InvalidParameter):
        await planned(text)
