"""What a build's progress tells, as steps and lines."""

from __future__ import annotations

from boxship.building.state import BuildState, printable, remainder, shown
from boxship.types.build import BuildLog, BuildProgress, BuildStatus, BuildVertex, BuildWarning


def vertex(name: str, **more: object) -> BuildVertex:
    return BuildVertex(digest=f"sha256:{name}", name=name, **more)  # type: ignore[arg-type]


def test_steps_are_numbered_in_the_order_in_which_they_begin() -> None:
    state = BuildState()
    state.apply(BuildProgress(vertices=(vertex("a"), vertex("b"))))
    state.apply(BuildProgress(vertices=(vertex("b", started=5),)))
    state.apply(BuildProgress(vertices=(vertex("a", started=7),)))
    assert [(step.vertex.name, step.number) for step in state.steps.values()] == [("a", 2), ("b", 1)]


def test_lines_are_put_together_over_pieces() -> None:
    state = BuildState()
    state.apply(BuildProgress(vertices=(vertex("a", started=1),)))
    first = state.apply(BuildProgress(logs=(BuildLog(vertex="sha256:a", stream=1, data=b"one\ntw"),)))
    second = state.apply(BuildProgress(logs=(BuildLog(vertex="sha256:a", stream=1, data=b"o\nrest"),)))
    assert [lines for _, lines in first] == [("one",)]
    assert [lines for _, lines in second] == [("two",)]
    step = state.steps["sha256:a"]
    assert remainder(step) == ("rest",)
    assert remainder(step) == ()
    assert [line for _, line in step.lines] == ["one", "two", "rest"]


def test_parts_and_warnings_are_kept() -> None:
    state = BuildState()
    warning = BuildWarning(rule="StageNameCasing", message="no", line=3)
    state.apply(
        BuildProgress(vertices=(vertex("a", started=1),), statuses=(BuildStatus(id="layer", vertex="sha256:a", current=4),))
    )
    state.apply(BuildProgress(warnings=(warning, warning)))
    state.apply(BuildProgress(warnings=(warning,)))
    assert state.steps["sha256:a"].parts["layer"].current == 4
    assert state.warnings == [warning]


def test_counts_and_times() -> None:
    state = BuildState()
    state.apply(BuildProgress(vertices=(vertex("a", started=1_000_000_000, completed=3_500_000_000), vertex("b"))))
    assert state.counts == (1, 2)
    assert state.steps["sha256:a"].seconds(9_000_000_000) == 2.5
    assert state.steps["sha256:b"].seconds(9_000_000_000) == 0.0


def test_output_can_do_nothing_to_the_terminal() -> None:
    assert shown(b"\x1b[31mred\x1b[0m") == "red"
    assert shown(b"10%\r20%\r") == "20%"
    assert shown(b"\x1b]0;title\x07text") == "text"
    assert shown(b"a\x07b\x00c\xff") == "abc�"
    assert shown(b"a\tb") == "a       b"


def test_a_line_without_an_end_is_shown_in_pieces() -> None:
    state = BuildState()
    state.apply(BuildProgress(vertices=(vertex("a", started=1),)))
    lengths = [
        len(line)
        for _ in range(400)
        for _, lines in state.apply(BuildProgress(logs=(BuildLog(vertex="sha256:a", stream=1, data=b"x" * 30_000),)))
        for line in lines
    ]
    step = state.steps["sha256:a"]
    assert sum(lengths) + len(step.rest) == 400 * 30_000
    assert max(lengths) < 100_000


def test_a_dockerfile_has_no_say_in_what_the_terminal_does() -> None:
    escape = "\x1b]0;title\x07\x1b[2J\x9b1m"
    state = BuildState()
    state.apply(BuildProgress(vertices=(vertex("a", started=1),)))
    state.apply(
        BuildProgress(
            vertices=(BuildVertex(digest="sha256:a", name=f"RUN {escape}one\ntwo", error=f"first{escape}\nsecond"),),
            statuses=(BuildStatus(id=f"part{escape}", vertex="sha256:a"),),
            warnings=(BuildWarning(rule="X", message=f"no{escape}"),),
        )
    )
    step = state.steps["sha256:a"]
    assert step.vertex.name == "RUN 1mone two"
    assert step.vertex.error == "first1m\nsecond"
    assert [part.id for part in step.parts.values()] == ["part1m"]
    assert state.warnings[0].message == "no1m"
    assert printable("as it is: \u00e9") == "as it is: \u00e9"
