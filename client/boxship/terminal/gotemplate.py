"""Go's text/template, as far as ``--format`` needs it.

Fields, pipelines, variables, if, with, range, and the functions of Docker's tools.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from boxship.errors import TemplateError
from boxship.terminal import govalues

Scope = dict[str, Any]
Functions = Mapping[str, Callable[..., Any]]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:\\.|[^"\\])*"|`[^`]*`)
      | (?P<char>'(?:\\.|[^'\\])')
      | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?))
      | (?P<chain>\$\w*(?:\.\w+)*|(?:\.\w+)+|\.)
      | (?P<word>\w+)
      | (?P<symbol>:=|[|(),=])
    )""",
    re.VERBOSE,
)
_ACTION = re.compile(
    r"\{\{(-\s)?\s*(/\*.*?\*/|(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|'(?:\\.|[^'\\])'|[^`\"'])*?)\s*(\s-)?\}\}", re.DOTALL
)
_KEYWORDS = frozenset(("if", "else", "end", "range", "with", "break", "continue", "define", "template", "block"))


class _Break(Exception):  # noqa: N818 - leaves a range
    pass


class _Continue(Exception):  # noqa: N818 - leaves one turn of a range
    pass


class _Node:
    def run(self, dot: Any, scope: Scope, functions: Functions) -> str:
        raise NotImplementedError


class _Literal(_Node):
    def __init__(self, text: str) -> None:
        self._text = text

    def run(self, dot: Any, scope: Scope, functions: Functions) -> str:
        return self._text


class _Jump(_Node):
    def __init__(self, outcome: type[Exception]) -> None:
        self._outcome = outcome

    def run(self, dot: Any, scope: Scope, functions: Functions) -> str:
        raise self._outcome


class _Sequence(_Node):
    def __init__(self) -> None:
        self.nodes: list[_Node] = []

    def run(self, dot: Any, scope: Scope, functions: Functions) -> str:
        return "".join(node.run(dot, scope, functions) for node in self.nodes)


class _Pipeline(_Node):
    """Commands joined by bars, optionally assigned to variables."""

    def __init__(self, variables: list[str], declares: bool, commands: list[list[Any]]) -> None:
        self.variables = variables
        self.declares = declares
        self._commands = commands

    def run(self, dot: Any, scope: Scope, functions: Functions) -> str:
        value = self.value(dot, scope, functions)
        if not self.variables:
            return govalues.text(value)
        if not self.declares and self.variables[0] not in scope:
            raise TemplateError(f'template: undefined variable "{self.variables[0]}"')
        scope[self.variables[0]] = value
        return ""

    def value(self, dot: Any, scope: Scope, functions: Functions) -> Any:
        """The pipeline's value."""
        piped: tuple[Any, ...] = ()
        for command in self._commands:
            piped = (_call(command, piped, dot, scope, functions),)
        return piped[0]


def _call(command: list[Any], piped: tuple[Any, ...], dot: Any, scope: Scope, functions: Functions) -> Any:
    kind, operand = command[0]
    rest = command[1:]
    if kind == "word":
        function = functions.get(operand)
        if function is None:
            raise TemplateError(f'template: function "{operand}" not defined')
        if operand in ("and", "or"):
            return _short_circuit(rest, piped, dot, scope, functions, every=operand == "and")
        arguments = [_operand(argument, dot, scope, functions) for argument in rest]
        try:
            return function(*arguments, *piped)
        except TemplateError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise TemplateError(f"template: error calling {operand}: {error}") from error
    arguments = [_operand(argument, dot, scope, functions) for argument in rest]
    if kind == "chain":
        return _chain(operand, dot, scope, (*arguments, *piped))
    if arguments or piped:
        raise TemplateError("template: can't give argument to non-function")
    return _operand(command[0], dot, scope, functions)


def _short_circuit(
    rest: list[Any], piped: tuple[Any, ...], dot: Any, scope: Scope, functions: Functions, *, every: bool
) -> Any:
    value: Any = None
    for argument in rest:
        value = _operand(argument, dot, scope, functions)
        if govalues.truth(value) != every:
            return value
    return piped[0] if piped else value


def _operand(item: Any, dot: Any, scope: Scope, functions: Functions) -> Any:
    kind, operand = item
    if kind == "chain":
        return _chain(operand, dot, scope, ())
    if kind == "pipeline":
        pipeline, fields = operand
        value = pipeline.value(dot, scope, functions)
        for name in fields:
            value = govalues.field(value, name)
        return value
    if kind == "word":
        return _call([item], (), dot, scope, functions)
    return operand


