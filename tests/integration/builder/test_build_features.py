"""What a classic builder can't do: heredocs, mounts, links, parents, exclusions, outputs, through ``boxship build``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.build_cases import STAMP, TREE, Case, Content, Mode
from support.daemon import Daemon
from support.python_image import python_root

Expected = Mapping[str, str | None]
"""Paths of the result with what they hold, None for a path that isn't to be."""


def build(daemon: Daemon, case: Case, tmp_path: Path, *flags: str, code: int | None = 0) -> subprocess.CompletedProcess[bytes]:
    directory = case.write(tmp_path / "context")
    return daemon.cli("boxship", "build", "--progress=plain", *case.flags, *flags, str(directory), code=code)


def built(daemon: Daemon, dockerfile: str, tmp_path: Path, files: dict[str, Content] | None = None, *flags: str) -> Path:
    """The result's files, as a directory on this side."""
    out = tmp_path / "out"
    build(daemon, Case("", dockerfile, files or {}), tmp_path, "-o", str(out), *flags)
    return out


FEATURES: dict[str, tuple[str, dict[str, Content], Expected]] = {
    "run_heredoc": (
        "FROM busybox AS b\nARG W=world\nRUN <<EOF\nset -e\nname=you\necho hello $name $W > /out\nEOF\nFROM scratch\nCOPY --from=b /out /\n",
        {},
        {"out": "hello you world\n"},
    ),
    "run_heredoc_with_its_own_shell": (
        "FROM busybox AS b\nRUN <<EOF\n#!/bin/awk -f\nBEGIN { print 6 * 7 > \"/out\" }\nEOF\nFROM scratch\nCOPY --from=b /out /\n",
        {},
        {"out": "42\n"},
    ),
    "run_heredoc_to_a_program": (
        "FROM busybox AS b\nRUN cat <<A <<'B' > /out\nfirst $HOME\nA\nsecond $HOME\nB\nFROM scratch\nCOPY --from=b /out /\n",
        {},
        {"out": "second $HOME\n"},
    ),
    "copy_heredocs": (
        'FROM scratch\nARG x=1\nCOPY <<one <<"two" a.txt /d/\nvalue $x\none\nvalue $x\ntwo\nCOPY --chmod=600 <<-three /e\n\ttab\n\tthree\n',
        TREE,
        {"d/one": "value 1\n", "d/two": "value $x\n", "d/a.txt": "a", "e": "tab\n"},
    ),
    "copy_chmod": ("FROM scratch\nCOPY --chmod=4711 run.sh /r\nCOPY --chmod=750 dir /d\n", TREE, {"r": "#!/bin/sh\necho ran\n", "d/one": "1"}),
    "copy_parents": (
        "FROM scratch\nCOPY --parents dir/sub/two dir/./sub/deep/three /p/\n",
        TREE,
        {"p/dir/sub/two": "2", "p/sub/deep/three": "3", "p/dir/one": None},
    ),
    "copy_exclude": (
        "FROM scratch\nCOPY --exclude=*.md --exclude=dir/sub/** . /x/\n",
        TREE,
        {"x/a.txt": "a", "x/c.md": None, "x/dir/one": "1", "x/dir/sub/two": None},
    ),
    "copy_link": (
        "FROM busybox AS b\nRUN mkdir /d && echo old > /d/old\nFROM b AS c\nCOPY --link a.txt dir /d/\nFROM scratch\nCOPY --from=c /d /d\n",
        TREE,
        {"d/a.txt": "a", "d/one": "1", "d/old": "old\n"},
    ),
    "bind_mount_of_the_context": (
        "FROM busybox AS b\nRUN --mount=target=/src cp /src/dir/one /out && ! touch /src/new\nFROM scratch\nCOPY --from=b /out /\n",
        TREE,
        {"out": "1"},
    ),
    "bind_mount_of_a_stage": (
        "FROM busybox AS a\nRUN mkdir /a && echo x > /a/f\nFROM busybox AS b\n"
        "RUN --mount=type=bind,from=a,source=/a,target=/m,rw cat /m/f > /out && echo y > /m/g\n"
        "RUN test ! -e /m/g && ls -A / | grep -x m | wc -l >> /out\nFROM scratch\nCOPY --from=b /out /\n",
        {},
        {"out": "x\n0\n"},
    ),
    "cache_mount_lasts": (
        "FROM busybox AS a\nRUN --mount=type=cache,target=/c,id=lasting-cache echo 1 > /c/n\nFROM a AS b\n"
        "RUN --mount=type=cache,target=/c,id=lasting-cache cat /c/n > /out; test -z \"$(ls -A /c.none 2>/dev/null)\"\n"
        "RUN test ! -e /c/n\nFROM scratch\nCOPY --from=b /out /\n",
        {},
        {"out": "1\n"},
    ),
    "cache_mount_has_an_owner": (
        "FROM busybox AS b\nUSER box\nRUN --mount=type=cache,target=/tmp/c,uid=1000,gid=1000,mode=0700 touch /tmp/c/x && stat -c '%u %a' /tmp/c > /tmp/out\n"
        "FROM scratch\nCOPY --from=b /tmp/out /\n",
        {},
        {"out": "1000 700\n"},
    ),
    "tmpfs_mount": (
        "FROM busybox AS b\nRUN --mount=type=tmpfs,target=/t,size=1m echo x > /t/x && ! dd if=/dev/zero of=/t/big bs=1M count=2 && echo ok > /out\n"
        "RUN test ! -e /t/x\nFROM scratch\nCOPY --from=b /out /\n",
        {},
        {"out": "ok\n"},
    ),
    "run_without_network": ("FROM busybox AS b\nRUN --network=none ls /sys/class/net > /out\nFROM scratch\nCOPY --from=b /out /\n", {}, {"out": "lo\n"}),
    "platform_arguments": (
        "FROM --platform=$BUILDPLATFORM busybox AS b\nARG TARGETOS TARGETARCH BUILDARCH\nRUN echo $TARGETOS $TARGETARCH $BUILDARCH > /out\n"
        "FROM scratch\nCOPY --from=b /out /\n",
        {},
        {"out": f"linux {(arch := {'x86_64': 'amd64', 'aarch64': 'arm64'}[os.uname().machine])} {arch}\n"},
    ),
    "stages_that_nobody_needs_are_not_built": (
        "FROM busybox AS broken\nRUN false\nFROM busybox AS b\nRUN echo x > /out\nFROM scratch\nCOPY --from=b /out /\n",
        {},
        {"out": "x\n"},
    ),
    "ignore_file_of_the_dockerfile": ("FROM scratch\nCOPY . /\n", {**TREE, "Dockerfile.dockerignore": "*\n!a.txt\n"}, {"a.txt": "a", "b.txt": None}),
}  # fmt: skip


