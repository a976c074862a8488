import pytest
from boxship.types.containers import ContainerConfig
from boxshipd.errors import InvalidParameter
from boxshipd.images.changes import apply_changes


def changed(*changes: str) -> ContainerConfig:
    return apply_changes(ContainerConfig(env=["A=1"]), changes)


def test_every_instruction():
    config = changed(
        'CMD ["a", "b"]',
        "ENTRYPOINT run it",
        'ENV B=2 C="x y" D=it\\\'s',
        "ENV E all of this",
        "EXPOSE 80 53/udp 100-102/TCP",
        "LABEL k=v 'l m'=n",
        "USER 1000:1000",
        'VOLUME ["/v", "/w"]',
        "WORKDIR /a",
        "WORKDIR b/../c",
        "STOPSIGNAL SIGINT",
        "ONBUILD RUN x",
        "HEALTHCHECK --interval=5s --retries=2 CMD curl x",
    )
    assert config.cmd == ["a", "b"]
    assert config.entrypoint == ["/bin/sh", "-c", "run it"]
    assert config.env == ["A=1", "B=2", "C=x y", "D=it's", "E=all of this"]
    assert config.exposed_ports == {"80/tcp": {}, "53/udp": {}, "100/tcp": {}, "101/tcp": {}, "102/tcp": {}}
    assert config.labels == {"k": "v", "l m": "n"}
    assert config.user == "1000:1000"
    assert config.volumes == {"/v": {}, "/w": {}}
    assert config.working_dir == "/a/c"
    assert config.stop_signal == "SIGINT"
    assert config.on_build == ["RUN x"]
    assert config.healthcheck.test == ["CMD-SHELL", "curl x"]
    assert (config.healthcheck.interval, config.healthcheck.retries) == (5_000_000_000, 2)


def test_variables_are_those_of_the_configuration():
    config = changed("ENV B=$A-$B C='$A'\nLABEL l=${B:-x}", "EXPOSE 8$A", "WORKDIR /${C:+c}", "CMD echo $A", "# nothing")
    assert config.env == ["A=1", "B=1-", "C=$A"]
    assert config.labels == {"l": "1-"}
    assert config.exposed_ports == {"81/tcp": {}}
    assert config.working_dir == "/c"
    assert config.cmd == ["/bin/sh", "-c", "echo $A"]


def test_commands_are_for_the_shell_that_the_configuration_names():
    config = apply_changes(ContainerConfig(shell=["/bin/bash", "-ec"]), ["CMD a b"])
    assert config.cmd == ["/bin/bash", "-ec", "a b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN x", "run is not a valid change command"),
        ("FROM x", "from is not a valid change command"),
        ("COPY a", "copy is not a valid change command"),
        ("ENV a=${b", "failed to process \"${b\": syntax error: missing '}'"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a=b c", 'Syntax error - can\'t find = in "c". Must be of the form: name=value'),
        ("EXPOSE 99999", "invalid containerPort: 99999"),
        ("USER a b", "USER requires exactly one argument"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK --nope=1 CMD x", "unknown flag: --nope"),
    ],
)
def test_what_is_refused_and_how(change, message):
    with pytest.raises(InvalidParameter) as caught:
        changed(change)
    assert str(caught.value) == message
