"""RUN: the command, what is mounted for it, where it runs and what it is allowed."""

import pytest
from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.graph import ContextSource, Exec, Files, MakeFile, Mount
from boxshipd.builder.planner.go_format import duration, quoted
from support.plans import Images, planned


async def mount_of(flags: str, lines: str = "") -> Mount:
    found = await planned(f"FROM debian AS base\nFROM debian\n{lines}\nRUN --mount={flags} make\n")
    (mount,) = found.exec.mounts
    return mount


@pytest.mark.parametrize(
    ("flags", "mount"),
    [
        ("target=/src", Mount(target="/src", input=1, readonly=True)),
        ("type=bind,source=a/../b,target=x,rw", Mount(target="/x", input=1, source="b")),
        ("target=/x,source=../../etc", Mount(target="/x", input=1, source="etc", readonly=True)),
        ("type=cache,target=/c", Mount(target="/c", kind="cache", id="/c")),
        (
            "type=cache,target=/c/,id=own,sharing=locked,ro",
            Mount(target="/c", kind="cache", id="own", sharing="locked", readonly=True),
        ),
        ("type=cache,target=/c,uid=1,gid=2,mode=0700", Mount(target="/c", kind="cache", id="/c", uid=1, gid=2, mode=0o700)),
        ("type=cache,target=/c,from=base,source=x", Mount(target="/c", kind="cache", id="/c", input=0, source="x")),
        ("type=tmpfs,target=/t,size=1m", Mount(target="/t", kind="tmpfs", size=1 << 20)),
        ("type=secret,id=key", Mount(target="/run/secrets/key", kind="secret", id="key", readonly=True, mode=0o400)),
        ("type=secret,target=/a/key", Mount(target="/a/key", kind="secret", id="key", readonly=True, mode=0o400)),
        (
            "type=secret,id=a/key,required",
            Mount(target="/run/secrets/key", kind="secret", id="a/key", readonly=True, mode=0o400, required=True),
        ),
        ("type=secret,id=key,env=KEY", Mount(target="", kind="secret", id="key", env="KEY", readonly=True, mode=0o400)),
        (
            "type=secret,id=key,env=KEY,target=/k,mode=440,uid=3",
            Mount(target="/k", kind="secret", id="key", env="KEY", readonly=True, mode=0o440, uid=3),
        ),
        ("type=ssh", Mount(target="/run/buildkit/ssh_agent.0", kind="ssh", id="default", mode=0o600)),
        ("type=ssh,id=x,target=/s,required=true", Mount(target="/s", kind="ssh", id="x", mode=0o600, required=True)),
    ],
)
async def test_mounts(flags, mount):
    assert await mount_of(flags) == mount


async def test_mounts_variables_and_directory():
    assert (await mount_of("type=cache,target=$A,id=$A-id", "WORKDIR /w\nARG A=x")).target == "/w/x"
    assert (await mount_of("type=cache,target=$A,id=$A-id", "ARG A=x")).id == "x-id"
    assert (await mount_of("type=cache,target=/c,uid=$U", "ARG U=7")).uid == 7


async def test_what_is_mounted():
    found = await planned(
        "FROM debian AS a\nRUN one\nFROM debian\nRUN --mount=from=a,target=/a --mount=target=/b --mount=from=busybox,target=/c "
        "--mount=from=a,target=/d,source=x two\n",
        ignore_file="*.o\n",
    )
    vertex = found.vertex(found.image.output)
    op = vertex.op
    mounted = [found.vertex(vertex.inputs[mount.input]).op for mount in op.mounts]
    assert isinstance(mounted[0], Exec)
    assert mounted[1] == ContextSource(exclude=("*.o",))
    assert "busybox" in mounted[2].reference
    assert mounted[3] is mounted[0]
    assert len(vertex.inputs) == 4


async def test_the_first_input_of_a_command_on_scratch_is_what_is_mounted():
    found = await planned("FROM scratch\nRUN --mount=target=/b two\n")
    assert found.exec.scratch
    assert found.exec.mounts[0].input == 0


async def test_agents_sockets_are_told_to_the_command():
    found = await planned("FROM debian\nRUN --mount=type=ssh --mount=type=ssh,id=b x\n")
    assert [mount.target for mount in found.exec.mounts] == ["/run/buildkit/ssh_agent.0", "/run/buildkit/ssh_agent.1"]
    assert "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0" in found.exec.env
    own = await planned("FROM debian\nENV SSH_AUTH_SOCK=/own\nRUN --mount=type=ssh x\n")
    assert "SSH_AUTH_SOCK=/own" in own.exec.env