def _chain(names: str, dot: Any, scope: Scope, arguments: tuple[Any, ...]) -> Any:
    if names == ".":
        return dot
    head, *rest = names.split(".")
    if head:
        if head not in scope:
            raise TemplateError(f'template: undefined variable "{head}"')
        value = scope[head]
    else:
        value = dot
    for position, name in enumerate(rest):
        last = position == len(rest) - 1
        value = govalues.field(value, name)
        if callable(value):
            value = value(*(arguments if last else ()))
        elif last and arguments:
            raise TemplateError(f"template: {name} is not a method but has arguments")
    return value


class _If(_Node):
    """``if`` and ``with``."""

    def __init__(self, pipeline: _Pipeline, moves_dot: bool) -> None:
        self._pipeline = pipeline
        self._moves_dot = moves_dot
        self.body = _Sequence()
        self.otherwise = _Sequence()

    def run(self, dot: Any, scope: Scope, functions: Functions) -> str:
        inner = dict(scope)
        value = self._pipeline.value(dot, inner, functions)
        for name in self._pipeline.variables:
            inner[name] = value
        if govalues.truth(value):
            result = self.body.run(value if self._moves_dot else dot, inner, functions)
        else:
            result = self.otherwise.run(dot, inner, functions)
        _leave(scope, inner, self._pipeline.variables)
        return result


class _Range(_Node):
    def __init__(self, pipeline: _Pipeline) -> None:
        self._pipeline = pipeline
        self.body = _Sequence()
        self.otherwise = _Sequence()

    def run(self, dot: Any, scope: Scope, functions: Functions) -> str:
        items = govalues.items(self._pipeline.value(dot, scope, functions))
        variables = self._pipeline.variables
        if not items:
            return self.otherwise.run(dot, dict(scope), functions)
        result: list[str] = []
        for key, value in items:
            inner = dict(scope)
            if len(variables) == 2:
                inner[variables[0]], inner[variables[1]] = key, value
            elif variables:
                inner[variables[0]] = value
            try:
                for node in self.body.nodes:
                    # Appended one by one: what precedes a break stays.
                    result.append(node.run(value, inner, functions))  # noqa: PERF401
            except _Continue:
                continue
            except _Break:
                break
            finally:
                _leave(scope, inner, variables)
        return "".join(result)


def _leave(outer: Scope, inner: Scope, own: list[str]) -> None:
    """Carry assignments to outer variables out of a block."""
    for name in outer:
        if name not in own:
            outer[name] = inner[name]


