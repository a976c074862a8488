"""The daemon's memory of execs: what a killed daemon leaves is what the next one knows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from boxshipd.execs.journal import COMPACT_AT, Entry, Journal
from boxshipd.execs.model import ExecConfig
from hypothesis import given
from hypothesis import strategies as st


def config(ident: str, **settings) -> ExecConfig:
    return ExecConfig(id=ident, container="c" * 64, command=("true",), **settings)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "below" / "execs.journal")


def opened(path: str) -> Journal:
    journal = Journal(path)
    journal.open()
    return journal


def known(path: str) -> dict[str, tuple[ExecConfig, int | None]]:
    journal = Journal(path)
    try:
        return journal.open()
    finally:
        journal.close()


def test_what_was_noted_is_known_without_being_closed(path):
    journal = opened(path)
    journal.append(Entry(id="a", created=config("a", env=("A=1",), tty=True, console_size=(3, 4))))
    journal.append(Entry(id="b", created=config("b")))
    journal.append(Entry(id="a", exit_code=7))
    journal.append(Entry(id="c", created=config("c")))
    journal.append(Entry(id="b", forgotten=True))
    assert known(path) == {"a": (config("a", env=("A=1",), tty=True, console_size=(3, 4)), 7), "c": (config("c"), None)}
    journal.close()


def test_a_code_of_nought_is_a_code(path):
    journal = opened(path)
    journal.append(Entry(id="a", created=config("a")))
    journal.append(Entry(id="a", exit_code=0))
    journal.close()
    assert known(path)["a"][1] == 0


@given(cut=st.integers(min_value=1, max_value=80))
def test_a_torn_line_costs_only_itself(tmp_path_factory, cut):
    path = str(tmp_path_factory.mktemp("journal") / "execs.journal")
    journal = opened(path)
    journal.append(Entry(id="a", created=config("a")))
    journal.append(Entry(id="a", exit_code=3))
    journal.append(Entry(id="b", created=config("b")))
    journal.close()
    last = len(Path(path).read_bytes().splitlines()[-1])
    os.truncate(path, os.path.getsize(path) - min(cut, last))
    found = known(path)
    assert found["a"] == (config("a"), 3)
    assert found.keys() <= {"a", "b"}


def test_what_is_written_after_a_torn_line_counts(path):
    journal = opened(path)
    journal.append(Entry(id="a", created=config("a")))
    journal.close()
    with open(path, "ab") as file:
        file.write(b'{"id":"b","crea')
    journal = opened(path)
    journal.append(Entry(id="d", created=config("d")))
    journal.close()
    assert known(path).keys() == {"a", "d"}


def test_opening_drops_what_no_longer_counts(path):
    journal = opened(path)
    for number in range(50):
        journal.append(Entry(id=f"e{number}", created=config(f"e{number}")))
        journal.append(Entry(id=f"e{number}", forgotten=True))
    journal.append(Entry(id="stays", created=config("stays")))
    assert journal.lines == 101
    journal.close()
    journal = opened(path)
    assert journal.lines == 1
    journal.close()
    assert Path(path).read_bytes().count(b"\n") == 1
    assert COMPACT_AT > 1000


def test_removing_leaves_nothing(path):
    journal = opened(path)
    journal.append(Entry(id="a", created=config("a")))
    journal.remove()
    journal.remove()
    assert os.listdir(os.path.dirname(path)) == []
