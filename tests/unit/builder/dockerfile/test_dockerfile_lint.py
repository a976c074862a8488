"""The lint rules that the text decides, and what ``# check=`` makes of all of them."""

from __future__ import annotations

import pytest
from boxshipd.builder.dockerfile.instructions import Span
from boxshipd.builder.dockerfile.lint import Linter
from boxshipd.builder.dockerfile.parser import parse
from boxshipd.builder.dockerfile.rules import RULES
from boxshipd.builder.errors import DockerfileError


def found(text, check=None):
    linter = Linter(check)
    parse(text.encode(), linter)
    return [(each.line, each.rule, each.message) for each in linter.warnings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a AS Bee", [(1, "StageNameCasing", "Stage name 'Bee' should be lowercase")]),
        ("FROM a as b", [(1, "FromAsCasing", "'as' and 'FROM' keywords' casing do not match")]),
        ("from a AS b", [(1, "FromAsCasing", "'AS' and 'from' keywords' casing do not match")]),
        ("from a as b", []),
        (
            "FROM a\nrun x\nRUN y",
            [(2, "ConsistentInstructionCasing", "Command 'run' should match the case of the command majority (uppercase)")],
        ),
        (
            "from a\nrun x\nRun y",
            [(3, "ConsistentInstructionCasing", "Command 'Run' should match the case of the command majority (lowercase)")],
        ),
        (
            "FROM a AS b\nFROM a AS c\nFROM a AS b",
            [(3, "DuplicateStageName", 'Duplicate stage name "b", stage names should be unique')],
        ),
        (
            "FROM a AS scratch\nFROM b AS context",
            [
                (1, "ReservedStageName", 'Stage name should not use the same name as reserved stage "scratch"'),
                (2, "ReservedStageName", 'Stage name should not use the same name as reserved stage "context"'),
            ],
        ),
        (
            "FROM a\nMAINTAINER b",
            [(2, "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label")],
        ),
        (
            'FROM a\nCMD ["a"]\nENTRYPOINT ["a"]\nCMD ["b"]\nFROM a\nCMD ["c"]',
            [
                (
                    2,
                    "MultipleInstructionsDisallowed",
                    "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
                )
            ],
        ),
        (
            "FROM a\nENV a b\nlabel c d\nENV e=f",
            [
                (2, "LegacyKeyValueFormat", '"ENV key=value" should be used instead of legacy "ENV key value" format'),
                (3, "LegacyKeyValueFormat", '"label key=value" should be used instead of legacy "label key value" format'),
                (
                    3,
                    "ConsistentInstructionCasing",
                    "Command 'label' should match the case of the command majority (uppercase)",
                ),
            ],
        ),
        (
            "ARG token\nFROM a\nARG API_KEY=x\nENV a=b db_Password=x TOKENS=y PUBLIC_KEY=z KEY_FILE=f monkey=k",
            [
                (3, "SecretsUsedInArgOrEnv", 'Do not use ARG or ENV instructions for sensitive data (ARG "API_KEY")'),
                (4, "SecretsUsedInArgOrEnv", 'Do not use ARG or ENV instructions for sensitive data (ENV "db_Password")'),
            ],
        ),
    ],
)
def test_rules(text, expected):
    assert found(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# makes things\nFROM a AS b", [(2, "Comment for FROM should follow the format: `# b <description>`")]),
        ("# b makes things\nFROM a AS b", []),
        ("# makes things\nFROM a", []),
        ("# makes things\n\nFROM a AS b", []),
        ("# makes things\n#\nFROM a AS b", []),
        ("# b makes\n# things\nARG b\nFROM a", [(3, "Comment for ARG should follow the format: `# b <description>`")]),
        ("# things\nARG b c\nFROM a", [(2, "Comment for ARG should follow the format: `# <arg_key> <description>`")]),
        ("# c is\nARG b c\nFROM a", []),
    ],
)
def test_descriptions(text, expected):
    assert found(text, "") == []
    assert [(line, message) for line, _, message in found(text, "experimental=all")] == expected
    assert len(found(text, "experimental=InvalidDefinitionDescription;skip=all")) == len(expected)


