"""The classic builder's output: in the Dockerfile's order, whatever the order in which things happen."""

import itertools

import pytest
from boxship.types.build import BuildLog, BuildProgress, BuildStatus, BuildVertex, BuildWarning
from boxship.types.build_request import BuildResult
from boxshipd.builder.classic import ClassicView
from boxshipd.builder.errors import StepFailed
from boxshipd.builder.graph import Exec, Graph, ImageSource, Vertex
from boxshipd.builder.plan import Line, Plan
from boxshipd.images.model import Platform
from msgspec import UNSET

BASE = f"sha256:{'b' * 64}"
IMAGE = f"sha256:{'1234567890ab' * 5}abcd"


class Told:
    """One build, and what its client has been told."""

    def __init__(self, *texts: str, quiet: bool = False) -> None:
        self.view = ClassicView(quiet=quiet)
        self.messages: list = []
        self.times = itertools.count(1)
        graph = Graph()
        base = graph.add(Vertex(op=ImageSource(reference=BASE, platform=Platform("amd64", "linux"))))
        self.lines = [Line(text="FROM busybox", vertex=base.vertex)]
        for text in texts:
            made = graph.add(Vertex(op=Exec(args=(text,)), inputs=(base,))).vertex if text.startswith(("RUN", "COPY")) else ""
            self.lines.append(Line(text=text, vertex=made))
        self.messages += self.view.plan(Plan(graph=graph, images=(), lines=tuple(self.lines)))

    def vertex(self, number: int, **fields) -> None:
        vertex = BuildVertex(digest=self.lines[number].vertex, started=next(self.times), **fields)
        self.messages += self.view.progress(BuildProgress(vertices=(vertex,)))

    def done(self, number: int, *, cached: bool = False) -> None:
        self.vertex(number, completed=next(self.times), cached=cached)

    def log(self, number: int, data: bytes, stream: int = 1) -> None:
        log = BuildLog(vertex=self.lines[number].vertex, stream=stream, data=data)
        self.messages += self.view.progress(BuildProgress(logs=(log,)))

    @property
    def text(self) -> str:
        return "".join(message.stream for message in self.messages if message.stream)

    def short(self, number: int) -> str:
        return self.lines[number].vertex.removeprefix("sha256:")[:12]


def test_a_build_reads_like_docker_s():
    told = Told("ENV A=b", "RUN make", "COPY a /b")
    told.done(0)
    told.vertex(2)
    told.log(2, b"compiling\n")
    told.log(2, b"warning\n", stream=2)
    told.done(2)
    told.done(3, cached=True)
    told.messages += told.view.success(BuildResult(id=IMAGE), ["x:latest", "y:1"])
    steps = told.text.split("Step ")
    assert steps[1] == f"1/4 : FROM busybox\n ---> {'b' * 12}\n"
    assert steps[2].startswith("2/4 : ENV A=b\n ---> ")
    assert steps[3] == (
        f"3/4 : RUN make\n ---> Running in {told.short(2)}\ncompiling\n\x1b[91mwarning\n\x1b[0m ---> {told.short(2)}\n"
    )
    assert steps[4] == (
        f"4/4 : COPY a /b\n ---> Using cache\n ---> {told.short(3)}\nSuccessfully built 1234567890ab\n"
        "Successfully tagged x:latest\nSuccessfully tagged y:1\n"
    )
    assert [message.aux for message in told.messages if message.aux] == [{"ID": IMAGE}]


def test_steps_side_by_side_are_not_mixed():
    told = Told("RUN one", "RUN two")
    told.done(0)
    told.vertex(1)
    told.vertex(2)
    told.log(2, b"2a\n")
    told.log(1, b"1a\n")
    told.log(2, b"2b\n")
    told.done(2)
    assert "2a" not in told.text, "the second step is told before the first one is done"
    told.log(1, b"1b\n")
    told.done(1)
    assert told.text.index("1a") < told.text.index("1b") < told.text.index("RUN two") < told.text.index("2a")


def test_characters_that_come_in_pieces_stay_whole():
    told = Told("RUN x")
    told.done(0)
    told.vertex(1)
    for byte in "ä€".encode():
        told.log(1, bytes((byte,)))
    assert told.text.endswith("ä€")


def test_a_failure_comes_last_with_the_command_s_code():
    told = Told("RUN slow", "RUN bad")
    told.done(0)
    told.vertex(1)
    told.vertex(2)
    told.log(2, b"no\n")
    told.vertex(2, completed=9, error="returned 3")
    told.messages += told.view.failure(StepFailed("The command '/bin/sh -c bad' returned a non-zero code: 3", 3))
    assert told.text.index("RUN slow") < told.text.index("RUN bad") < told.text.index("no\n")
    last = told.messages[-1]
    assert last.error == last.error_detail.message == "The command '/bin/sh -c bad' returned a non-zero code: 3"
    assert last.error_detail.code == 3


def test_quiet_builds_tell_the_id_only():
    told = Told("RUN x", quiet=True)
    told.done(0)
    told.log(1, b"noise\n")
    told.done(1)
    told.messages += told.view.success(BuildResult(id=IMAGE), ["x:latest"])
    assert told.text == f"{IMAGE}\n"


def test_quiet_builds_that_fail_tell_everything():
    told = Told("RUN x", quiet=True)
    told.done(0)
    told.vertex(1)
    told.log(1, b"reason\n")
    assert not told.messages
    told.messages += told.view.failure(ValueError("bad"))
    assert "reason\n" in told.text
    assert told.messages[-1].error == "bad"


def test_advice_is_told_before_the_end():
    told = Told()
    told.done(0)
    warning = BuildWarning(rule="StageNameCasing", message="be consistent", line=3)
    told.messages += told.view.progress(BuildProgress(warnings=(warning,)))
    told.messages += told.view.success(BuildResult(id=IMAGE), [])
    assert "[Warning] StageNameCasing: be consistent (line 3)\nSuccessfully built" in told.text


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({"id": "extracting 0123456789ab", "current": 5, "total": 10}, ("Extracting", "0123456789ab", 5)),
        ({"id": "0123456789ab", "current": 1}, ("Downloading", "0123456789ab", 1)),
        ({"id": "0123456789ab", "current": 1, "completed": 1}, ("Pull complete", "0123456789ab", UNSET)),
    ],
)
def test_how_far_a_layer_is_has_its_own_line(status, shown):
    told = Told()
    status = BuildStatus(vertex=told.lines[0].vertex, **status)
    told.messages += told.view.progress(BuildProgress(statuses=(status,)))
    message = told.messages[-1]
    assert (message.status, message.id, message.progress_detail.current) == shown


def test_what_waits_for_its_turn_is_bounded():
    told = Told("RUN first", "RUN second", "RUN third")
    told.done(0)
    told.vertex(1)
    for number in (2, 3):
        told.vertex(number)
        for _ in range(40):
            told.log(number, b"x" * (1 << 20) + b"\n")
        told.log(number, b"the end of it\n")
        told.done(number)
    told.done(1)
    assert len(told.text) < 20 << 20
    assert told.text.count("output clipped") == 2
    assert told.text.endswith(f"the end of it\n ---> {told.short(3)}\n")


def test_a_quiet_build_keeps_the_end_of_what_it_does_not_tell():
    told = Told("RUN loud", quiet=True)
    told.done(0)
    told.vertex(1)
    for _ in range(60_000):
        told.log(1, b"." * 1000)
    told.log(1, b"what went wrong")
    assert not told.messages
    told.messages += told.view.failure(StepFailed("it did", 1))
    assert len(told.text) < 20 << 20
    assert told.text.endswith("what went wrong")
