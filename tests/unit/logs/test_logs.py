"""The writer and the reader of logs against each other: every byte, in every driver, through rotations and a full disk."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import struct
from pathlib import Path

import pytest
from boxrun.container.spec import Log
from boxrun.shim.logs import MAX_LINE, escape, open_log
from boxshipd.logs import LogOptions, LogSource, read_logs
from boxshipd.logs.decode import JSONLines
from boxshipd.logs.files import open_all
from hypothesis import given, settings
from hypothesis import strategies as st
from support.daemon import wait_until

DRIVERS = ("json-file", "local")


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


def log_at(path: Path, driver: str = "json-file", **options) -> Log:
    return Log(driver=driver, path=str(path / "container.log"), **options)


async def read(log: Log, *, multiplexed: bool = False, ended: bool = True, **options) -> bytes:
    event = asyncio.Event()
    if ended:
        event.set()
    pieces = read_logs(LogSource(log, terminal=False, ended=event), LogOptions(**options), multiplexed=multiplexed)
    return b"".join([piece async for piece in pieces])


def children() -> set[str]:
    """The numbers of this process' children."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def frames(data: bytes) -> list[tuple[int, bytes]]:
    out = []
    while data:
        stream, size = struct.unpack(">BxxxI", data[:8])
        out.append((stream, data[8 : 8 + size]))
        data = data[8 + size :]
    return out


def write(log: Log, *chunks: bytes, stream="stdout") -> None:
    writer = open_log(log)
    for chunk in chunks:
        writer.write(stream, chunk)
    writer.close()
    assert writer.dropped == 0


async def test_lines_survive_however_they_are_cut(tmp_path, driver):
    log = log_at(tmp_path, driver)
    write(log, b"on", b"e\ntw", b"o\n", b"three", b"", b"\n\nfive\nlast")
    assert await read(log) == b"one\ntwo\nthree\n\nfive\nlast"


def test_json_file_is_dockers(tmp_path):
    log = log_at(tmp_path, attrs={"b": '"2"', "a": "1"})
    write(log, 'q"\\<é>&\t\r\x1b[0m\u2028\n'.encode() + b"bad\xff\xfe\n")
    first, second = Path(log.path).read_bytes().splitlines()
    assert first.startswith(
        b'{"log":"q\\"\\\\\\u003c' + "é".encode() + b'\\u003e\\u0026\\u0009\\r\\u001b[0m\\u2028\\n","stream":"stdout",'
        b'"attrs":{"a":"1","b":"\\"2\\""},"time":"20'
    )
    assert json.loads(first)["log"] == 'q"\\<é>&\t\r\x1b[0m\u2028\n'
    assert second.startswith(b'{"log":"bad\\ufffd\\ufffd\\n",')


@given(st.binary())
@settings(deadline=None)
def test_escaped_text_is_json_that_means_the_same(data):
    text = data.decode("utf-8", "surrogateescape")
    expected = "".join("\ufffd" if "\udc80" <= c <= "\udcff" else c for c in text)
    assert json.loads(b'"' + escape(data).replace(b"\n", b"\\n") + b'"') == expected


@given(
    st.lists(
        st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(alphabet='ab"\\<\n\n\té', max_size=40).map(str.encode)),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=200)
def test_the_fast_way_gives_the_same_bytes(tmp_path_factory, chunks):
    directory = tmp_path_factory.mktemp("log")
    log = log_at(directory)
    writer = open_log(log)
    for stream, data in chunks:
        writer.write(stream, data)
    writer.close()
    raw = Path(log.path).read_bytes()
    decoder = JSONLines()
    plain = decoder.plain(raw)
    if plain is not None:
        assert {(entry.stream) for entry in decoder.entries(raw)} == {plain[0]}
        assert b"".join(entry.data for entry in decoder.entries(raw)) == plain[1]
    for stream in ("stdout", "stderr"):
        written = b"".join(data for name, data in chunks if name == stream)
        assert b"".join(e.data for e in decoder.entries(raw) if e.stream == stream) == written


async def test_streams_are_framed_and_chosen(tmp_path, driver):
    log = log_at(tmp_path, driver)
    writer = open_log(log)
    for stream, data in (("stdout", b"a\nb\n"), ("stderr", b"c\n"), ("stdout", b"d\n")):
        writer.write(stream, data)
    writer.close()
    assert frames(await read(log, multiplexed=True)) == [(1, b"a\n"), (1, b"b\n"), (2, b"c\n"), (1, b"d\n")]
    assert frames(await read(log, multiplexed=True, stdout=False)) == [(2, b"c\n")]
    assert await read(log, stderr=False) == b"a\nb\nd\n"