@pytest.mark.parametrize("feature", FEATURES)
def test_feature(feature: str, daemon: Daemon, tmp_path: Path) -> None:
    dockerfile, files, expected = FEATURES[feature]
    out = built(daemon, dockerfile, tmp_path, files)
    found = {path: (out / path).read_text() if (out / path).exists() else None for path in expected}
    assert found == dict(expected)


def test_modes_and_owners_of_chmod_and_chown(daemon: Daemon, tmp_path: Path) -> None:
    dockerfile = "FROM scratch\nCOPY --chmod=4711 run.sh /r\nCOPY --chmod=u=rwX,go=rX dir /d\nCOPY --chown=7:8 a.txt /a\n"
    case = Case("", dockerfile, {**TREE, "dir/exec": Mode(b"x", 0o700)})
    archive = tmp_path / "out.tar"
    build(daemon, case, tmp_path, "-o", f"type=tar,dest={archive}")
    with tarfile.open(archive) as result:
        members = {info.name.strip("/"): info for info in result}
    assert members["r"].mode == 0o4711
    assert (members["d"].mode, members["d/one"].mode, members["d/exec"].mode) == (0o755, 0o644, 0o755)
    assert (members["a"].uid, members["a"].gid, members["a"].mtime) == (7, 8, STAMP)