class _Parser:
    """Parses one action's words."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        self._position = 0
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise TemplateError(f"template: unexpected {text[at:].strip()[:1]!r} in command")
            # A field right behind a closing bracket belongs to it.
            glued = match.lastgroup == "chain" and match.start("chain") == at and at > 0 and text[at - 1] == ")"
            self._tokens.append(("fields" if glued else match.lastgroup, match.group(match.lastgroup)))
            at = match.end()

    def pipeline(self, stop: str = "") -> _Pipeline:
        """Parse a pipeline up to ``stop``."""
        variables, declares = self._variables()
        commands: list[list[Any]] = []
        command: list[Any] = []
        while True:
            kind, text = self._next()
            if kind == "end" or (kind == "symbol" and text in ("|", ")")):
                if not command:
                    raise TemplateError("template: missing value for command")
                commands.append(command)
                command = []
                if text == "|":
                    continue
                if (text or "") != stop:
                    raise TemplateError("template: unexpected right paren" if text == ")" else "template: unclosed left paren")
                return _Pipeline(variables, declares, commands)
            command.append(self._operand(kind, text))

    def _variables(self) -> tuple[list[str], bool]:
        names: list[str] = []
        position = self._position
        while (
            position < len(self._tokens) and self._tokens[position][0] == "chain" and self._tokens[position][1].startswith("$")
        ):
            names.append(self._tokens[position][1])
            position += 1
            if position < len(self._tokens) and self._tokens[position][1] in (":=", "="):
                self._position = position + 1
                return names, self._tokens[position][1] == ":="
            if position < len(self._tokens) and self._tokens[position][1] == ",":
                position += 1
                continue
            break
        return [], False

    def _operand(self, kind: str, text: str) -> tuple[str, Any]:
        if kind == "symbol" and text == "(":
            inner = self.pipeline(")")
            fields: list[str] = []
            if self._position < len(self._tokens) and self._tokens[self._position][0] == "fields":
                fields = self._next()[1].split(".")[1:]
            return "pipeline", (inner, fields)
        if kind == "string":
            return "value", text[1:-1] if text[0] == "`" else govalues.unquote(text)
        if kind == "char":
            return "value", ord(govalues.unquote(f'"{text[1:-1]}"'))
        if kind == "number":
            return "value", float(text) if "." in text else int(text, 0)
        if kind == "word" and text in ("true", "false", "nil"):
            return "value", {"true": True, "false": False, "nil": None}[text]
        if kind == "word" and text in _KEYWORDS:
            raise TemplateError(f"template: unexpected <{text}> in command")
        if kind == "word" and text not in govalues.FUNCTIONS:
            raise TemplateError(f'template: function "{text}" not defined')
        if kind == "symbol":
            raise TemplateError(f"template: unexpected {text!r} in command")
        return ("chain" if kind == "fields" else kind), text

    def _next(self) -> tuple[str, str]:
        if self._position >= len(self._tokens):
            return "end", ""
        self._position += 1
        return self._tokens[self._position - 1]


class Template:
    """A parsed template.

    Args:
        source: its text.

    Raises:
        TemplateError: it can't be parsed.
    """

    def __init__(self, source: str) -> None:
        self._root = _Sequence()
        stack: list[tuple[_If | _Range | None, _Sequence, bool]] = [(None, self._root, False)]
        for literal, action in _split(source):
            if action is None:
                if literal:
                    stack[-1][1].nodes.append(_Literal(literal))
                continue
            _add_action(stack, action)
        if len(stack) > 1:
            raise TemplateError("template: unexpected EOF: a block has no {{end}}")

    def execute(self, data: Any, functions: Functions | None = None) -> str:
        """The text for ``data``.

        Args:
            data: what ``.`` is.
            functions: in place of those of the same names.

        Raises:
            TemplateError: something it asks for isn't there.
        """
        return self._root.run(data, {"$": data}, {**govalues.FUNCTIONS, **functions} if functions else govalues.FUNCTIONS)


def _split(source: str) -> list[tuple[str, str | None]]:
    """Text and actions in order, blanks trimmed where ``{{-`` and ``-}}`` ask for it."""
    parts: list[tuple[str, str | None]] = []
    at = 0
    trim = False
    while True:
        match = _ACTION.search(source, at)
        literal = source[at : match.start() if match else None]
        if trim:
            literal = literal.lstrip()
        if match is None:
            if "{{" in literal:
                raise TemplateError("template: unclosed action")
            parts.append((literal, None))
            return parts
        if "{{" in literal:
            raise TemplateError("template: unclosed action")
        if match.group(1):
            literal = literal.rstrip()
        parts.append((literal, None))
        if not match.group(2).startswith("/*"):
            parts.append(("", match.group(2)))
        trim = bool(match.group(3))
        at = match.end()


def _add_action(stack: list[tuple[_If | _Range | None, _Sequence, bool]], action: str) -> None:
    word, _, rest = action.partition(" ")
    current = stack[-1][1]
    if word in ("if", "with", "range"):
        pipeline = _Parser(rest).pipeline()
        node: _If | _Range = _Range(pipeline) if word == "range" else _If(pipeline, word == "with")
        current.nodes.append(node)
        stack.append((node, node.body, False))
    elif word == "else":
        owner, _, chained = stack.pop()
        if owner is None:
            raise TemplateError("template: unexpected {{else}}")
        if rest.strip():
            # "else if" is an if inside the else that ends with it.
            kind, _, condition = rest.strip().partition(" ")
            if kind not in ("if", "with"):
                raise TemplateError(f"template: unexpected {rest!r} in else")
            nested = _If(_Parser(condition).pipeline(), kind == "with")
            owner.otherwise.nodes.append(nested)
            stack.append((owner, owner.otherwise, chained))
            stack.append((nested, nested.body, True))
        else:
            stack.append((owner, owner.otherwise, chained))
    elif word == "end":
        owner, _, chained = stack.pop()
        if owner is None:
            raise TemplateError("template: unexpected {{end}}")
        while chained:
            _, _, chained = stack.pop()
    elif word in ("break", "continue"):
        current.nodes.append(_Jump(_Break if word == "break" else _Continue))
    elif word in ("define", "template", "block"):
        raise TemplateError(f"template: {{{{{word}}}}} is not available in --format")
    elif not action:
        raise TemplateError("template: missing value for command")
    else:
        current.nodes.append(_Parser(action).pipeline())
