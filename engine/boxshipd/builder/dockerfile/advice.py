"""The lint rules that a Dockerfile's text alone decides.

Source: BuildKit frontend/dockerfile/instructions/parse.go (ParseInstructionWithLinter), dockerfile2llb/convert.go.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from boxshipd.builder.dockerfile.arguments import white_words
from boxshipd.builder.dockerfile.instructions import Arg, Env, From, Instruction, Label, Span, Stage
from boxshipd.builder.dockerfile.lint import Linter
from boxshipd.builder.dockerfile.statement import Statement

_RESERVED = ("context", "scratch")
_ONCE = ("CMD", "ENTRYPOINT", "HEALTHCHECK")
_SECRET = re.compile(
    "(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile("(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)


def advise_on_instruction(
    linter: Linter, statement: Statement, instruction: Instruction, comments: Sequence[str], *, in_stage: bool
) -> None:
    """Look at one instruction.

    Args:
        linter: gets the advice.
        statement: the instruction as it is written.
        instruction: the instruction.
        comments: those right above it.
        in_stage: it isn't an ARG before the first FROM.
    """
    span, written = instruction.span, statement.written
    match instruction:
        case From():
            _stage_casing(linter, statement)
            if instruction.name:
                _description(linter, "FROM", [instruction.name], comments, span)
        case Arg():
            names = [argument.name for argument in instruction.arguments]
            _description(linter, "ARG", names, comments, span)
            if in_stage:
                _secrets(linter, "ARG", names, span)
        case Env():
            _secrets(linter, "ENV", [pair.name for pair in instruction.pairs], span)
        case _ if instruction.keyword == "MAINTAINER":
            linter.warn("MaintainerDeprecated", span=span)
        case _:
            pass
    if isinstance(instruction, (Env, Label)) and any(pair.legacy for pair in instruction.pairs):
        linter.warn("LegacyKeyValueFormat", written, span=span)


def advise_on_casing(linter: Linter, statements: Sequence[Statement]) -> None:
    """Look at whether all keywords are in the case that most of them are in; upper case where neither is in the majority."""
    lower = sum(statement.written.islower() for statement in statements)
    upper = sum(statement.written.isupper() for statement in statements)
    for statement in statements:
        if lower > upper and not statement.written.islower():
            linter.warn("ConsistentInstructionCasing", statement.written, "lowercase", span=statement.span)
        elif lower <= upper and not statement.written.isupper():
            linter.warn("ConsistentInstructionCasing", statement.written, "uppercase", span=statement.span)


def advise_on_stages(linter: Linter, stages: Sequence[Stage]) -> None:
    """Look at the stages' names, and at what should be there only once in each."""
    seen: set[str] = set()
    for stage in stages:
        name = stage.source.name
        if name in _RESERVED:
            linter.warn("ReservedStageName", name, span=stage.source.span)
        if name in seen:
            linter.warn("DuplicateStageName", name, span=stage.source.span)
        seen |= {name} - {""}
        last: dict[str, Instruction] = {}
        for instruction in stage.instructions:
            if instruction.keyword in _ONCE:
                # The one that counts for nothing is the one that is told of.
                if (former := last.get(instruction.keyword)) is not None:
                    linter.warn("MultipleInstructionsDisallowed", instruction.keyword, span=former.span)
                last[instruction.keyword] = instruction


def _stage_casing(linter: Linter, statement: Statement) -> None:
    words = white_words(statement.rest)
    if len(words) != 3:
        return
    if words[2] != words[2].lower():
        linter.warn("StageNameCasing", words[2], span=statement.span)
    from_, as_ = statement.written, words[1]
    if (from_.islower() and not as_.islower()) or (from_.isupper() and not as_.isupper()):
        linter.warn("FromAsCasing", from_, as_, span=statement.span)


def _description(linter: Linter, keyword: str, names: Sequence[str], comments: Sequence[str], span: Span) -> None:
    if comments and comments[-1].split(" ", 1)[0] not in names:
        linter.warn("InvalidDefinitionDescription", keyword, names[0] if len(names) == 1 else "<arg_key>", span=span)


def _secrets(linter: Linter, keyword: str, names: Sequence[str], span: Span) -> None:
    for name in names:
        if _SECRET.search(name) and not _NO_SECRET.search(name):
            linter.warn("SecretsUsedInArgOrEnv", keyword, name, span=span)
