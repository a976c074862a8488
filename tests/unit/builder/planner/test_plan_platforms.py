"""Platforms: which are asked for, which images are for, and how several of them share a graph."""

import pytest
from boxshipd.builder.graph import ContextSource, Exec, ImageSource
from boxshipd.images.model import Platform
from support.plans import AMD64, ARM64, Images, planned


async def test_nobody_named_a_platform():
    images = Images()
    found = await planned("FROM debian\nRUN x\n", images)
    assert images.asked == [("debian", None)]
    assert found.image.platform == AMD64


async def test_an_image_for_another_platform_is_taken_as_it_is_where_nobody_named_one():
    class Foreign(Images):
        async def image(self, name, platform):
            return await super().image(name, ARM64)

    found = await planned("FROM debian\nRUN x\n", Foreign())
    assert found.image.platform == ARM64
    assert found.ops(ImageSource)[0].platform == ARM64
    assert found.rules == ["InvalidBaseImagePlatform"]


async def test_the_platform_of_the_request():
    images = Images()
    found = await planned("FROM debian\nRUN x\n", images, platforms=(ARM64,))
    assert images.asked == [("debian", ARM64)]
    assert found.image.platform == ARM64
    assert found.vertex(found.image.output).platform == ARM64
    assert found.names[1] == "[2/2] RUN x"


async def test_the_platform_of_a_stage():
    images = Images()
    text = "FROM --platform=$BUILDPLATFORM debian AS build\nRUN x\nFROM busybox\nCOPY --from=build a b\n"
    found = await planned(text, images, platforms=(ARM64,))
    assert sorted(images.asked) == [("busybox", ARM64), ("debian", AMD64)]
    assert found.image.platform == ARM64
    assert [vertex.platform for vertex in found.plan.graph.vertices.values() if isinstance(vertex.op, Exec)] == [AMD64]


async def test_several_platforms_share_what_is_the_same():
    images = Images()
    text = (
        "FROM --platform=$BUILDPLATFORM debian AS build\nARG TARGETARCH\nRUN x\nCOPY a b\n"
        "FROM busybox\nCOPY --from=build a b\nRUN y\n"
    )
    found = await planned(text, images, platforms=(AMD64, ARM64))
    assert [image.platform for image in found.plan.images] == [AMD64, ARM64]
    assert len(found.ops(ContextSource)) == 1
    assert len([op for op in found.ops(ImageSource) if "debian" in op.reference]) == 1
    builds = [name for name in found.names if "build 2/3" in name]
    assert builds == ["[linux/amd64 build 2/3] RUN x", "[linux/amd64->arm64 build 2/3] RUN x"]
    assert found.names[-1] == "[linux/arm64 stage-1 3/3] RUN y"
    assert found.plan.images[0].output != found.plan.images[1].output


async def test_scratch_is_for_the_platform_wanted():
    found = await planned("FROM scratch\nCOPY a b\n", platforms=(AMD64, ARM64))
    assert [image.platform for image in found.plan.images] == [AMD64, ARM64]
    assert found.plan.images[0].output == found.plan.images[1].output


@pytest.mark.parametrize("text", ["linux/arm64", "arm64", "linux/arm/v7", "windows/amd64"])
async def test_a_platform_that_cannot_run_here_is_planned(text):
    found = await planned(f"FROM --platform={text} debian AS windows-linux\nRUN x\n")
    assert found.ops(ImageSource)[0].platform.architecture in ("arm64", "arm", "amd64")


async def test_variants_are_variables():
    platform = Platform("arm", "linux", "v7")
    found = await planned("FROM debian\nARG TARGETVARIANT TARGETPLATFORM\nRUN x\n", platforms=(platform,))
    assert "TARGETVARIANT=v7" in found.exec.env
    assert "TARGETPLATFORM=linux/arm/v7" in found.exec.env