def test_checks_of_the_file():
    text = "FROM a as B\nMAINTAINER x"
    assert [rule for _, rule, _ in found(text)] == ["StageNameCasing", "FromAsCasing", "MaintainerDeprecated"]
    assert [rule for _, rule, _ in found("# check=skip=StageNameCasing, FromAsCasing\n" + text)] == ["MaintainerDeprecated"]
    assert found("# check=skip=all\n" + text) == []
    assert found("# check=skip=all\n" + text, "") != []
    assert found(text, "skip=all") == []


def test_advice_may_be_an_error():
    linter = Linter()
    parse(b"# check=skip=StageNameCasing;error=true\nFROM a as B\nMAINTAINER x", linter)
    with pytest.raises(DockerfileError, match=r"^lint violation found for rules: FromAsCasing, MaintainerDeprecated$"):
        linter.conclude()
    linter = Linter()
    parse(b"# check=error=true\nFROM a", linter)
    linter.conclude()
    linter = Linter("error=false")
    parse(b"# check=error=true\nFROM a as B", linter)
    linter.conclude()


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("x", 'invalid check option "x"'),
        ("skip=a;y=z", 'invalid check option "y"'),
        ("error=maybe", 'failed to parse check option "error=maybe": invalid syntax'),
    ],
)
def test_checks_that_are_wrong(check, message):
    with pytest.raises(DockerfileError) as error:
        parse(f"# check={check}\nFROM a".encode())
    assert (error.value.message, error.value.first) == (message, 1)
    with pytest.raises(DockerfileError, match=r"^(invalid|failed)"):
        Linter(check)


@pytest.mark.parametrize(
    ("rule", "args", "message"),
    [
        ("UndefinedArgInFrom", ("a", "b"), "FROM argument 'a' is not declared (did you mean b?)"),
        ("UndefinedArgInFrom", ("a", ""), "FROM argument 'a' is not declared"),
        ("UndefinedVar", ("a", "b"), "Usage of undefined variable '$a' (did you mean $b?)"),
        ("UndefinedVar", ("a",), "Usage of undefined variable '$a'"),
        ("WorkdirRelativePath", ("a",), 'Relative workdir "a" can have unexpected results if the base image changes'),
        (
            "InvalidBaseImagePlatform",
            ("a", "linux/arm64", "linux/amd64"),
            'Base image a was pulled with platform "linux/amd64", expected "linux/arm64" for current build',
        ),
        (
            "RedundantTargetPlatform",
            ("$TARGETPLATFORM",),
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        ("InvalidDefaultArgInFrom", ("a:$b",), "Default value for ARG a:$b results in empty or invalid base image name"),
        ("FromPlatformFlagConstDisallowed", ("a/b",), 'FROM --platform flag should not use constant value "a/b"'),
        ("CopyIgnoredFile", ("COPY", "a"), 'Attempting to COPY file "a" that is excluded by .dockerignore'),
        (
            "JSONArgsRecommended",
            ("CMD",),
            "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        ),
        ("ExposeProtoCasing", ("80/TCP",), "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"),
        (
            "ExposeInvalidFormat",
            ("1:2",),
            "EXPOSE instruction should not define an IP address or host-port mapping, found '1:2'",
        ),
    ],
)
def test_rules_of_the_planner(rule, args, message):
    linter = Linter()
    linter.warn(rule, *args, span=Span(3, 4))
    linter.warn(rule, *args, span=Span(3, 4))
    (warning,) = linter.warnings
    assert (warning.rule, warning.message, warning.detail) == (rule, message, RULES[rule].description)
    assert (warning.line, warning.last) == (3, 4)


def test_pages_of_rules():
    assert RULES["JSONArgsRecommended"].url == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    assert RULES["StageNameCasing"].url == "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/"
    assert RULES["InvalidBaseImagePlatform"].url == ""
    assert RULES["SecretsUsedInArgOrEnv"].url.endswith("/secrets-used-in-arg-or-env/")
    assert len(RULES) == 22
