"""From a Dockerfile's text to its typed instructions.

Every version of the language is read: ``# syntax=`` names a front end that BuildKit would fetch and run; this one takes its
place, whatever is named, and nothing is fetched.

Where the text isn't UTF-8, comments don't matter, and the values of LABEL and MAINTAINER get U+FFFD for what can't be read, as
in Docker's JSON; anywhere else it is an error.

Source: Dockerfile reference; BuildKit frontend/dockerfile/parser/parser.go, instructions/parse.go (Parse).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from boxshipd.builder.dockerfile.advice import advise_on_casing, advise_on_instruction, advise_on_stages
from boxshipd.builder.dockerfile.arguments import ArgumentError
from boxshipd.builder.dockerfile.heredocs import content
from boxshipd.builder.dockerfile.instructions import Arg, Dockerfile, From, Heredoc, Instruction, Span, Stage
from boxshipd.builder.dockerfile.lines import LineReader, LogicalLine
from boxshipd.builder.dockerfile.lint import Linter
from boxshipd.builder.dockerfile.readers import read
from boxshipd.builder.dockerfile.source import error_at, located, physical_lines
from boxshipd.builder.dockerfile.statement import Statement
from boxshipd.builder.errors import DockerfileError

_T = TypeVar("_T")
_REPLACED = ("LABEL", "MAINTAINER")
_FILES = ("ADD", "COPY")
"""Their heredocs are files, which may have any character; those of others are for programs' arguments."""


def parse(text: bytes, linter: Linter | None = None) -> Dockerfile:
    """Read a Dockerfile.

    Args:
        text: the file.
        linter: gets the advice that the text gives reason for, and what ``# check=`` says.

    Raises:
        DockerfileError: it can't be right; the error knows the lines and shows them.
    """
    return _Parser(text, linter or Linter()).parse()


def parse_trigger(trigger: str, escape: str = "\\") -> Instruction:
    """Read an instruction that an ONBUILD of an image's configuration holds, with its heredocs.

    Raises:
        DockerfileError: it can't be right.
    """
    parser = _Parser(trigger.encode("utf-8", "surrogateescape"), Linter("skip=all"))
    parser.reader.escape = escape
    instructions = [instruction for _, _, instruction in parser.instructions()]
    if len(instructions) != 1:
        raise DockerfileError(f"ONBUILD has to be one instruction, not {len(instructions)}")
    return instructions[0]


def read_statements(text: bytes) -> list[Statement]:
    """The instructions of a text that needn't be a whole Dockerfile, untyped: ``readers.read`` types one.

    Raises:
        DockerfileError: the text can't be right.
    """
    parser = _Parser(text, Linter("skip=all"))
    return [statement for _, statement in parser.statements()]


class _Parser:
    """Reads one file.

    Args:
        text: the file.
        linter: gets the advice.
    """

    def __init__(self, text: bytes, linter: Linter) -> None:
        self.reader = LineReader(physical_lines(text))
        self._linter = linter

    def parse(self) -> Dockerfile:
        reader, linter = self.reader, self._linter
        reader.read_directives()
        self._at(Span(1, 1), lambda: linter.configure(reader.directives.get("check", "")))
        arguments: list[Arg] = []
        stages: list[tuple[From, list[Instruction]]] = []
        statements: list[Statement] = []
        for line, statement, instruction in self.instructions():
            statements.append(statement)
            if isinstance(instruction, From):
                stages.append((instruction, []))
            elif stages:
                stages[-1][1].append(instruction)
            elif isinstance(instruction, Arg):
                arguments.append(instruction)
            else:
                raise error_at(reader.lines, line.span, "no build stage in current context")
            advise_on_instruction(linter, statement, instruction, line.comments, in_stage=bool(stages))
        if not stages:
            raise DockerfileError("dockerfile contains no stages to build" if statements else "file with no instructions")
        whole = tuple(Stage(source=source, instructions=tuple(instructions)) for source, instructions in stages)
        advise_on_casing(linter, statements)
        advise_on_stages(linter, whole)
        return Dockerfile(
            lines=tuple(line.rstrip("\r\n") for line in reader.lines),
            escape=reader.escape,
            directives=reader.directives,
            arguments=tuple(arguments),
            stages=whole,
        )

    def instructions(self) -> Iterator[tuple[LogicalLine, Statement, Instruction]]:
        """All instructions, as they are written and typed."""
        for line, statement in self.statements():
            yield line, statement, self._at(statement.span, partial(read, statement))

    def statements(self) -> Iterator[tuple[LogicalLine, Statement]]:
        """All instructions, as they are written."""
        for line in self.reader.logical():
            if line.gap:
                self._linter.warn("NoEmptyContinuation", span=Span(line.span.last, line.span.last))
            yield line, self._statement(line)

    def _statement(self, line: LogicalLine) -> Statement:
        """The statement of a line, with its heredocs, which are taken from the lines that follow."""
        statement = Statement.of(line.text, line.span, self.reader.escape)
        readable = _readable(statement.text)
        if readable != statement.text or "\0" in readable:
            if statement.keyword not in _REPLACED:
                what = "a NUL character" if "\0" in readable else "bytes that aren't UTF-8"
                raise error_at(self.reader.lines, line.span, f"{statement.written} has {what}")
            statement = Statement.of(readable, line.span, self.reader.escape)
        announced = self._at(line.span, statement.announced)
        if not announced:
            return statement
        heredocs = tuple(self._heredoc(statement, each) for each in announced)
        span = Span(line.span.first, self.reader.number)
        return Statement.of(statement.text, span, self.reader.escape, heredocs)

    def _heredoc(self, statement: Statement, announced: Heredoc) -> Heredoc:
        lines = self.reader.until(announced.name, strip_tabs=announced.strip_tabs)
        span = Span(statement.span.first, self.reader.number)
        if lines is None:
            raise error_at(self.reader.lines, span, "unterminated heredoc")
        text = content(lines, strip_tabs=announced.strip_tabs)
        if _readable(text) != text:
            raise error_at(self.reader.lines, span, f"heredoc {announced.name} has bytes that aren't UTF-8")
        if "\0" in text and statement.keyword not in _FILES:
            raise error_at(self.reader.lines, span, f"heredoc {announced.name} has a NUL character")
        return replace(announced, content=text)

    def _at(self, span: Span, work: Callable[[], _T]) -> _T:
        """Do something for the lines of a span; what fails is told with them."""
        try:
            return work()
        except ArgumentError as error:
            raise error_at(self.reader.lines, span, str(error)) from error
        except DockerfileError as error:
            raise located(error, self.reader.lines, span) from error


def _readable(text: str) -> str:
    """A text with U+FFFD in place of what wasn't UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
