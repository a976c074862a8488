"""The committed references are what the code generates, and what the documents name exists."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from boxship.cli import reference as cli
from boxshipd.api import reference as api

REPOSITORY = Path(__file__).parents[3]
DOCS = REPOSITORY / "docs"


@pytest.mark.parametrize(("name", "generate"), [("api.md", api.reference), ("cli.md", cli.reference)])
def test_committed_references_are_generated(name: str, generate: Callable[[], str]):
    assert (DOCS / name).read_text() == generate(), f"make docs/{name} again, with the command that it names"


def test_every_operation_is_in_the_reference():
    rows = re.findall(r"^\| (\w+) \| `", api.reference(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == {operation.name for operation in api.OPERATIONS}


def named_in(document: str, pattern: str) -> list[str]:
    return re.findall(pattern, (DOCS / document).read_text())


def test_the_tests_that_security_names_exist():
    named = named_in("security.md", r"`(tests/[\w/]+\.py)::(\w+)`")
    assert len(named) > 30
    for path, test in named:
        assert re.search(rf"^(async )?def {test}\(", (REPOSITORY / path).read_text(), re.MULTILINE), f"{path}::{test}"


@pytest.mark.parametrize("document", ["architecture.md", "security.md"])
def test_the_modules_that_documents_name_exist(document):
    roots = {"boxship": "client/boxship", "boxshipd": "engine/boxshipd", "boxrun": "runtime/boxrun"}
    named = set(named_in(document, r"`((?:boxship|boxshipd|boxrun)/[\w/.]+)`"))
    assert len(named) > 20
    # That one is an image.
    for path in named - {"boxship/base"}:
        package, _, rest = path.partition("/")
        assert (REPOSITORY / roots[package] / rest).exists(), path