def test_secret_is_seen_and_kept_nowhere(daemon: Daemon, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cr3t-w0rd")
    dockerfile = (
        "FROM busybox\nRUN --mount=type=secret,id=token cat /run/secrets/token | tr 3 e > /seen\n"
        "RUN --mount=type=secret,id=token,env=TOKEN,required=true test ${#TOKEN} = 11\n"
        "RUN --mount=type=secret,id=token,target=/t,mode=0444,uid=5 stat -c '%a %u' /t > /mode; test ! -e /run/secrets/token\n"
    )
    build(daemon, Case("", dockerfile), tmp_path, "-t", "secretive", "--secret", f"id=token,src={secret}")
    run = ("run", "--rm", "secretive")
    assert daemon.cli("boxship", *run, "cat", "/seen", "/mode").stdout == b"secret-w0rd444 5\n"
    image = daemon.cli("boxship", "save", "secretive").stdout
    history = daemon.cli("boxship", "history", "--no-trunc", "secretive").stdout
    daemon.cli("boxship", "rmi", "secretive")
    assert b"s3cr3t-w0rd" not in image + history


def test_a_required_secret_that_is_not_given(daemon: Daemon, tmp_path: Path) -> None:
    done = build(daemon, Case("", "FROM busybox\nRUN --mount=type=secret,id=none,required true\n"), tmp_path, code=1)
    assert b"none" in done.stderr


def test_agent_is_reached_and_not_kept(daemon: Daemon, tmp_path: Path) -> None:
    daemon.cli("boxship", "import", "-", "with-python", stdin=python_root())
    path = str(tmp_path / "agent.sock")
    speak = (
        "import os, socket; s = socket.socket(socket.AF_UNIX); s.connect(os.environ['SSH_AUTH_SOCK']); s.sendall(b'ping'); "
        "open('/out', 'wb').write(s.recv(4) + b' ' + str(len(s.recv(4))).encode())"
    )
    dockerfile = f'FROM with-python AS b\nRUN --mount=type=ssh python -c "{speak}" && test -S $SSH_AUTH_SOCK\nRUN test -z "$SSH_AUTH_SOCK"\n'
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        process = _answering(listener)
        out = built(daemon, f"{dockerfile}FROM scratch\nCOPY --from=b /out /\n", tmp_path, {}, "--ssh", f"default={path}")
        process.join(10)
    daemon.cli("boxship", "rmi", "with-python")
    assert (out / "out").read_text() == "pong 0"


def _answering(listener: socket.socket) -> threading.Thread:
    """A thread that answers the first connection's ``ping``."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(4) == b"ping"
            connection.sendall(b"pong")

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def test_named_contexts(daemon: Daemon, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "f").write_text("other")
    dockerfile = "FROM base\nCOPY --from=more f /f\nRUN test -e /bin/busybox\n"
    case = Case("", dockerfile)
    build(
        daemon,
        case,
        tmp_path,
        "-t",
        "named",
        "--build-context",
        f"more={other}",
        "--build-context",
        "base=docker-image://busybox",
    )
    assert daemon.cli("boxship", "run", "--rm", "named", "cat", "/f").stdout == b"other"
    daemon.cli("boxship", "rmi", "named")


def test_dockerfile_from_elsewhere_and_from_standard_input(daemon: Daemon, tmp_path: Path) -> None:
    directory = Case("", "nonsense", {"a": "a"}).write(tmp_path / "context")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text('FROM scratch\nCOPY a /\nCMD ["1"]\n')
    for words, given in ((("-f", str(elsewhere)), None), (("-f", "-"), elsewhere.read_bytes())):
        out = tmp_path / f"out{words[1] == '-'}"
        daemon.cli("boxship", "build", "-o", str(out), *words, str(directory), stdin=given)
        assert sorted(path.name for path in out.iterdir()) == ["a"]
    image = daemon.cli("boxship", "build", "-q", "-", stdin=b"FROM busybox\nRUN true\n").stdout.decode().strip()
    assert image.startswith("sha256:")
    daemon.cli("boxship", "rmi", image)


def test_id_and_metadata_files(daemon: Daemon, tmp_path: Path) -> None:
    identity, metadata = tmp_path / "id", tmp_path / "metadata.json"
    build(
        daemon,
        Case("", "FROM busybox\nENV A=1\n"),
        tmp_path,
        "-t",
        "described",
        "--iidfile",
        str(identity),
        "--metadata-file",
        str(metadata),
    )
    (inspected,) = json.loads(daemon.cli("boxship", "image", "inspect", "described").stdout)
    assert identity.read_text() == inspected["Id"]
    assert json.loads(metadata.read_text())["containerimage.config.digest"] == inspected["Id"]
    daemon.cli("boxship", "rmi", "described")


def test_second_build_is_cached_but_for_what_is_excepted(daemon: Daemon, tmp_path: Path) -> None:
    dockerfile = "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid > /one\nFROM busybox AS two\nRUN cat /proc/sys/kernel/random/uuid > /two\nFROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n"
    case = Case("", dockerfile)
    outs = []
    for number, flags in enumerate(((), (), ("--no-cache-filter", "two"), ("--no-cache",))):
        out = tmp_path / f"out{number}"
        build(daemon, case, tmp_path / str(number), "-o", str(out), *flags)
        outs.append(((out / "one").read_text(), (out / "two").read_text()))
    assert outs[0] == outs[1]
    assert outs[2][0] == outs[0][0]
    assert outs[2][1] != outs[0][1]
    assert outs[3][0] != outs[0][0]


def test_two_builds_of_one_epoch_give_one_digest(daemon: Daemon, tmp_path: Path) -> None:
    case = Case("", "FROM busybox\nWORKDIR /w\nCOPY . .\nRUN echo x > /w/new\nENV A=1\n", TREE)
    digests = set()
    for number in range(2):
        done = build(
            daemon, case, tmp_path / str(number), "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000",
            "-o", "type=image,name=reproduced,rewrite-timestamp=true", "--iidfile", str(tmp_path / "id"),
        )  # fmt: skip
        assert done.returncode == 0
        digests.add((tmp_path / "id").read_text())
    daemon.cli("boxship", "rmi", "reproduced")
    assert len(digests) == 1


def test_check_finds_and_builds_nothing(daemon: Daemon, tmp_path: Path) -> None:
    done = build(daemon, Case("", "FROM busybox as b\nRUN false\nMAINTAINER me\n"), tmp_path, "--check", code=1)
    assert b"FromAsCasing" in done.stderr
    assert b"MaintainerDeprecated" in done.stderr
    assert done.stdout == b"Check complete, 2 warnings have been found!\n"


def test_a_check_that_finds_nothing_succeeds(daemon: Daemon, tmp_path: Path) -> None:
    done = build(daemon, Case("", "FROM busybox AS b\nRUN false\n"), tmp_path, "--check")
    assert done.stdout == b"Check complete, no warnings found.\n"


def test_build_arguments_that_nobody_asked_for_are_told(daemon: Daemon, tmp_path: Path) -> None:
    done = build(daemon, Case("", "FROM scratch\nCOPY a /\n", {"a": "x"}), tmp_path, "--build-arg", "UNUSED=1")
    assert b" - One or more build-args [UNUSED] were not consumed\n" in done.stderr


def test_several_sources_may_go_to_a_directory_that_is_there(daemon: Daemon, tmp_path: Path) -> None:
    files = {"a": "x", "b": "y"}
    out = built(daemon, "FROM scratch\nWORKDIR /w\nCOPY a b /w\n", tmp_path, files)
    assert sorted(os.listdir(out / "w")) == ["a", "b"]
    case = Case("", "FROM scratch\nCOPY a b /w\n", files)
    done = build(daemon, case, tmp_path / "fails", code=1)
    assert (
        b"When using COPY with more than one source file, the destination must be a directory and end with a /" in done.stderr
    )


def test_an_empty_stage_can_be_copied(daemon: Daemon, tmp_path: Path) -> None:
    out = built(daemon, "FROM scratch AS empty\nFROM scratch\nCOPY --from=empty / /x/\n", tmp_path)
    assert os.listdir(out) == ["x"]


def test_what_is_wrong_in_a_dockerfile_is_shown(daemon: Daemon, tmp_path: Path) -> None:
    done = build(daemon, Case("", "FROM scratch\nCOPY a \\\n  b /c\nRNU x\nCMD y\n"), tmp_path, code=1)
    said = done.stderr.decode()
    assert "   3 |       b /c\n   4 | >>> RNU x\n   5 |     CMD y\n" in said
    assert "dockerfile parse error on line 4: unknown instruction: RNU (did you mean RUN?)" in said


def test_advice_that_is_an_error_is_told(daemon: Daemon, tmp_path: Path) -> None:
    done = build(daemon, Case("", "# check=error=true\nFROM scratch as a\n"), tmp_path, code=1)
    said = done.stderr.decode()
    assert " - FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 2)\n" in said
    assert "lint violation found for rules: FromAsCasing" in said


def test_outputs_are_whole_archives(daemon: Daemon, tmp_path: Path) -> None:
    case = Case("", "FROM busybox\nRUN echo x > /x\n")
    for kind in ("oci", "docker"):
        archive = tmp_path / f"{kind}.tar"
        build(daemon, case, tmp_path / kind, "-o", f"type={kind},dest={archive},name=archived:{kind}")
        loaded = daemon.cli("boxship", "load", "-i", str(archive)).stdout.decode()
        assert f"archived:{kind}" in loaded
        assert daemon.cli("boxship", "run", "--rm", f"archived:{kind}", "cat", "/x").stdout == b"x\n"
        daemon.cli("boxship", "rmi", f"archived:{kind}")


def test_what_a_step_prints_and_how_it_fails(daemon: Daemon, tmp_path: Path) -> None:
    done = build(daemon, Case("", "FROM busybox\nRUN echo to stdout; echo to stderr >&2; exit 3\n"), tmp_path, code=1)
    said = done.stderr.decode()
    assert "to stdout" in said
    assert "to stderr" in said
    assert "returned a non-zero code: 3" in said


def test_entitlements_are_asked_for(daemon: Daemon, tmp_path: Path) -> None:
    case = Case("", "FROM busybox\nRUN --security=insecure true\n")
    done = build(daemon, case, tmp_path / "1", code=1)
    assert b"security.insecure" in done.stderr
    build(daemon, case, tmp_path / "2", "--allow", "security.insecure")
    # What the cache has by now changes nothing about who may have it.
    done = build(daemon, case, tmp_path / "3", code=1)
    assert b"security.insecure" in done.stderr
