"""Stages: which are planned, what they come from, what they take from each other, what they are called."""

import asyncio

import pytest
from boxship.types.containers import ContainerConfig
from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.graph import ContextSource, Copy, Exec, Files, GitSource, HttpSource, ImageSource
from boxshipd.errors import InvalidParameter, NotFound
from support.plans import Images, planned


async def test_only_what_the_target_needs_is_planned_and_asked_for():
    images = Images()
    found = await planned(
        "FROM nowhere AS unused\nRUN one\nFROM debian AS base\nRUN two\nFROM busybox AS tools\nRUN three\n"
        "FROM base\nCOPY --from=tools /x /x\n",
        images,
    )
    assert sorted(name for name, _ in images.asked) == ["busybox", "debian"]
    assert [op.args[-1] for op in found.ops(Exec)] == ["two", "three"]


async def test_base_images_are_asked_for_at_once_and_each_once():
    class Waiting(Images):
        together = 0
        most = 0

        async def image(self, name, platform):
            self.together += 1
            self.most = max(self.most, self.together)
            await asyncio.sleep(0)
            self.together -= 1
            return await super().image(name, platform)

    images = Waiting()
    await planned(
        "FROM debian AS a\nFROM busybox AS b\nFROM debian AS c\nFROM scratch\nCOPY --from=a x x\nCOPY --from=b x x\n"
        "COPY --from=c x x\nCOPY --from=debian x x\n",
        images,
    )
    assert len(images.asked) == 2
    assert images.most == 2


async def test_when_one_image_is_missing_nobody_waits_for_others():
    class Slow(Images):
        cancelled = False

        async def image(self, name, platform):
            if name == "nowhere":
                return await super().image(name, platform)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
            raise AssertionError

    images = Slow()
    with pytest.raises(NotFound, match="nowhere"):
        await planned("FROM debian AS a\nFROM nowhere\nCOPY --from=a x x\n", images)
    assert images.cancelled


STAGES = "FROM debian AS One\nRUN one\nFROM debian\nRUN two\nFROM one\nRUN three\n"


@pytest.mark.parametrize(
    ("target", "last"), [("", "three"), ("one", "one"), ("ONE", "one"), ("0", "one"), ("1", "two"), ("2", "three")]
)
async def test_targets(target, last):
    found = await planned(STAGES, target=target)
    assert found.chain()[-1].args[-1] == last


@pytest.mark.parametrize("target", ["3", "two", "-1", "9" * 5000])
async def test_an_unknown_target(target):
    with pytest.raises(InvalidParameter, match=r"target stage .* could not be found"):
        await planned(STAGES, target=target)


async def test_an_unknown_target_is_told_what_may_be_meant():
    with pytest.raises(InvalidParameter, match=r"\(did you mean one\?\)"):
        await planned(STAGES, target="onee")


async def test_a_stage_continues_another():
    found = await planned("FROM debian AS a\nENV A=1\nRUN one\nFROM a AS b\nRUN two\nFROM B\nRUN three\n")
    assert [type(op) for op in found.chain()] == [ImageSource, Exec, Exec, Exec]
    assert found.history == [
        "ENV A=1",
        "RUN /bin/sh -c one # buildkit",
        "RUN /bin/sh -c two # buildkit",
        "RUN /bin/sh -c three # buildkit",
    ]
    assert found.image.config.env == ["PATH=/bin", "A=1"]


async def test_a_stage_does_not_change_the_one_it_comes_from():
    found = await planned(
        "FROM debian AS a\nENV A=1\nLABEL a=1\nFROM a AS b\nENV A=2 B=3\nLABEL a=2\nFROM a\nCOPY --from=b x x\n"
    )
    assert found.image.config.env == ["PATH=/bin", "A=1"]
    assert found.image.config.labels == {"a": "1"}


@pytest.mark.parametrize("name", ["a", "A", "0"])
async def test_copying_from_a_stage_by_name_or_number(name):
    found = await planned(f"FROM debian AS a\nRUN one\nFROM scratch\nCOPY --from={name} /x /y\n")
    vertex = found.vertex(found.image.output)
    (copy,) = vertex.op.actions
    assert found.vertex(vertex.inputs[copy.input]).op.args[-1] == "one"
    assert copy.keep_owner


async def test_copying_from_an_image():
    found = await planned("FROM debian\nCOPY --from=busybox:1 /bin/x /y\n")
    vertex = found.vertex(found.image.output)
    assert found.vertex(vertex.inputs[1]).op.reference.startswith("docker.io/library/busybox@sha256:")


