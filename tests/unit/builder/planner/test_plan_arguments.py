"""ARG, ENV and the variables that are always there: who sees which, and what reaches commands."""

import pytest
from support.plans import AMD64, ARM64, Images, planned


async def env_of(dockerfile: str, **options):
    found = await planned(dockerfile, **options)
    return [entry for entry in found.exec.env if not entry.startswith("PATH=")]


@pytest.mark.parametrize(
    ("lines", "build_args", "env"),
    [
        ("ARG A=1", {}, ["A=1"]),
        ("ARG A=1", {"A": "2"}, ["A=2"]),
        ("ARG A=1", {"A": ""}, ["A="]),
        ("ARG A=1", {"A": None}, []),
        ("ARG A", {}, []),
        ("ARG A", {"A": "2"}, ["A=2"]),
        ("ARG A=1\nARG B=${A}x", {}, ["A=1", "B=1x"]),
        ("ARG A=1\nENV A=2", {"A": "3"}, ["A=2"]),
        ("ENV A=1\nARG A=2", {}, ["A=2"]),
        ("ARG A=1\nENV B=$A", {"A": "3"}, ["A=3", "B=3"]),
        ("ARG BUILDKIT_SBOM_SCAN_STAGE=true", {}, []),
        ("ARG TARGETARCH", {}, ["TARGETARCH=amd64"]),
        ("ARG TARGETARCH=x", {}, ["TARGETARCH=x"]),
        (
            "ARG TARGETPLATFORM TARGETOS BUILDPLATFORM",
            {},
            ["BUILDPLATFORM=linux/amd64", "TARGETOS=linux", "TARGETPLATFORM=linux/amd64"],
        ),
        ("ARG TARGETSTAGE", {}, ["TARGETSTAGE=default"]),
        ("ARG SOURCE_DATE_EPOCH", {"SOURCE_DATE_EPOCH": "5"}, ["SOURCE_DATE_EPOCH=5"]),
    ],
)
async def test_variables_of_commands(lines, build_args, env):
    assert await env_of(f"FROM debian\n{lines}\nRUN make\n", build_args=build_args) == env


async def test_arguments_are_in_commands_and_not_in_the_configuration():
    found = await planned("FROM debian\nARG A=1\nENV B=2\nRUN make\n")
    assert found.image.config.env == ["PATH=/bin", "B=2"]


async def test_the_order_of_variables_makes_no_other_command():
    one = await planned("FROM debian\nENV A=1\nENV B=2\nRUN make\n")
    two = await planned("FROM debian\nENV B=2\nENV A=1\nRUN make\n")
    assert one.image.output == two.image.output


async def test_what_is_before_from_is_seen_by_from_and_by_those_who_ask():
    text = "ARG V=1\nARG W=x$V\nFROM debian:$W\nARG V\nRUN make $W\n"
    found = await planned(text)
    assert [entry for entry in found.exec.env if "PATH" not in entry] == ["V=1"]
    assert "FROM docker.io/library/debian:x1" in found.names[0]
    assert (await planned(text, build_args={"V": "2"})).names[0].count("debian:x2")


async def test_a_default_in_the_stage_comes_before_the_value_from_before_from():
    assert await env_of("ARG V=1\nFROM debian\nARG V=2\nRUN make\n") == ["V=2"]


async def test_a_stage_inherits_arguments_from_the_stage_it_comes_from_and_from_no_other():
    text = "FROM debian AS a\nARG V=1\nFROM debian AS b\nRUN {}\nFROM {}\nRUN two\n"
    found = await planned(text.format("one", "a"))
    assert found.history[-1] == "RUN |1 V=1 /bin/sh -c two # buildkit"
    found = await planned(text.format("one", "b"))
    assert found.history[-1] == "RUN /bin/sh -c two # buildkit"


async def test_proxies_reach_commands_and_neither_history_nor_identity():
    plain = await planned("FROM debian\nRUN make\n")
    found = await planned("FROM debian\nRUN make\n", build_args={"http_proxy": "http://p", "NO_PROXY": "x", "HTTPS_PROXY": ""})
    assert found.exec.proxy == ("HTTP_PROXY=http://p", "http_proxy=http://p", "NO_PROXY=x", "no_proxy=x")
    assert found.exec.env == plain.exec.env
    assert found.history == plain.history
    assert found.plan.warnings == ()


async def test_a_declared_proxy_is_an_argument_like_others():
    found = await planned("FROM debian\nARG HTTP_PROXY\nRUN make\n", build_args={"HTTP_PROXY": "p"})
    assert "HTTP_PROXY=p" in found.exec.env
    assert found.history == ["ARG HTTP_PROXY=p", "RUN |1 HTTP_PROXY=p /bin/sh -c make # buildkit"]


async def test_what_nobody_asked_for_is_told():
    text = "ARG G\nFROM debian\nARG A\nRUN make\n"
    found = await planned(text, build_args={"A": "1", "G": "1", "Z": "1", "Y": "2", "BUILDKIT_INLINE_CACHE": "1"})
    assert [warning.message for warning in found.plan.warnings] == ["One or more build-args [Y Z] were not consumed"]


async def test_platforms_and_target_of_the_request():
    text = "FROM debian AS one\nARG TARGETARCH BUILDARCH TARGETSTAGE\nRUN make\nFROM scratch AS two\n"
    env = await env_of(text, platforms=(ARM64,), build_platform=AMD64, target="one")
    assert env == ["BUILDARCH=amd64", "TARGETARCH=arm64", "TARGETSTAGE=one"]


async def test_a_predefined_variable_can_be_overridden():
    assert await env_of("FROM debian\nARG TARGETARCH\nRUN make\n", build_args={"TARGETARCH": "own"}) == ["TARGETARCH=own"]


@pytest.mark.parametrize("where", ["FROM debian\nRUN make\n", "FROM debian\nWORKDIR /a\nCOPY a b\nCOPY <<E c\nx\nE\n"])
async def test_the_time_of_files(where):
    for found in (await planned(where, epoch=7), await planned(where, build_args={"SOURCE_DATE_EPOCH": "7"})):
        assert found.image.epoch == 7
        assert all(action.times == 7 for action in found.actions)
    assert (await planned(f"ARG SOURCE_DATE_EPOCH=7\n{where}")).image.epoch == 7
    assert (await planned(where)).image.epoch is None


async def test_arguments_for_the_builder():
    text = "FROM debian\nRUN --mount=type=cache,target=/c make\n"
    found = await planned(text, build_args={"BUILDKIT_SANDBOX_HOSTNAME": "box", "BUILDKIT_CACHE_MOUNT_NS": "ns"})
    assert found.exec.hostname == "box"
    assert found.exec.mounts[0].id == "ns//c"
    assert found.plan.warnings == ()
    named = await planned(text, build_args={"BUILDKIT_MULTI_PLATFORM": "1"})
    assert named.names[0].startswith("[linux/amd64 1/2] FROM")


async def test_expansion_forms_reach_the_instructions():
    found = await planned(
        "FROM debian\nARG A=1.2\nENV B=${A%.*} C=${X:-y} D='$A' E=\\$A\nUSER $A\nVOLUME /v$A\nEXPOSE $A$B\n".replace(
            "EXPOSE $A$B", "EXPOSE 8$B"
        ),
        Images(),
    )
    assert found.image.config.env == ["PATH=/bin", "B=1", "C=y", "D=$A", "E=$A"]
    assert (found.image.config.user, found.image.config.volumes, found.image.config.exposed_ports) == (
        "1.2",
        {"/v1.2": {}},
        {"81/tcp": {}},
    )
