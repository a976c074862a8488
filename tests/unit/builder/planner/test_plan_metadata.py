"""What each instruction makes of the configuration and of the history."""

import pytest
from boxship.types.containers import ContainerConfig, HealthConfig
from msgspec import UNSET
from support.plans import PATH, Images, planned

SHELL = "/bin/sh -c"

HISTORY = [
    ("ENV A=b C='d e'", ["ENV A=b C=d e"]),
    ("ENV A b c", ["ENV A=b c"]),
    ("ENV A=b\nENV C=$A-${A:-x}", ["ENV A=b", "ENV C=b-b"]),
    ("LABEL a=b \"c d\"='e f'", ["LABEL a=b c d=e f"]),
    ("ARG A\nARG B=c D=$B", ["ARG A", "ARG B=c D=c"]),
    ("ARG A=1\nRUN make", ["ARG A=1", "RUN |1 A=1 /bin/sh -c make # buildkit"]),
    ("RUN make all", ["RUN /bin/sh -c make all # buildkit"]),
    ('RUN ["make", "a b"]', ["RUN make a b # buildkit"]),
    ('SHELL ["/bin/bash", "-ec"]\nRUN make', ["SHELL [/bin/bash -ec]", "RUN /bin/bash -ec make # buildkit"]),
    ('CMD echo "x"', ['CMD ["/bin/sh" "-c" "echo \\"x\\""]']),
    ('CMD ["a", "b\\tc"]', ['CMD ["a" "b\\tc"]']),
    ('ENTRYPOINT ["a", "b"]', ['ENTRYPOINT ["a" "b"]']),
    ("EXPOSE 80 53/udp 8000-8002", ["EXPOSE [53/udp 80/tcp 8000/tcp 8001/tcp 8002/tcp]"]),
    ("VOLUME /a /b", ["VOLUME [/a /b]"]),
    ("USER me:us", ["USER me:us"]),
    ("WORKDIR /a/./b/..", ["WORKDIR /a"]),
    ("WORKDIR a\nWORKDIR b", ["WORKDIR /a", "WORKDIR /a/b"]),
    ("STOPSIGNAL SIGINT", ["STOPSIGNAL SIGINT"]),
    ("MAINTAINER Somebody <a@b>", ["MAINTAINER Somebody <a@b>"]),
    ("ONBUILD RUN make", []),
    (
        "HEALTHCHECK --interval=90s --timeout=1.5s --retries=3 CMD curl -f x",
        [
            "HEALTHCHECK {Test:[CMD-SHELL curl -f x] Interval:1m30s Timeout:1.5s StartPeriod:0s StartInterval:0s Retries:3}",
        ],
    ),
    (
        "HEALTHCHECK NONE",
        ["HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"],
    ),
    ("COPY a b /c/", ["COPY a b /c/ # buildkit"]),
    ("COPY --chown=1:2 --chmod=644 a /c", ["COPY --chown=1:2 --chmod=644 a /c # buildkit"]),
    ("COPY --parents a/b /c", ["COPY --parents a/b /c # buildkit"]),
    ("COPY <<EOF /c\nx\nEOF", ["COPY <<EOF /c # buildkit"]),
    ("ADD a /c", ["ADD a /c # buildkit"]),
    ("RUN <<EOF\na\nb\nEOF", ["RUN /bin/sh -c a\nb\n # buildkit"]),
]


@pytest.mark.parametrize(("instructions", "history"), HISTORY)
async def test_history_is_worded_as_buildkit_words_it(instructions, history):
    found = await planned(f"FROM debian\n{instructions}\n")
    assert found.history == history
    assert all(step.comment == "buildkit.dockerfile.v0" for step in found.image.steps)


async def test_steps_know_their_text_and_the_file_system_after_them():
    found = await planned("FROM debian\nenv A=b\nRUN make $A\n")
    env, run = found.image.steps
    assert (env.instruction, env.output) == ("ENV A=b", None)
    assert run.instruction == "RUN make $A"
    assert run.output == found.image.output