async def test_copying_from_nothing():
    found = await planned("FROM scratch AS a\nFROM debian\nCOPY --from=a /x /y\nRUN --mount=from=scratch,target=/m make\n")
    assert Files(actions=(), scratch=True) in found.ops(Files)
    assert found.exec.mounts[0].input == -1


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("FROM debian AS a\nCOPY --from=b x x\nFROM debian AS b\n", 'cannot copy from stage "b"', 2),
        ("FROM debian AS a\nCOPY --from=1 x x\nFROM debian AS b\n", 'cannot copy from stage "b"', 2),
        ("FROM debian AS a\nRUN --mount=from=b,target=/x y\nFROM debian AS b\n", 'cannot mount from stage "b"', 2),
        ("FROM debian AS a\nCOPY --from=a x x\n", "circular dependency detected on stage: a", 2),
        ("FROM debian\nCOPY --from=0 x x\n", "circular dependency detected on stage: stage-0", 2),
        ("FROM debian AS a\nCOPY --from=b x x\nFROM a AS b\n", "circular dependency detected on stage", 3),
        (
            "FROM debian AS a\nCOPY --from=b x x\nFROM debian AS b\nCOPY --from=a x x\n",
            "circular dependency detected on stage",
            4,
        ),
        ("FROM debian\nCOPY --from=7 x x\n", "invalid stage index 7", 2),
        ("FROM debian\nCOPY --from=-1 x x\n", "invalid stage index -1", 2),
        ("ARG X=a\nFROM debian\nCOPY --from=$X x x\n", "variable expansion is not supported for --from", 3),
        ("ARG X\nFROM $X\n", r"base name \(\$X\) should not be blank", 2),
        ("FROM UPPER\n", 'failed to parse stage name "UPPER": invalid reference format', 1),
        ("FROM --platform=$X debian\n", r"empty platform value from expression \$X", 1),
        ("FROM --platform=no/such/thing/x debian\n", "failed to parse platform", 1),
    ],
)
async def test_stages_that_cannot_be_right(text, message, line):
    with pytest.raises(DockerfileError, match=message) as caught:
        await planned(text, target="a" if "AS a" in text else "")
    assert caught.value.first == line
    assert ">>>" in caught.value.excerpt


async def test_circles_are_found_among_stages_that_are_not_needed():
    with pytest.raises(DockerfileError, match="circular"):
        await planned("FROM debian AS a\nCOPY --from=a x x\nFROM debian\n")


async def test_a_missing_image_is_not_found():
    with pytest.raises(NotFound, match="nowhere"):
        await planned("FROM nowhere\n")


async def test_names_of_steps():
    found = await planned('FROM debian\nENV A=b\nRUN make "$A" $C\nWORKDIR /x\nCOPY $A /\n')
    assert [name for name in found.names if not name.startswith("[internal]")] == [
        f"[1/4] FROM docker.io/library/debian:latest@sha256:{'ab' * 32}",
        '[2/4] RUN make "b" $C',
        "[3/4] WORKDIR /x",
        "[4/4] COPY b /",
    ]


async def test_names_of_steps_of_several_stages():
    runs = "RUN x\n" * 10
    found = await planned(f"FROM scratch AS a\nRUN x\nFROM debian\n{runs}COPY --link --from=a x x\n")
    assert found.names[1:3] == ["[a 1/1] RUN x", "[stage-1  2/12] RUN x"]
    assert found.names[-2:] == [
        "[stage-1 12/12] COPY --link --from=a x x",
        "[stage-1 12/12] LINK COPY --link --from=a x x",
    ]
    assert {vertex.stage for vertex in found.plan.graph.vertices.values()} == {"a", "1"}


async def test_the_cache_is_ignored_where_that_was_asked_for():
    text = "FROM debian AS a\nRUN one\nFROM debian AS b\nRUN two\nCOPY --from=a x x\n"

    async def ignoring(**options):
        vertices = (await planned(text, **options)).plan.graph.vertices.values()
        return [vertex.instruction for vertex in vertices if vertex.ignore_cache]

    assert await ignoring() == []
    assert await ignoring(no_cache=True) == ["RUN one", "RUN two", "COPY --from=a x x"]
    assert await ignoring(no_cache_stages=("A",)) == ["RUN one"]
    assert await ignoring(no_cache_stages=("1",)) == ["RUN two", "COPY --from=a x x"]


TRIGGERED = ContainerConfig(env=["A=1"], on_build=["RUN echo $A", "ENV B=2", "COPY --from=busybox /x /x", "CMD own"])


async def test_triggers_of_a_base_image_run_before_the_stages_own_and_are_not_inherited():
    found = await planned("FROM base\nRUN make\n", Images({"base": TRIGGERED}))
    assert found.history == [
        "RUN /bin/sh -c echo $A # buildkit",
        "ENV B=2",
        "COPY /x /x # buildkit",
        'CMD ["/bin/sh" "-c" "own"]',
        "RUN /bin/sh -c make # buildkit",
    ]
    assert found.image.config.on_build is None
    assert "[2/4] ONBUILD RUN echo 1" in found.names


