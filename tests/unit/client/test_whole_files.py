"""Files that appear only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxship.archive.whole import replace_file, write_file
from boxship.errors import CommandError


def cut() -> Iterator[bytes]:
    yield b"half"
    raise ConnectionError("cut off")


def test_what_breaks_off_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(ConnectionError):
        replace_file(str(path), cut())
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"before", ["file"])
    replace_file(str(path), [b"whole ", b"new"])
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"whole new", ["file"])


def test_it_may_be_written_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "list").mkdir()

    def seen() -> Iterator[bytes]:
        yield b"x"
        assert os.listdir(tmp_path / "list") == [], "nobody who lists the directory meets half a file"

    replace_file(str(tmp_path / "list" / "file"), seen(), aside=str(tmp_path))
    assert (os.listdir(tmp_path / "list"), os.listdir(tmp_path)) == (["file"], ["list"])


def test_another_s_half_is_not_removed(tmp_path: Path) -> None:
    other = tmp_path / f".file.{os.getpid()}"
    other.write_bytes(b"other")
    with pytest.raises(CommandError, match=r"failed to save: .*file exists"):
        write_file(str(tmp_path / "file"), [b"x"], "failed to save")
    assert os.listdir(tmp_path) == [other.name]


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(str(tmp_path / "pipe"), [b"through"], "failed")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