@pytest.mark.parametrize("tail", [0, 1, 2, 5, 99, 100, 101, 5000])
async def test_tail_counts_back_over_rotated_files(tmp_path, driver, tail):
    lines = [b"line %d\n" % number for number in range(100)]
    log = log_at(tmp_path, driver, max_size=500, max_files=30)
    write(log, *[b"".join(lines[at : at + 7]) for at in range(0, 100, 7)])
    assert len(os.listdir(tmp_path)) > 1
    assert await read(log, tail=tail) == b"".join(lines[max(0, 100 - tail) :])


async def test_time_bounds_and_prefixes(tmp_path, driver):
    log = log_at(tmp_path, driver, attrs={"k": "v"})
    writer = open_log(log)
    writer.write("stdout", b"early\n")
    stamped = await read(log, timestamps=True)
    time, _, line = stamped.partition(b" ")
    assert line == b"early\n"
    assert len(time) == len(b"2026-01-01T00:00:00.000000000Z")
    event = asyncio.Event()
    event.set()
    first = next(iter(JSONLines().entries(Path(log.path).read_bytes()))).time if driver == "json-file" else None
    writer.write("stdout", b"late\n")
    writer.close()
    assert await read(log, details=True) == b"k=v early\nk=v late\n"
    if first is not None:
        assert await read(log, since=first + 1) == b"late\n"
        assert await read(log, until=first) == b"early\n"


async def test_a_line_stays_whole_up_to_a_mebibyte(tmp_path, driver):
    log = log_at(tmp_path, driver)
    line = b"x" * (MAX_LINE - 2) + b"\n"
    longer = b"\xc3\xa9" * MAX_LINE + b"\n"
    write(log, *[(line + longer)[at : at + 65536] for at in range(0, len(line + longer), 65536)])
    assert await read(log) == line + longer
    if driver == "json-file":
        rows = [json.loads(row) for row in Path(log.path).read_bytes().splitlines()]
        assert rows[0]["log"].encode() == line
        assert all(not row["log"].endswith("\n") for row in rows[1:-1])


async def test_files_keep_within_their_limits(tmp_path, driver):
    log = log_at(tmp_path, driver, max_size=4096, max_files=3)
    write(log, *[b"%06d %s\n" % (number, b"y" * 90) for number in range(400)])
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["container.log", "container.log.1", "container.log.2"]
    assert all(file.stat().st_size <= 4096 for file in files)
    kept = (await read(log)).splitlines()
    assert [int(line[:6]) for line in kept] == list(range(400 - len(kept), 400))


async def test_compressed_files_read_the_same(tmp_path, driver):
    log = log_at(tmp_path, driver, max_size=20000, max_files=5, compress=True)
    lines = [b"%06d %s\n" % (number, b"z" * 90) for number in range(500)]
    writer = open_log(log)
    for line in lines:
        writer.write("stdout", line)
        wait_until(lambda: not writer.pending, "the rotated file is compressed")
    writer.close()
    assert any(name.endswith(".gz") for name in os.listdir(tmp_path))
    kept = await read(log)
    assert b"".join(lines).endswith(kept)
    assert kept.count(b"\n") >= 400


async def test_output_that_outruns_compression_leaves_no_file_behind(tmp_path, driver):
    log = log_at(tmp_path, driver, max_size=2048, max_files=3, compress=True)
    lines = [b"%06d %s\n" % (number, b"z" * 90) for number in range(1000)]
    (tmp_path / "container.log.tmp-1").write_bytes(b"of a writer that was killed")
    before = children()
    writer = open_log(log)
    for at in range(0, len(lines), 20):
        writer.write("stdout", b"".join(lines[at : at + 20]))
        # More than one would be as many as there are files, soon: each holds a file that is rotated away already.
        assert len(children() - before) <= 1
    wait_until(lambda: not writer.pending, "what is left is compressed")
    writer.close()
    names = set(os.listdir(tmp_path))
    assert names == {"container.log", "container.log.1.gz", "container.log.2.gz"}
    kept = await read(log)
    assert kept
    assert b"".join(lines).endswith(kept)


async def test_a_file_that_cannot_be_compressed_is_kept_as_it_is(tmp_path):
    log = log_at(tmp_path, "local", max_size=2048, max_files=3, compress=True)
    writer = open_log(log)
    writer.write("stdout", b"a" * 1000 + b"\n")
    inode = (tmp_path / "container.log").stat().st_ino
    (tmp_path / f"container.log.tmp-{inode}").mkdir()
    writer.write("stdout", b"b" * 1500 + b"\n")
    wait_until(lambda: not writer.pending, "nobody tries again and again")
    assert (await read(log)).startswith(b"a")
    writer.close()


