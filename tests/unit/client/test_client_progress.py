"""Progress: what a terminal of any size shows, and what a file gets."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import termios
import threading

import pytest
from boxship.errors import StreamError
from boxship.terminal.progress import Progress, bar, show
from hypothesis import given, settings
from hypothesis import strategies as st
from support.screen import Screen


class Shown:
    """A progress display on a pseudo terminal, and what that terminal shows."""

    def __init__(self, width: int = 120, height: int = 24, **options) -> None:
        self.master, self.slave = pty.openpty()
        # The kernel would make two characters of a line feed; the screen makes its own.
        mode = termios.tcgetattr(self.slave)
        mode[1] &= ~termios.OPOST
        termios.tcsetattr(self.slave, termios.TCSANOW, mode)
        self.screen = Screen(width, height)
        self._size(width, height)
        self.progress = Progress(self.slave, **options)

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.master)
        os.close(self.slave)

    def _size(self, width: int, height: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def resize(self, width: int) -> None:
        self.read()
        self.screen.resize(width)
        self._size(width, self.screen.height)

    def read(self) -> list[str]:
        """What has been written since goes to the screen; its lines."""
        os.write(self.slave, b"\0")
        data = b""
        while not data.endswith(b"\0"):
            data += os.read(self.master, 65536)
        self.screen.feed(data[:-1])
        return self.screen.text

    def layer(self, name: str, status: str, current: int = 0, total: int = 0) -> None:
        detail = {"current": current, "total": total} if total else {}
        self.progress.message({"status": status, "id": name, "progressDetail": detail})
        self.read()


def test_each_layer_has_a_line_that_stays_in_place():
    with Shown() as shown:
        shown.progress.message({"status": "Pulling from library/x", "id": "latest"})
        shown.layer("aaa", "Pulling fs layer")
        shown.layer("bbb", "Pulling fs layer")
        shown.layer("aaa", "Downloading", 500, 1000)
        shown.layer("bbb", "Waiting")
        assert shown.screen.text == [
            "latest: Pulling from library/x",
            f"aaa: Downloading [{'=' * 25}>{' ' * 25}]     500B/1kB",
            "bbb: Waiting",
        ]
        shown.layer("bbb", "Pull complete")
        shown.layer("aaa", "Pull complete")
        shown.progress.message({"status": "Digest: sha256:abc"})
        shown.progress.message({"status": "Status: Downloaded newer image for x"})
        assert shown.read() == [
            "latest: Pulling from library/x",
            "aaa: Pull complete",
            "bbb: Pull complete",
            "Digest: sha256:abc",
            "Status: Downloaded newer image for x",
        ]


@pytest.mark.parametrize(
    ("width", "has_bar"), [(200, True), (111, True), (80, True), (60, True), (50, False), (34, False), (20, False), (8, False)]
)
def test_a_narrow_terminal_never_wraps(width, has_bar):
    with Shown(width) as shown:
        for name in ("0123456789ab", "ba9876543210"):
            shown.layer(name, "Downloading", 512_000_000, 1_024_000_000)
            shown.layer(name, "Extracting", 1_000_000_000, 1_024_000_000)
        assert len(shown.screen.text) == 2
        assert shown.screen.text[1].startswith("ba9876543210"[:width])
        assert ("=>" in shown.screen.text[0]) is has_bar


def test_more_layers_than_rows():
    """All lines can be read at the end; meanwhile those at work are on the screen, and nothing is drawn over anything."""
    with Shown(60, 8) as shown:
        names = [f"layer{number:02d}" for number in range(20)]
        shown.progress.message({"status": "Pulling from x", "id": "latest"})
        for name in names:
            shown.layer(name, "Pulling fs layer")
        visible = shown.screen.rows[-8:]
        assert visible[-2].startswith("… and 14 more")
        for name in names:
            shown.layer(name, "Downloading", 1, 10)
            shown.layer(name, "Pull complete")
        shown.progress.message({"status": "Digest: x"})
        assert sorted(shown.read()) == sorted(
            ["latest: Pulling from x", *(f"{name}: Pull complete" for name in names), "Digest: x"]
        )
        assert shown.screen.text[0] == "latest: Pulling from x"
        assert shown.screen.text[-1] == "Digest: x"


def test_a_terminal_made_narrower_meanwhile():
    with Shown(100, 20) as shown:
        shown.layer("aaa", "Downloading", 500, 1000)
        shown.layer("bbb", "Downloading", 500, 1000)
        shown.resize(30)
        shown.layer("aaa", "Downloading", 600, 1000)
        assert [line[:4] for line in shown.screen.text] == ["aaa:", "bbb:"]
        shown.layer("bbb", "Pull complete")
        shown.progress.close()
        assert shown.read()[1] == "bbb: Pull complete"


STEPS = st.lists(
    st.tuples(
        st.integers(0, 11), st.sampled_from(["Waiting", "Downloading", "Extracting", "Pull complete"]), st.integers(0, 100)
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None)
@given(STEPS, st.integers(10, 130), st.integers(2, 30))
def test_whatever_comes_every_layer_ends_with_its_last_state(steps, width, height):
    with Shown(width, height) as shown:
        last: dict[str, str] = {}
        done: set[str] = set()
        for number, status, current in steps:
            name = f"l{number:x}"
            if name in done:
                continue
            shown.layer(name, status, current, 100 if status in ("Downloading", "Extracting") else 0)
            last[name] = f"{name}: {status}"
            if status == "Pull complete":
                done.add(name)
        shown.progress.close()
        lines = shown.read()
        assert len(lines) == len(last)
        for name, text in last.items():
            (line,) = (line for line in lines if line.startswith(f"{name}:"))
            assert line.startswith(text[:width].rstrip())


def test_a_failure_leaves_the_lines_and_is_an_error():
    with Shown() as shown:
        shown.layer("aaa", "Downloading", 1, 2)
        with pytest.raises(StreamError, match=r"^it broke$"):
            show([json.dumps({"errorDetail": {"message": "it broke"}, "error": "it broke"}).encode()], fd=shown.slave)
        shown.progress.close()
        assert shown.read()[0].startswith("aaa: Downloading")


def test_a_registry_has_no_say_in_what_the_terminal_does():
    with Shown() as shown:
        shown.progress.message({"status": "\x1b]0;title\x07\x1b[2Jhello", "id": "a\nb", "progressDetail": {}})
        assert shown.read() == ["ab: ]0;title[2Jhello"]
        with pytest.raises(StreamError, match=r"^\[31mred$"):
            shown.progress.message({"error": "\x1b[31mred"})


def to_a_file(*messages: dict, **options) -> bytes:
    """What a pipe gets."""
    reader, writer = os.pipe()
    got: list[bytes] = []

    def read() -> None:
        with open(reader, "rb") as file:
            got.append(file.read())

    thread = threading.Thread(target=read)
    thread.start()
    try:
        show([json.dumps(message).encode() for message in messages], fd=writer, **options)
    finally:
        os.close(writer)
        thread.join()
    return got[0]


def test_a_file_gets_plain_lines_and_no_bars():
    messages = [
        {"status": "Pulling from x", "id": "latest"},
        {"status": "Pulling fs layer", "id": "a", "progressDetail": {}},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 2}},
        {"status": "Pull complete", "id": "a", "progressDetail": {}},
        {"aux": {"Digest": "x"}},
        {"stream": "Loaded image: x\n"},
        {"status": "Digest: y"},
    ]
    assert to_a_file(*messages) == (
        b"latest: Pulling from x\na: Pulling fs layer\na: Pull complete\nLoaded image: x\nDigest: y\n"
    )
    assert to_a_file(*messages, quiet=True) == b""


def test_what_is_for_the_program_is_passed_on():
    seen: list[object] = []
    assert to_a_file({"aux": {"Digest": "x"}}, {"status": "s"}, aux=seen.append, quiet=True) == b""
    assert seen == [{"Digest": "x"}]


def test_who_may_not_is_told_so():
    with pytest.raises(StreamError, match=r"^authentication is required$"):
        show([b'{"errorDetail":{"code":401,"message":"x"},"error":"x"}'], fd=1)


@pytest.mark.parametrize(
    ("current", "total", "text"),
    [
        (0, 0, ""),
        (1500, 0, "   1.5kB"),
        (0, 100, f"[>{' ' * 50}]       0B/100B"),
        (100, 100, f"[{'=' * 50}>]     100B/100B"),
        (300, 200, f"[{'=' * 50}>]     300B"),
    ],
)
def test_bars(current, total, text):
    assert bar(current, total) == text
