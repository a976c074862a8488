"""Files around the page cache have the same bytes as any others."""

import os
import random

import pytest
from boxshipd.images.unpack.direct import DirectWriter, FileSource

MIB = 1 << 20


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, MIB - 1, MIB, MIB + 1, 3 * MIB + 4096, 3 * MIB + 5000])
@pytest.mark.parametrize("step", [1 << 16, 70_001, 5 * MIB])
def test_what_is_written_is_read(tmp_path, length, step):
    data = random.Random(length).randbytes(length)
    path = tmp_path / "f"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    writer = DirectWriter(fd)
    for position in range(0, length, step):
        writer.write(memoryview(data)[position : position + step])
    writer.flush()
    os.close(fd)
    assert path.stat().st_size == length
    for cached in (False, True):
        if cached:
            path.read_bytes()
        with open(path, "rb", buffering=0) as file:
            source = FileSource(file.fileno())
            pieces = []
            while piece := source.read(step):
                pieces.append(piece)
            assert b"".join(pieces) == data


def test_a_file_system_that_refuses_is_written_and_read_as_always(tmp_path, monkeypatch):
    data = random.Random(1).randbytes(3 * MIB + 5)
    refusals = []

    def refuse(fd: int, wanted: bool) -> bool:
        refusals.append(wanted)
        return False

    monkeypatch.setattr("boxshipd.images.unpack.direct._set_direct", refuse)
    with open(tmp_path / "f", "wb+", buffering=0) as file:
        writer = DirectWriter(file.fileno())
        writer.write(data)
        writer.flush()
        source = FileSource(file.fileno())
        assert b"".join(iter(lambda: source.read(MIB), b"")) == data
    assert True in refusals
