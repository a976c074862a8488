"""The lint rules: names, descriptions, addresses and messages.

Source: BuildKit frontend/dockerfile/linter/ruleset.go, whose words these are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from boxship.terminal.govalues import quote


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        name: its name.
        description: what it is about.
        message: makes the message of what was found.
        experimental: it applies only where it is asked for.
        documented: its page exists.
    """

    name: str
    description: str
    message: Callable[..., str]
    experimental: bool = False
    documented: bool = True

    @property
    def url(self) -> str:
        """Its page."""
        if not self.documented:
            return ""
        words = re.findall("[A-Z]+(?![a-z])|[A-Z][a-z]+", self.name)
        return f"https://docs.docker.com/go/dockerfile/rule/{'-'.join(words).lower()}/"


def _meant(suggestion: str) -> str:
    return f" (did you mean {suggestion}?)" if suggestion else ""


_ALL = (
    Rule(
        "StageNameCasing",
        "Stage names should be lowercase",
        lambda name: f"Stage name '{name}' should be lowercase",
    ),
    Rule(
        "FromAsCasing",
        "The 'as' keyword should match the case of the 'from' keyword",
        lambda from_, as_: f"'{as_}' and '{from_}' keywords' casing do not match",
    ),
    Rule(
        "NoEmptyContinuation",
        "Empty continuation lines will become errors in a future release",
        lambda: "Empty continuation line",
    ),
    Rule(
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
        lambda keyword, casing: f"Command '{keyword}' should match the case of the command majority ({casing})",
    ),
    Rule(
        "DuplicateStageName",
        "Stage names should be unique",
        lambda name: f"Duplicate stage name {quote(name)}, stage names should be unique",
    ),
    Rule(
        "ReservedStageName",
        "Reserved words should not be used as stage names",
        lambda name: f"Stage name should not use the same name as reserved stage {quote(name)}",
    ),
    Rule(
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
        lambda keyword: f"JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals",
    ),
    Rule(
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
        lambda: "Maintainer instruction is deprecated in favor of using label",
    ),
    Rule(
        "UndefinedArgInFrom",
        "FROM command must use declared ARGs",
        lambda name, suggestion="": f"FROM argument '{name}' is not declared{_meant(suggestion)}",
    ),
    Rule(
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base "
        "image changes",
        lambda path: f"Relative workdir {quote(path)} can have unexpected results if the base image changes",
    ),
    Rule(
        "UndefinedVar",
        "Variables should be defined before their use",
        lambda name, suggestion="": f"Usage of undefined variable '${name}'{_meant(f'${suggestion}' if suggestion else '')}",
    ),
    Rule(
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
        lambda keyword: (
            f"Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
        ),
    ),
    Rule(
        "LegacyKeyValueFormat",
        "Legacy key/value format with whitespace separator should not be used",
        lambda keyword: f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format',
    ),
    Rule(
        "InvalidBaseImagePlatform",
        "Base image platform does not match expected target platform",
        lambda image, expected, actual: (
            f"Base image {image} was pulled with platform {quote(actual)}, expected {quote(expected)} for current build"
        ),
        documented=False,
    ),
    Rule(
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        lambda variable: f"Setting platform to predefined {variable} in FROM is redundant as this is the default behavior",
    ),
    Rule(
        "SecretsUsedInArgOrEnv",
        "Sensitive data should not be used in the ARG or ENV commands",
        lambda keyword, name: f"Do not use ARG or ENV instructions for sensitive data ({keyword} {quote(name)})",
    ),
    Rule(
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
        lambda name: f"Default value for ARG {name} results in empty or invalid base image name",
    ),
    Rule(
        "FromPlatformFlagConstDisallowed",
        "FROM --platform flag should not use a constant value",
        lambda platform: f"FROM --platform flag should not use constant value {quote(platform)}",
    ),
    Rule(
        "CopyIgnoredFile",
        "Attempting to Copy file that is excluded by .dockerignore",
        lambda keyword, path: f"Attempting to {keyword} file {quote(path)} that is excluded by .dockerignore",
    ),
    Rule(
        "InvalidDefinitionDescription",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not "
        "intended to be a description comment, add an empty line or comment between the instruction and the comment.",
        lambda keyword, name: f"Comment for {keyword} should follow the format: `# {name} <description>`",
        experimental=True,
    ),
    Rule(
        "ExposeProtoCasing",
        "Protocol in EXPOSE instruction should be lowercase",
        lambda port: f"Defined protocol '{port}' in EXPOSE instruction should be lowercase",
    ),
    Rule(
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future "
        "release",
        lambda port: f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'",
    ),
)

RULES = {rule.name: rule for rule in _ALL}
"""The rules by name."""
