"""What a log may hold: a container fills no memory but its own, whatever it writes and however its receiver fares."""

from __future__ import annotations

import socket
import tracemalloc
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from boxrun.container.spec import Log
from boxrun.shim.logs import MAX_LINE, open_log
from boxrun.shim.logs.backlog import LEAST_COST, Backlog
from boxrun.shim.logs.entries import Unframer
from boxrun.shim.logs.frames import frame
from boxrun.shim.logs.remote import ASYNCHRONOUS_BYTES

MIB = 1 << 20


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port at which nobody listens, as long as the block lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No more than ``size`` bytes are taken inside the block."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("mode", "bound"), [({}, ASYNCHRONOUS_BYTES), ({"blocking": False, "buffer_size": 4 * MIB}, 4 * MIB)])
def test_an_asynchronous_log_without_a_receiver_is_bounded_in_bytes(
    capfd: pytest.CaptureFixture[str], mode: dict[str, object], bound: int
) -> None:
    with refusing_port() as port:
        options = {"fluentd-address": f"127.0.0.1:{port}", "fluentd-async": "true"}
        writer = open_log(Log(driver="fluentd", options=options, messages_limit=MIB, **mode))
        line = b"x" * (MAX_LINE - 2) + b"\n"
        count = bound // MIB + 24
        for _ in range(count):
            writer.write("stdout", line)
            assert not writer.stalled
        # What the bound doesn't hold is in the socket or in the sender, and is not a mebibyte or two.
        assert count - bound // MIB - 4 <= writer.dropped < count
        writer.close()
    assert writer.dropped == count
    # The sender has waited for its receiver all the time.
    assert capfd.readouterr().err == ""


def test_small_frames_count_for_what_they_take() -> None:
    backlog = Backlog(MIB)
    framed = frame("stdout", b"\n", 1, final=False)
    with at_most(3 * MIB):
        held = sum(backlog.add(bytes(bytearray(framed)), 1) for _ in range(2 * MIB // LEAST_COST))
    assert held == backlog.messages == MIB // LEAST_COST


def test_a_line_that_comes_in_small_pieces_is_one_object(tmp_path: Path) -> None:
    writer = open_log(Log(driver="local", path=str(tmp_path / "log")))
    with at_most(MIB):
        for number in range(MAX_LINE // 4):
            writer.write("stdout", b"%02d" % (number % 100))
    writer.close()


def test_a_frame_of_empty_lines_is_never_all_entries_at_once() -> None:
    framed = frame("stdout", b"\n" * (MIB // 8), 1, final=False)
    unframer = Unframer()
    with at_most(MIB):
        (last,) = deque(enumerate(unframer.feed(framed), 1), 1)
    assert last[0] == MIB // 8
    assert last[1].line == b""
    assert not unframer.unfinished