async def test_the_base_keeps_its_history_and_configuration():
    base = ContainerConfig(
        env=["PATH=/x", "A=1"],
        user="me",
        working_dir="/srv",
        labels={"a": "b"},
        exposed_ports={"80/tcp": {}},
        volumes={"/v": {}},
        healthcheck=HealthConfig(test=["NONE"]),
        stop_signal="SIGINT",
        shell=["/bin/ash", "-c"],
        cmd=["x"],
        entrypoint=["y"],
        hostname="of-somebody",
        image="sha256:old",
    )
    found = await planned("FROM base\nENV B=2\nENV A=3\nLABEL c=d\nEXPOSE 81\nVOLUME /w\nRUN make\n", Images({"base": base}))
    config = found.image.config
    assert config.env == ["PATH=/x", "A=3", "B=2"]
    assert config.labels == {"a": "b", "c": "d"}
    assert config.exposed_ports == {"80/tcp": {}, "81/tcp": {}}
    assert config.volumes == {"/v": {}, "/w": {}}
    assert (config.user, config.working_dir, config.stop_signal) == ("me", "/srv", "SIGINT")
    assert (config.cmd, config.entrypoint, config.shell) == (["x"], ["y"], ["/bin/ash", "-c"])
    assert config.healthcheck == HealthConfig(test=["NONE"])
    assert (config.hostname, config.image) == ("", "")
    assert [each.created_by for each in found.image.base_history] == ["made base"]
    assert found.exec.args == ("/bin/ash", "-c", "make")
    assert (found.exec.cwd, found.exec.user) == ("/srv", "me")


async def test_scratch_has_a_path_and_a_directory_and_nothing_else():
    found = await planned("FROM scratch\n")
    assert found.image.output is None
    assert found.image.base is None
    config = found.image.config
    assert (config.env, config.working_dir, config.cmd) == ([PATH], "/", None)


async def test_a_base_without_path_gets_one():
    found = await planned("FROM busybox\nRUN make\n")
    assert found.image.config.env == [PATH]
    assert found.exec.env == (PATH,)


@pytest.mark.parametrize(
    ("instructions", "cmd"),
    [
        ('ENTRYPOINT ["x"]', None),
        ('CMD ["a"]\nENTRYPOINT ["x"]', ["a"]),
        ('ENTRYPOINT ["x"]\nCMD ["a"]', ["a"]),
        ("CMD a", ["/bin/sh", "-c", "a"]),
        ("CMD []", []),
        ("USER me", ["bash"]),
    ],
)
async def test_entrypoint_takes_away_the_cmd_of_the_base_only(instructions, cmd):
    found = await planned(f"FROM debian\n{instructions}\n")
    assert found.image.config.cmd == cmd


async def test_cmd_of_an_earlier_stage_is_the_bases():
    found = await planned('FROM debian AS a\nCMD ["one"]\nFROM a\nENTRYPOINT ["x"]\n')
    assert found.image.config.cmd is None


async def test_only_cmd_says_that_arguments_are_escaped():
    assert (await planned("FROM debian\nENTRYPOINT x\n")).image.config.args_escaped is UNSET
    assert (await planned("FROM debian\nCMD x\n")).image.config.args_escaped is True


async def test_env_sees_the_variables_as_they_were_before():
    found = await planned("FROM debian\nENV A=1\nENV A=2 B=$A\n")
    assert found.image.config.env == ["PATH=/bin", "A=2", "B=1"]


async def test_health_check_times():
    found = await planned(
        'FROM debian\nHEALTHCHECK --interval=5m --timeout=3s --start-period=1m --start-interval=2s --retries=4 CMD ["x"]\n'
    )
    assert found.image.config.healthcheck == HealthConfig(
        test=["CMD", "x"],
        interval=300 * 10**9,
        timeout=3 * 10**9,
        retries=4,
        start_period=60 * 10**9,
        start_interval=2 * 10**9,
    )


async def test_author_triggers_and_labels_of_the_request():
    found = await planned(
        "FROM debian\nMAINTAINER me\nLABEL a=1 b=2\nONBUILD RUN make\nONBUILD COPY . /x\n", labels={"b": "3", "c": "4"}
    )
    assert found.image.author == "me"
    assert found.image.config.labels == {"a": "1", "b": "3", "c": "4"}
    assert found.image.config.on_build == ["RUN make", "COPY . /x"]


async def test_workdir_makes_a_directory_of_the_user():
    found = await planned("FROM debian\nUSER me\nWORKDIR a\nWORKDIR /\n")
    (action,) = found.actions
    assert (action.path, action.owner, action.mode) == ("/a", "me", 0o755)
    assert found.image.config.working_dir == "/"
    assert found.image.steps[-1].output is None
