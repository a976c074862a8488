"""Dockerfiles that were written to keep the daemon busy, or to fill it."""

import time

import pytest
from boxship.types.containers import ContainerConfig
from boxshipd.builder.errors import DockerfileError
from support.plans import Images, planned


async def seconds(dockerfile: str, **options) -> float:
    start = time.process_time()
    await planned(dockerfile, **options)
    return time.process_time() - start


@pytest.mark.parametrize("keyword", ["ENV", "ARG"])
async def test_variables_that_double(keyword):
    lines = [f"{keyword} A=0123456789abcdef"] + [f"{keyword} A=$A$A"] * 100
    with pytest.raises(DockerfileError, match="131072 bytes"):
        await planned("FROM debian\n" + "\n".join(lines))


async def test_variables_before_from_that_double():
    lines = ["ARG A=0123456789abcdef"] + ["ARG A=$A$A"] * 100
    with pytest.raises(DockerfileError):
        await planned("\n".join(lines) + "\nFROM debian\n")


async def test_more_variables_for_commands_than_can_be_kept():
    lines = "".join(f"ENV A{number}={'v' * 1000}\nRUN x\n" for number in range(400))
    with pytest.raises(DockerfileError, match="variables of all commands"):
        await planned(f"FROM debian\n{lines}")


async def test_a_variable_that_no_program_can_be_given():
    with pytest.raises(DockerfileError, match=r"^dockerfile parse error on line 2: A: a variable can't have a NUL character$"):
        await planned("FROM debian\nARG A\nRUN x\n", build_args={"A": "a\0b"})


async def test_an_argument_of_itself():
    found = await planned("ARG A=$A\nFROM debian\nARG A=$A$A\nRUN x\n")
    assert "A=" in found.exec.env


async def test_a_name_that_variables_make_long_is_cut():
    found = await planned(f"FROM debian\nENV A={'a' * 100_000}\nRUN $A\nUSER $A\n")
    assert max(map(len, found.names)) <= 4096


async def test_a_history_that_no_engine_would_read():
    runs = "RUN $A\n" * 100
    with pytest.raises(DockerfileError, match="history"):
        await planned(f"FROM debian\nARG A={'a' * 100_000}\n{runs}")


async def test_ten_thousand_instructions_take_ten_times_as_long_as_a_thousand():
    lines = ("ENV A{n}=$A{n}", "COPY a{n} /", "ARG B{n}=$A{n}", "LABEL A{n}=1", "USER $undefined{n}")

    def text(count):
        written = [lines[number % 5].replace("{n}", str(number)) for number in range(count)]
        return "\n".join("\n".join(["FROM debian", *written[at : at + 1000]]) for at in range(0, count, 1000))

    await seconds(text(10))
    short, long = await seconds(text(1000), check=True), await seconds(text(10_000), check=True)
    assert long < 30 * short + 1


async def test_a_thousand_stages_upon_each_other():
    lines = ["FROM debian AS s0"] + [f"FROM s{number} AS s{number + 1}\nUSER x" for number in range(1000)]
    found = await planned("\n".join(lines))
    assert len(found.history) == 1000


@pytest.mark.parametrize("line", ["RUN x", "COPY a b", "COPY --link a b", "WORKDIR a"])
async def test_more_layers_than_an_image_can_have(line):
    lines = [line] * 499
    assert len((await planned("FROM debian\n" + "\n".join(lines))).history) == 499
    with pytest.raises(DockerfileError, match="max depth exceeded") as caught:
        await planned("\n".join(["FROM debian AS a", *lines, "FROM a", "USER x", line]))
    assert caught.value.first == 503


async def test_a_thousand_stages_that_need_each_other():
    lines = ["FROM debian AS s0"]
    lines += [f"FROM debian AS s{number + 1}\nCOPY --from=s{number} x x" for number in range(1000)]
    images = Images()
    found = await planned("\n".join(lines), images)
    assert len(images.asked) == 1
    assert len(found.plan.graph.vertices) == 1001


async def test_a_circle_of_a_thousand_stages():
    lines = [f"FROM debian AS s{number}\nCOPY --from=s{(number + 1) % 1000} x x" for number in range(1000)]
    with pytest.raises(DockerfileError, match="circular"):
        await planned("\n".join(lines))


async def test_hundreds_of_triggers_that_take_from_stages():
    base = ContainerConfig(on_build=["COPY --from=busybox x x"] * 400)
    images = Images({"base": base})
    await planned("FROM base\n", images)
    assert len(images.asked) == 2


async def test_an_image_whose_triggers_lead_to_itself():
    base = ContainerConfig(on_build=["COPY --from=base x x"])
    images = Images({"base": base})
    found = await planned("FROM base\n", images)
    assert len(images.asked) <= 2
    assert found.history == ["COPY x x # buildkit"]


async def test_a_port_range_as_wide_as_it_gets():
    found = await planned("FROM debian\nEXPOSE 0-65535\nEXPOSE 0-65535\n")
    assert len(found.image.config.exposed_ports) == 65536