async def test_a_secrets_variable_is_not_shown():
    found = await planned("FROM debian\nRUN --mount=type=secret,id=k,env=K use $K\n")
    assert found.names[-1].endswith("use ****")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("RUN --mount=type=bind,target=/ x", 'invalid mount target "/"'),
        ("RUN --mount=type=bind,target=. x", 'invalid mount target "/"'),
        ("RUN --mount=type=bind,target=../.. x", 'invalid mount target "/"'),
        ("RUN --mount=type=ssh,source=x x", "ssh does not support source"),
        ("RUN --mount=type=nothing,target=/x x", "unsupported mount type"),
        ("RUN --mount=from=$A,target=/x x", "from"),
        ("RUN --network=own x", "network"),
        ("RUN --security=none x", "security"),
        ("STOPSIGNAL NOTHING", "invalid signal: NOTHING"),
        ("EXPOSE 99999", "invalid containerPort: 99999"),
        ("EXPOSE 80/icmp", "invalid proto: icmp"),
        ("EXPOSE 5-2", "invalid containerPort: 5-2"),
        ("EXPOSE 1:2:3:80", "invalid IP address"),
        ("EXPOSE 80-82:90-91", "invalid ranges specified"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --timeout=soon CMD x", "invalid duration"),
        ("HEALTHCHECK --retries=-1 CMD x", "retries"),
        ("HEALTHCHECK --retries=many CMD x", "many"),
        ("USER ${A?is needed}", "A: is needed"),
        ("ENV A=${B", "missing '}'"),
    ],
)
async def test_instructions_that_cannot_be_right(line, message):
    with pytest.raises(DockerfileError, match=message) as caught:
        await planned(f"FROM debian\nENV OTHER=1\n{line}\n")
    assert caught.value.first == 3
    assert f">>> {line}" in caught.value.excerpt


@pytest.mark.parametrize(
    ("flag", "network"), [("", "own"), ("--network=default ", "own"), ("--network=none ", "none"), ("--network=host ", "host")]
)
async def test_networks(flag, network):
    assert (await planned(f"FROM debian\nRUN {flag}x\n", network="own")).exec.network == network


async def test_what_the_request_says_of_commands():
    options = {"extra_hosts": ("a:1.2.3.4",), "shm_size": 5, "ulimits": ("nofile=1:2",), "cgroup_parent": "/p", "hostname": "h"}
    found = await planned("FROM debian\nRUN --security=insecure x\n", **options)
    assert found.exec.security == "insecure"
    for name, value in options.items():
        assert getattr(found.exec, name) == value


async def test_a_document_is_a_script_for_the_shell():
    found = await planned("FROM debian\nRUN <<EOF\nset -e\nmake\nEOF\n")
    assert found.exec.args == ("/bin/sh", "-c", "set -e\nmake\n")
    assert found.names[-1] == "[2/2] RUN <<EOF (set -e...)"


async def test_a_document_that_names_its_interpreter_is_a_file():
    found = await planned("FROM debian\nRUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF\n")
    (action,) = found.actions
    assert action == MakeFile(path="/EOF", data=b"#!/usr/bin/env python3\nprint(1)\n", mode="0755")
    assert found.exec.args == ("/bin/sh", "-c", "/dev/pipes/EOF")
    (mount,) = found.exec.mounts
    assert (mount.target, mount.readonly) == ("/dev/pipes", True)
    assert isinstance(found.vertex(found.vertex(found.image.output).inputs[mount.input]).op, Files)


async def test_other_documents_are_for_the_shell_to_read():
    found = await planned("FROM debian\nRUN cat <<A >x && cat <<'B' >y\none $X\nA\ntwo\nB\n")
    assert found.exec.args[-1] == "cat <<A >x && cat <<'B' >y\none $X\nA\ntwo\nB"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (2 * 10**6, "2ms"),
        (10**9, "1s"),
        (61 * 10**9, "1m1s"),
        (3600 * 10**9, "1h0m0s"),
        (3661_500_000_000, "1h1m1.5s"),
    ],
)
def test_durations_are_written_as_go_writes_them(nanoseconds, text):
    assert duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("a", '"a"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("\n\t\x00\x7f", '"\\n\\t\\x00\\x7f"'),
        ("é€😀", '"é€😀"'),
        ("\u200b\u00a0", '"\\u200b\\u00a0"'),
        ("\U000e0001", '"\\U000e0001"'),
    ],
)
def test_texts_are_quoted_as_go_quotes_them(text, literal):
    assert quoted(text) == literal


async def test_images_that_resolvers_know_by_their_id():
    class ById(Images):
        async def image(self, name, platform):
            return await super().image("debian", platform)

    found = await planned(f"FROM {'a' * 64}\nRUN x\n", ById())
    assert found.names[0].startswith(f"[1/2] FROM {'a' * 64}")
