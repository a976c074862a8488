"""Tables and the ``--format`` of lists, laid out as Docker's tools lay them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_PADDING = 3
_NARROWEST = 10


def align(lines: Iterable[str], *, narrowest: int = _NARROWEST) -> str:
    """Line up tab-separated cells: at least three blanks between columns, ``narrowest`` characters each, as Go's tabwriter.

    A column ends where a line has no cell in it, so that each block of lines has widths of its own.
    """
    rows = [line.split("\t") for line in lines]
    widths: list[list[int]] = [[0] * (len(row) - 1) for row in rows]
    for index, row in enumerate(rows):
        for column in range(len(row) - 1):
            if widths[index][column]:
                continue
            end = index
            while end < len(rows) and len(rows[end]) - 1 > column:
                end += 1
            width = max(narrowest, max(len(rows[line][column]) for line in range(index, end)) + _PADDING)
            for line in range(index, end):
                widths[line][column] = width
    result = []
    for row, row_widths in zip(rows, widths, strict=True):
        result.append("".join(cell.ljust(width) for cell, width in zip(row[:-1], row_widths, strict=True)) + row[-1])
    return "".join(line + "\n" for line in result)


class _Header(dict[str, Any]):
    """Titles of columns; a column without one is named after its field."""

    def __missing__(self, key: str) -> str:
        return key.upper()

    def __contains__(self, key: object) -> bool:
        return True


def render(template: str, rows: Sequence[Mapping[str, Any]], titles: Mapping[str, Any], columns: str) -> str:
    """A list in the form ``--format`` asks for.

    Args:
        template: ``table``, ``table TEMPLATE``, ``json``, ``raw`` words aside a template; empty for the default table.
        rows: the values; those that are functions can be called with arguments and are left out of JSON.
        titles: the columns' titles, by field.
        columns: the default table's template.

    Raises:
        TemplateError: the template can't be parsed or asks for a field that isn't there.
    """
    if template == "json":
        from boxship.terminal.govalues import escaped_json

        return "".join(escaped_json(dict(sorted(row.items()))) + "\n" for row in rows)
    text = template.replace("\\t", "\t").replace("\\n", "\n")
    is_table = not text or text == "table" or text.startswith("table ")
    if is_table:
        text = text.removeprefix("table").strip(" ") or columns
        if text == columns:
            return align(_plain_lines(rows, titles, columns))
    from boxship.terminal.gotemplate import Template

    parsed = Template(text)
    if not is_table:
        return "".join(parsed.execute(row) + "\n" for row in rows)
    from boxship.terminal.govalues import HEADER_FUNCTIONS

    lines = [parsed.execute(_Header(titles), HEADER_FUNCTIONS), *(parsed.execute(row) for row in rows)]
    return align("\n".join(lines).split("\n"))


def _plain_lines(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, Any], columns: str) -> list[str]:
    """The default table's lines; its template is fields between tabs only, which needs no template engine."""
    names = [field.strip("{}.") for field in columns.split("\t")]
    lines = ["\t".join(str(titles[name]) for name in names)]
    lines.extend("\t".join(str(row[name]) for name in names) for row in rows)
    return lines


def ellipsis(text: str, width: int) -> str:
    """``text`` cut to ``width`` characters, the last of them then being an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"
