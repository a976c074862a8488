"""The soak's followers find what they are there to find: lines missing, lines twice, ends that don't come."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest

from benchmarks.follower import FaultError, Follower

FIRST = "2026-01-01T00:00:00.000000001Z"
SECOND = "2026-01-01T00:00:00.000000002Z"


def piece(*lines: str) -> bytes:
    """Lines of a log as one chunk of an answer."""
    frames = b"".join(struct.pack(">BxxxI", 1, len(line) + 1) + line.encode() + b"\n" for line in lines)
    return b"%x\r\n%s\r\n" % (len(frames), frames)


async def follow(path: Path, *answers: bytes) -> Follower:
    """Follow a log whose connections bring these answers, the last one to its end."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + left.pop(0))
        if not left:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path / "socket")
    follower = Follower(str(path / "socket"), "x", "plain", tail=1, stall=lambda: 0.0)
    async with server:
        await follower.follow(asyncio.Event())
    return follower


async def test_lines_of_the_last_time_seen_are_discarded(tmp_path: Path) -> None:
    first = piece(f"{FIRST} 7 x", f"{SECOND} 8 x", f"{SECOND} 9 x")
    follower = await follow(tmp_path, first, piece(f"{SECOND} 8 x", f"{SECOND} 9 x", f"{SECOND} 10 end"))
    assert (follower.last, follower.lines, follower.discarded, follower.connections) == (10, 4, 2, 2)


@pytest.mark.parametrize(
    "answers",
    [
        (piece(f"{FIRST} 7 x", f"{FIRST} 9 end"),),
        (piece(f"{FIRST} 7 x", f"{FIRST} 7 x"),),
        (piece(f"{FIRST} 7 x"), piece(f"{SECOND} 9 end")),
        (piece(f"{FIRST} 7 x", f"{SECOND} 8 x"), piece(f"{FIRST} 7 x")),
        (piece(f"{FIRST} 7 x"), piece(f"{FIRST} 7 x", f"{SECOND} 8 x", f"{SECOND} 8 x")),
        (piece(f"{FIRST} 7 x"),),
    ],
    ids=["a gap", "a double", "a gap between connections", "a double of an earlier time", "a late double", "no end"],
)
async def test_faults_are_found(tmp_path: Path, answers: tuple[bytes, ...]) -> None:
    with pytest.raises(FaultError):
        await follow(tmp_path, *answers)