async def test_a_follower_loses_and_doubles_nothing_across_rotations(tmp_path, driver):
    log = log_at(tmp_path, driver, max_size=30000, max_files=4)
    ended = asyncio.Event()
    source = LogSource(log, terminal=False, ended=ended)
    writer = open_log(log)
    writer.write("stdout", b"0\n")
    got = b""
    more = asyncio.Condition()

    async def follow() -> None:
        nonlocal got
        async for piece in read_logs(source, LogOptions(follow=True), multiplexed=False):
            async with more:
                got += piece
                more.notify()

    follower = asyncio.create_task(follow())
    last = 3000
    for number in range(1, last):
        writer.write("stdout", b"%d\n" % number)
        if number % 50 == 0:
            # The follower must have caught up before files may be thrown away.
            async with more:
                await more.wait_for(lambda ending=b"%d\n" % number: got.endswith(ending))
    writer.close()
    ended.set()
    await follower
    assert got == b"".join(b"%d\n" % number for number in range(last))
    assert len(os.listdir(tmp_path)) > 1


async def test_a_follower_from_the_tail_sees_only_what_comes(tmp_path, driver):
    log = log_at(tmp_path, driver)
    writer = open_log(log)
    writer.write("stdout", b"old\nrecent\n")
    ended = asyncio.Event()
    pieces = read_logs(LogSource(log, terminal=False, ended=ended), LogOptions(follow=True, tail=1), multiplexed=False)
    assert await anext(pieces) == b"recent\n"
    waiting = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    writer.write("stderr", b"new\n")
    assert await waiting == b"new\n"
    ended.set()
    assert [piece async for piece in pieces] == []
    writer.close()


async def test_one_file_is_truncated_when_it_is_all_there_may_be(tmp_path):
    log = log_at(tmp_path, max_size=1000, max_files=1)
    write(log, *[b"%03d\n" % number for number in range(100)])
    assert os.listdir(tmp_path) == ["container.log"]
    assert (await read(log)).endswith(b"099\n")


async def test_a_log_that_cannot_be_rotated_grows(tmp_path, driver):
    log = log_at(tmp_path, driver, max_size=1000, max_files=2)
    # Nothing can be renamed onto a directory with something in it.
    (tmp_path / "container.log.1" / "in-the-way").mkdir(parents=True)
    lines = [b"%06d %s\n" % (number, b"g" * 90) for number in range(50)]
    write(log, *lines)
    (tmp_path / "container.log.1" / "in-the-way").rmdir()
    (tmp_path / "container.log.1").rmdir()
    assert await read(log) == b"".join(lines)


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_full_disk_tears_nothing(tmp_path, driver, blocking):
    log = log_at(tmp_path, driver, blocking=blocking, buffer_size=3000)
    lines = [b"%06d %s\n" % (number, b"f" * 90) for number in range(100)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = open_log(log)
    try:
        # A file size limit makes write(2) fail the way a full disk does: first short, then not at all.
        resource.setrlimit(resource.RLIMIT_FSIZE, (2500, hard))
        for line in lines:
            writer.write("stdout", line)
        assert not writer.retry()
        assert writer.stalled == blocking
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert writer.retry()
    assert not writer.stalled
    writer.close()
    got = (await read(log)).splitlines(keepends=True)
    if blocking:
        assert got == lines
        assert writer.dropped == 0
    else:
        assert got == lines[: len(got)]
        assert len(got) < 100
        assert writer.dropped > 0


def test_opening_again_goes_on_where_it_was(tmp_path, driver):
    log = log_at(tmp_path, driver)
    write(log, b"first\n")
    write(log, b"second\n")
    (file,) = open_all(log.path, 1)
    data = file.read(1 << 20)
    file.close()
    assert data.count(b"first") == data.count(b"second") == 1


@pytest.mark.parametrize("read", [1000, 65536, MAX_LINE - 1, MAX_LINE])
def test_a_long_line_is_cut_at_the_same_places_however_it_was_read(tmp_path, read):
    output = b"a\n" + b"x" * (2 * MAX_LINE + 400_000) + b"\nshort\n"
    log = open_log(Log(driver="json-file", path=str(tmp_path / "log")))
    for at in range(0, len(output), read):
        log.write("stdout", output[at : at + read])
    log.close()
    pieces = [len(json.loads(line)["log"]) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert pieces == [2, MAX_LINE, MAX_LINE, 400_001, 6]