async def test_triggers_of_a_stage_run_in_the_stage_that_continues_it():
    found = await planned("FROM debian AS a\nONBUILD RUN trigger\nRUN one\nFROM a AS b\nRUN two\nFROM b\nRUN three\n")
    assert [op.args[-1] for op in found.ops(Exec)] == ["one", "trigger", "two", "three"]
    assert found.image.config.on_build is None


async def test_a_trigger_may_need_another_stage():
    base = ContainerConfig(on_build=["COPY --from=tools /x /x"])
    found = await planned("FROM debian AS tools\nRUN make\nFROM base\n", Images({"base": base}))
    assert found.exec.args[-1] == "make"


@pytest.mark.parametrize("trigger", ["FROM debian", "ONBUILD RUN x", "MAINTAINER me", "NONSENSE", "RUN a\nRUN b"])
async def test_triggers_that_cannot_be_right(trigger):
    with pytest.raises(DockerfileError) as caught:
        await planned("FROM debian AS a\nFROM base\n", Images({"base": ContainerConfig(on_build=[trigger])}))
    assert caught.value.first == 2


@pytest.mark.parametrize("name", ["debian", "debian:latest", "docker.io/library/debian", "Debian::linux/amd64"])
async def test_a_context_in_place_of_an_image(name):
    contexts = {name.lower(): "docker-image://busybox"}
    found = await planned("FROM debian\nRUN make\n", contexts=contexts)
    assert "busybox" in found.chain()[0].reference
    other = await planned("FROM debian\nRUN make\n", contexts={"debian::linux/arm64": "docker-image://busybox"})
    assert "debian" in other.chain()[0].reference


async def test_a_context_in_place_of_a_stage():
    images = Images()
    text = "FROM nowhere AS base\nRUN one\nFROM base\nRUN two\n"
    found = await planned(text, images, contexts={"base": "docker-image://debian"})
    assert [name for name, _ in images.asked] == ["debian"]
    assert found.history == ["RUN /bin/sh -c two # buildkit"]
    assert [each.created_by for each in found.image.base_history] == ["made debian"]


async def test_files_of_the_client_in_place_of_an_image():
    images = Images(files={("src", ".dockerignore"): b"*.o\n"})
    found = await planned("FROM src\nRUN make\n", images, contexts={"src": "input:src"})
    source, files, run = found.chain()[0], found.chain()[0], found.chain()[-1]
    assert isinstance(run, Exec)
    assert found.ops(ContextSource) == [ContextSource(name="src", exclude=("*.o",))]
    assert files is source
    assert isinstance(files, Files)
    assert files.actions == (Copy(input=0, sources=("/",), destination="/", directory=True),)


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ("input:src", ContextSource(name="src")),
        ("https://h/x.git#v1:d", GitSource(remote="https://h/x.git", ref="v1", directory="d")),
        ("git@h:x.git", GitSource(remote="git@h:x.git")),
        ("https://h/x.tar.gz", HttpSource(url="https://h/x.tar.gz", filename="context", unpack=True)),
    ],
)
async def test_copying_from_a_context(value, source):
    found = await planned("FROM debian\nCOPY --from=src a b\n", contexts={"src": value})
    vertex = found.vertex(found.image.output)
    assert found.vertex(vertex.inputs[1]).op == source
    assert not vertex.op.actions[0].keep_owner


async def test_an_image_of_a_layout_brings_its_layers_along():
    found = await planned("FROM debian\nRUN make\n", contexts={"debian": "oci-layout://layout:debian"})
    assert found.image.base.reference == "sha256:layout:debian"
    assert found.image.base.layers
    sources = [vertex.op for vertex in found.plan.graph.vertices.values() if isinstance(vertex.op, ImageSource)]
    assert [source.layers for source in sources] == [found.image.base.layers]


@pytest.mark.parametrize(
    ("value", "message"),
    [("nothing", "invalid context specifier nothing"), ("ftp://x", "unsupported context source ftp for src")],
)
async def test_contexts_that_cannot_be_right(value, message):
    with pytest.raises(DockerfileError, match=message):
        await planned("FROM debian\nCOPY --from=src a b\n", contexts={"src": value})


async def test_scratch_is_never_a_context():
    found = await planned("FROM scratch\n", contexts={"scratch": "docker-image://debian"})
    assert found.image.base is None


async def test_an_image_without_layers_is_an_empty_file_system():
    class Empty(Images):
        async def image(self, name, platform):
            from boxshipd.images.model import RootFS
            from msgspec.structs import replace

            found = await super().image(name, platform)
            return replace(found, config=replace(found.config, rootfs=RootFS([])))

    found = await planned("FROM debian\nRUN make\n", Empty())
    assert found.exec.scratch
    assert found.image.config.cmd == ["bash"]
