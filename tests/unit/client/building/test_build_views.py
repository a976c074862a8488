"""How a build is shown: as lines, and live."""

from __future__ import annotations

import os
from collections.abc import Callable

from boxship.building.live import LiveView
from boxship.building.plain import PlainView
from boxship.building.state import BuildState
from boxship.types.build import BuildLog, BuildProgress, BuildStatus, BuildVertex

A = BuildVertex(digest="sha256:a", name="[1/2] FROM base", started=1)
B = BuildVertex(digest="sha256:b", name="[2/2] RUN make", started=1)


def plain() -> tuple[PlainView, list[str]]:
    out: list[str] = []
    return PlainView(BuildState(), out.append), out


def done(vertex: BuildVertex, **more: object) -> BuildVertex:
    return BuildVertex(digest=vertex.digest, name=vertex.name, started=1, completed=1_000_000_001, **more)  # type: ignore[arg-type]


def test_plain_steps_have_a_name_output_and_an_end() -> None:
    view, out = plain()
    view.apply(BuildProgress(vertices=(A,)))
    view.apply(BuildProgress(vertices=(done(A, cached=True),)))
    view.apply(BuildProgress(vertices=(B,)))
    view.apply(BuildProgress(logs=(BuildLog(vertex=B.digest, stream=1, data=b"cc -c\nlast"),)))
    view.apply(BuildProgress(vertices=(done(B),)))
    lines = "".join(out).splitlines()
    assert lines[:4] == ["#1 [1/2] FROM base", "#1 CACHED", "", "#2 [2/2] RUN make"]
    assert lines[4].startswith("#2 ")
    assert lines[4].endswith(" cc -c")
    assert lines[5:] == ["#2 1.000 last", "#2 DONE 1.0s", ""]


def test_plain_says_which_step_goes_on() -> None:
    view, out = plain()
    view.apply(BuildProgress(vertices=(A, B)))
    view.apply(BuildProgress(vertices=(done(A, error="exit code: 2"),)))
    assert "".join(out).splitlines() == [
        "#1 [1/2] FROM base",
        "",
        "#2 [2/2] RUN make",
        "",
        "#1 ...",
        "#1 ERROR: exit code: 2",
        "",
    ]


def test_plain_shows_a_part_once_when_it_is_done() -> None:
    view, out = plain()
    view.apply(BuildProgress(vertices=(A,)))
    part = BuildStatus(id="transferring context:", vertex=A.digest, current=2048)
    view.apply(BuildProgress(statuses=(part,)))
    complete = BuildStatus(id="transferring context:", vertex=A.digest, current=2048, started=1, completed=100_000_001)
    view.apply(BuildProgress(statuses=(complete,)))
    view.apply(BuildProgress(statuses=(complete,)))
    assert "".join(out).splitlines() == ["#1 [1/2] FROM base", "#1 transferring context: 2.05kB 0.1s done"]


def live(rows: int = 24, columns: int = 60) -> tuple[LiveView, Callable[[], str]]:
    out: list[bytes] = []
    view = LiveView(BuildState(), out.append, lambda: os.terminal_size((columns, rows)), colours=False)

    def last() -> str:
        return out[-1].decode()

    return view, last


def test_live_shows_steps_timers_and_the_last_lines() -> None:
    view, last = live()
    view.apply(BuildProgress(vertices=(done(A, cached=True), B)))
    view.apply(BuildProgress(logs=(BuildLog(vertex=B.digest, stream=1, data=b"".join(b"line %d\n" % n for n in range(20))),)))
    view._draw(2_000_000_001, final=False)
    text = last()
    assert " => CACHED [1/2] FROM base" in text
    assert " => [2/2] RUN make" in text
    assert " => => # line 19" in text
    assert "line 13" not in text
    assert "2.0s" in text
    view.apply(BuildProgress(vertices=(done(B),)))
    view.close()
    assert "(2/2) FINISHED" in last()
    assert "# line" not in last()


def test_live_never_takes_more_rows_or_columns_than_there_are() -> None:
    view, last = live(rows=8, columns=30)
    vertices = tuple(
        BuildVertex(digest=f"sha256:{n}", name=f"[{n}/20] RUN something long enough {n}", started=1) for n in range(20)
    )
    view.apply(BuildProgress(vertices=vertices))
    view._draw(5_000_000_000, final=False)
    lines = [line for line in last().split("\n")[1:] if not line.startswith("\x1b")]
    assert 0 < len(lines) <= 7
    assert all(len(line) <= 30 for line in lines)
